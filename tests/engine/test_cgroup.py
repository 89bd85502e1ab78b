"""Where containers are found by their cgroup: every engine's way to name them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.cgroup import container_of, unit_of

ID = "0123456789abcdef" * 4
POD = "pod12345678_1234_1234_1234_123456789012"
KUBEPODS = "/kubepods.slice/kubepods-burstable.slice"


@pytest.mark.parametrize(
    ("path", "runtime", "full_id"),
    [
        (f"/docker/{ID}", "docker", ID),
        (f"/docker/{ID}/init.scope", "docker", ID),
        (f"/system.slice/docker-{ID}.scope", "docker", ID),
        (f"/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope", "docker", ID),
        (f"/kubepods/burstable/{POD}/{ID}", "containerd", ID),
        (f"{KUBEPODS}/kubepods-burstable-{POD}.slice/cri-containerd-{ID}.scope", "containerd", ID),
        (f"/kubepods-besteffort.slice:cri-containerd:{ID}", "containerd", ID),
        (f"/default/{ID}", "containerd", ID),
        ("/default/web", "containerd", "web"),
        (f"/machine.slice/libpod-{ID}.scope", "podman", ID),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman", ID),
        (f"/libpod_parent/libpod-{ID}", "podman", ID),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", "podman", ID),
        (f"/kubepods.slice/kubepods-{POD}.slice/crio-{ID}.scope", "cri-o", ID),
        (f"/kubepods/{POD}/crio-{ID}", "cri-o", ID),
        ("/machine.slice/systemd-nspawn@web.service/payload", "systemd-nspawn", "web"),
        (r"/machine.slice/machine-my\x2dweb.scope", "systemd-nspawn", "my-web"),
        ("/lxc.payload.web", "lxc", "web"),
        ("/lxc/web", "lxc", "web"),
        ("/lxc/web/system.slice/nginx.service", "lxc", "web"),
        # one in another: the inner one
        (f"/docker/{ID}/docker/{'f' * 64}", "docker", "f" * 64),
    ],
)  # fmt: skip
def test_a_container(path: str, runtime: str, full_id: str) -> None:
    found = container_of(path)
    assert found is not None
    assert (found.runtime, found.full_id) == (runtime, full_id)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/init.scope",
        "/system.slice/docker.service",
        "/system.slice/nginx.service",
        "/user.slice/user-1000.slice/session-2.scope",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
        f"/system.slice/docker-{ID[:-1]}.scope",
        f"/system.slice/docker-{ID.upper()}.scope",
        f"/x{ID}",
        "/lxc.monitor.web",
    ],
)
def test_no_container(path: str) -> None:
    assert container_of(path) is None


UID = "12345678-1234-1234-1234-123456789012"


@pytest.mark.parametrize(
    ("path", "pod_uid", "qos"),
    [
        (f"/kubepods/burstable/pod{UID}/{ID}", UID, "burstable"),
        (f"/kubepods/pod{UID}/{ID}", UID, "guaranteed"),
        (f"/kubepods/besteffort/pod{UID}/crio-{ID}", UID, "besteffort"),
        (f"{KUBEPODS}/kubepods-burstable-{POD}.slice/cri-containerd-{ID}.scope", UID, "burstable"),
        (f"/kubepods.slice/kubepods-{POD}.slice/crio-{ID}.scope/container", UID, "guaranteed"),
        (f"/kubelet/kubepods/besteffort/pod{UID}/{ID}", UID, "besteffort"),
        (f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{POD}.slice/docker-{ID}.scope", UID, "guaranteed"),
        (f"/kubepods-burstable-{POD}.slice:cri-containerd:{ID}", UID, "burstable"),
        (f"/kubepods/podaf6f1ba3d5a7e26f1e3b5a1a4b7b3c2e/{ID}", "af6f1ba3d5a7e26f1e3b5a1a4b7b3c2e", "guaranteed"),
        (f"/docker/{ID}", None, None),
        (f"/system.slice/docker-{ID}.scope/kubepods/pod{UID}", None, None),
    ],
)  # fmt: skip
def test_a_pod(path: str, pod_uid: str | None, qos: str | None) -> None:
    found = container_of(path)
    assert found is not None
    assert (found.pod_uid, found.qos) == (pod_uid, qos)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", 1000),
        (f"/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope", 1000),
        (f"/user.slice/user-1000.slice/session-2.scope/user-0.slice/docker/{ID}", 1000),  # whoever it says it is
        (f"/user.slice/user-0.slice/session-1.scope/libpod-{ID}", None),
        (f"/machine.slice/libpod-{ID}.scope", None),
        (f"/system.slice/docker-{ID}.scope/user-1000.slice/x", None),
    ],
)
def test_the_user_whose_container_it_is(path: str, owner: int | None) -> None:
    found = container_of(path)
    assert found is not None
    assert (found.owner, found.key) == (owner, ID if owner is None else f"{ID}@{owner}")


@given(st.text(alphabet="/docker-lxc.payload:machine\\x2d0123456789abcdef\n\udcff", max_size=200))
def test_any_path_has_an_answer(path: str) -> None:
    container_of(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/system.slice/ssh.service", ("ssh.service", None, "system.slice")),
        ("/system.slice/system-getty.slice/getty@tty1.service", ("getty@tty1.service", None, "system-getty.slice")),
        ("/user.slice/user-1000.slice/session-3.scope", ("session-3.scope", None, "user-1000.slice")),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service",
            ("user@1000.service", "app-x.service", "user-1000.slice"),
        ),
        ("/system.slice/a.service/b.service", ("a.service", None, "system.slice")),  # what a service made of itself
        ("/system.slice/_cpu.service", ("cpu.service", None, "system.slice")),
        ("/docker/0123", (None, None, None)),
        ("/", (None, None, None)),
        ("", (None, None, None)),
    ],
)
def test_a_unit(path: str, expected: tuple[str | None, str | None, str | None]) -> None:
    assert tuple(unit_of(path)) == expected
