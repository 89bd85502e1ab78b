"""A real containerd with its CRI plugin, started here with folders of its own, spoken to as a kubelet speaks to it.

The images are made here: one static program that waits as `pause` and, as `act`, opens a file again and again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.sources.docker_api import EngineError
from appliance.sources.grpc import ask
from appliance.sources.protobuf import Message, encode
from tests.support.docker import RUNTIME, EngineUnavailableError, end, needed, remove_tree, running, serve

START_S = 180
IMAGE, PAUSE = "tercel.test:5000/shop/act:1.2", "tercel.test:5000/pause:1"

_PROGRAM = """
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    for (;;) {
        if (argc < 2)
            pause();
        close(open(argv[1], O_RDONLY));
        usleep(100000);
    }
}
"""

_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
oom_score = 0
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{folder}/runc"
"""

_NETWORK = {
    "cniVersion": "0.4.0", "name": "tercel",
    "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.213.77.0/24"}}],
}  # fmt: skip

_RUNTIME = "/runtime.v1.RuntimeService"


class Containerd:
    """One containerd. What a kubelet asks of it are methods here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "containerd.sock"
        self._log = folder / "containerd.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._sandboxes: list[str] = []

    def start(self) -> None:
        """Start, and wait until CRI answers. Raises `EngineUnavailableError`."""
        for program in ("containerd", "ctr", "runc", "cc"):
            if shutil.which(program) is None:
                raise EngineUnavailableError(f"`{program}` is not installed (Debian: containerd, gcc)")
        (self.folder / "config.toml").write_text(_CONFIG.format(folder=self.folder, pause=PAUSE))
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-tercel.conflist").write_text(json.dumps(_NETWORK))
        runtime = self.folder / "runc"
        runtime.write_text(f"#!{sys.executable}\n{RUNTIME}")
        runtime.chmod(0o755)
        self._daemon = serve(["containerd", "--config", self.folder / "config.toml"], self._log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.cri("Status", b"")
                break
            except EngineError as error:
                if self._daemon.poll() is not None or time.monotonic() > deadline:
                    tail = self._log.read_text(errors="replace")[-2000:]
                    raise EngineUnavailableError(f"containerd does not start: {error}\n{tail}") from error
                time.sleep(0.1)
        self._import_images()

    def _import_images(self) -> None:
        source = self.folder / "act.c"
        source.write_text(_PROGRAM)
        program = self.folder / "act"
        subprocess.run(["cc", "-static", "-Os", "-o", program, source], check=True)
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            tar.add(program, "act")
            for name, text in (("etc/hostname", "x\n"), ("etc/passwd", "shop:x:0:0::/:/act\n")):
                info = tarfile.TarInfo(name)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
        archive = self.folder / "images.tar"
        manifest = [
            {"Config": f"{n}.json", "RepoTags": [name], "Layers": ["layer.tar"]}
            for n, name in enumerate((IMAGE, PAUSE))
        ]

        diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
        parts = {"manifest.json": json.dumps(manifest).encode(), "layer.tar": layer.getvalue()}
        for n in range(2):
            config = {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
                "config": {"Entrypoint": ["/act"], "Labels": {"n": str(n)}},
                "rootfs": {"type": "layers", "diff_ids": [diff]},
            }  # fmt: skip
            parts[f"{n}.json"] = json.dumps(config).encode()
        with tarfile.open(archive, "w") as tar:
            for name, data in parts.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        for namespace in ("k8s.io", "shop"):
            self.ctr("--namespace", namespace, "images", "import", "--snapshotter=native", str(archive))
        deadline = time.monotonic() + START_S
        while not self._knows(PAUSE) or not self._knows(IMAGE):  # CRI hears of images by an event of its own
            assert time.monotonic() < deadline, "CRI does not know the images"
            time.sleep(0.05)

    def _knows(self, image: str) -> bool:
        request = encode((1, encode((1, image))))
        told = Message(ask(self.socket, "/runtime.v1.ImageService/ImageStatus", request, timeout_s=60))
        return bool(told.data(1))

    def ctr(self, *args: str) -> str:
        """Run containerd's own client; gives what it prints."""
        done = subprocess.run(
            ["ctr", f"--address={self.socket}", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, f"ctr {args}: {done.stdout}{done.stderr}"
        return done.stdout

    def cri(self, method: str, request: bytes, timeout_s: float = 180) -> Message:
        """One question to the runtime service."""
        return Message(ask(self.socket, f"{_RUNTIME}/{method}", request, timeout_s=timeout_s))

    def sandbox(
        self, name: str, uid: str, *, host_network: bool = False, privileged: bool = False
    ) -> tuple[str, bytes]:
        """Run a pod's sandbox, as a kubelet does; its id, and its configuration for `container`."""
        pod = {
            "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": uid,
            "app": "web", "tier": "front",
        }  # fmt: skip
        annotation = json.dumps(
            {"spec": {"containers": [{"name": "web", "readinessProbe": {"exec": {"command": ["/act", "/ready"]}}}]}}
        )
        modes = encode((1, 2)) if host_network else b""
        security = encode((1, modes), (6, int(privileged)))
        config = encode(
            (1, encode((1, name), (2, uid), (3, "shop"))), (2, "" if host_network else name),
            (3, str(self.folder / "logs")),
            *((6, encode((1, key), (2, value))) for key, value in pod.items()),
            (7, encode((1, "kubectl.kubernetes.io/last-applied-configuration"), (2, annotation))),
            (8, encode((1, f"/kubepods/burstable/pod{uid}"), (2, security))),
        )  # fmt: skip
        sandbox_id = self.cri("RunPodSandbox", encode((1, config))).text(1)
        self._sandboxes.append(sandbox_id)
        return sandbox_id, config

    def container(
        self, sandbox: tuple[str, bytes], name: str, *command: str, privileged: bool = False, mount: Path | None = None
    ) -> str:
        """Create and start a container in a sandbox; its id."""
        sandbox_id, config = sandbox
        pod_labels = {e.text(1): e.text(2) for e in Message(config).messages(6)}
        labels = {k: v for k, v in pod_labels.items() if k.startswith("io.")} | {"io.kubernetes.container.name": name}
        mounts = [(7, encode((1, "/data"), (2, str(mount)), (3, 1)))] if mount else []
        made = self.cri(
            "CreateContainer",
            encode(
                (1, sandbox_id),
                (2, encode(
                    (1, encode((1, name))), (2, encode((1, IMAGE))), *((3, word) for word in command), *mounts,
                    *((9, encode((1, key), (2, value))) for key, value in labels.items()), (11, f"{name}.log"),
                    (15, encode((2, encode((2, int(privileged)))))),
                )),
                (3, config),
            ),
        )  # fmt: skip
        container_id = made.text(1)
        self.cri("StartContainer", encode((1, container_id)))
        return container_id

    def remove(self, sandbox_id: str) -> None:
        """Stop a pod and forget it."""
        self.cri("StopPodSandbox", encode((1, sandbox_id)))
        self.cri("RemovePodSandbox", encode((1, sandbox_id)))
        self._sandboxes.remove(sandbox_id)

    def stop(self) -> None:
        """End all pods and containerd, remove its folder."""
        if self._daemon is not None:
            for sandbox_id in tuple(self._sandboxes):
                try:
                    self.remove(sandbox_id)
                except EngineError:
                    continue
            end(self._daemon, patience_s=2)  # it waits for clients' streams for a long time
        remove_tree(self.folder)


@pytest.fixture(scope="session")
def containerd() -> Iterator[Containerd]:
    """A real containerd, one for the session."""
    with needed(), running(Containerd) as engine:
        yield engine
