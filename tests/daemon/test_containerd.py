"""Containers of a real containerd as a kubelet starts them: who they are is in the alert, by CRI's own socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.containerd import IMAGE, Containerd
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

RULE = """
- rule: A program starts in a pod
  desc: d
  condition: >
    evt.type in (execve, execveat) and evt.failed = false and proc.name = act and k8s.ns.name = shop
    and container.image.repository endswith /act and k8s.pod.label.app = web
  output: >
    started (name=%container.name id=%container.full_id type=%container.type image=%container.image
    pod=%k8s.pod.name ns=%k8s.ns.name uid=%k8s.pod.uid qos=%k8s.pod.qos sandbox=%k8s.pod.sandbox_id
    labels=%k8s.pod.labels tier=%k8s.pod.label[tier] ip=%k8s.pod.ip net=%container.host_network
    ready=%container.readiness_probe)
  priority: NOTICE

- rule: A pod by its cgroup alone
  desc: d
  condition: evt.type in (open, openat) and proc.name = act and fd.name = /etc/hostname and k8s.pod.uid exists
  output: opened (uid=%k8s.pod.uid type=%container.type missing=%container.missing image=%container.image)
  priority: NOTICE
"""
UID = "0f345678-1234-1234-1234-123456789012"


def test_a_pod_of_containerd(tmp_path: Path, containerd: Containerd) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    config = {
        "containers": {
            "docker_sockets": [], "podman_sockets": [], "crio_sockets": [],
            "containerd_sockets": [str(containerd.socket)], "wait_ms": 60_000,
        }
    }  # fmt: skip
    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        sandbox = containerd.sandbox("web-0", UID)
        try:
            full_id = containerd.container(sandbox, "web", "/act", "/etc/hostname")
            alert = daemon.wait_for(
                lambda a: a["rule"] == "A program starts in a pod" and a["output_fields"]["container.name"] == "web"
            )
        finally:
            containerd.remove(sandbox[0])
    told = alert["output_fields"]
    ip = told.pop("k8s.pod.ip")
    assert {k: v for k, v in told.items() if k.startswith(("container.", "k8s."))} == {
        "container.name": "web", "container.full_id": full_id, "container.type": "containerd",
        "container.image": IMAGE, "k8s.pod.name": "web-0", "k8s.ns.name": "shop", "k8s.pod.uid": UID,
        "k8s.pod.qos": "burstable", "k8s.pod.sandbox_id": sandbox[0][:12], "k8s.pod.labels": told["k8s.pod.labels"],
        "k8s.pod.label[tier]": "front", "container.host_network": False, "container.readiness_probe": "/act /ready",
    }  # fmt: skip
    assert sorted(told["k8s.pod.labels"].split(",")) == ["app:web", "tier:front"]
    assert ip.startswith("10.213.77.")
    assert daemon.summary_number("lost") == 0


def test_what_is_known_when_no_engine_answers(tmp_path: Path, containerd: Containerd) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    none = {f"{engine}_sockets": [] for engine in ("docker", "podman", "crio")}
    config = {"containers": {**none, "containerd_sockets": [str(tmp_path / "none.sock")], "wait_ms": 200}}
    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        sandbox = containerd.sandbox("web-0", UID, host_network=True)
        try:
            containerd.container(sandbox, "web", "/act", "/etc/hostname")
            alert = daemon.wait_for(
                lambda a: (
                    a["rule"] == "A pod by its cgroup alone"
                    and a["output_fields"]["container.missing"] == "no container engine answered"
                )
            )
        finally:
            containerd.remove(sandbox[0])
    told = alert["output_fields"]
    assert (told["k8s.pod.uid"], told["container.type"], told["container.image"]) == (UID, "containerd", None)
