"""From a cgroup's path to the container it belongs to.

Comes in: a path as in /proc/PID/cgroup. Goes out: the engine's name, the container's id, the user and the pod. Never: a
question to the engine. A cgroup's name is set by whoever may make cgroups there: root, or a user below the slice
delegated to them; so a container below a user's slice is that user's (`owner`), whatever it calls itself.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class InContainer(NamedTuple):
    """The engine's word and the container's whole id (a machine's name for systemd-nspawn and LXC); the user below
    whose slice it runs, None for root; the pod's uid and quality of service, None outside of Kubernetes."""

    runtime: str
    full_id: str
    owner: int | None = None
    pod_uid: str | None = None
    qos: str | None = None

    @property
    def key(self) -> str:
        """As `Container.key`."""
        return self.full_id if self.owner is None else f"{self.full_id}@{self.owner}"


_ID = "([0-9a-f]{64})"

# The names that engines give to one component. `conmon` watches a container from outside, `monitor` likewise.
_NAMED = tuple(
    (runtime, re.compile(pattern))
    for runtime, pattern in (
        ("docker", rf"docker-{_ID}\.scope"),
        ("containerd", rf"(?:cri-containerd|containerd|nerdctl)-{_ID}\.scope"),
        ("containerd", rf"[^:]*:(?:cri-containerd|containerd|k8s\.io|default|nerdctl):{_ID}"),
        ("docker", rf"[^:]*:docker:{_ID}"),
        ("podman", rf"libpod-(?:payload-)?{_ID}(?:\.scope)?"),
        ("cri-o", rf"crio-{_ID}(?:\.scope)?"),
        ("cri-o", rf"[^:]*:crio:{_ID}"),
        ("lxc", r"lxc\.payload\.(.+)"),
    )
)
_NSPAWN = re.compile(r"(?:machine-(.+)\.scope|systemd-nspawn@(.+)\.service)")
_BARE = re.compile(_ID)
_USER = re.compile(r"user(?:-([0-9]{1,10})\.slice|@([0-9]{1,10})\.service)")
# The kubelet's names, its own (cgroupfs) and systemd's; the uid of a static pod is a hash without dashes.
_POD = re.compile(
    r"(?:.*kubepods.*-)?pod([0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{12})(?:\.slice)?"
)
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")

# Machines that are not containers but register with systemd-machined as well.
_NOT_CONTAINERS = ("qemu-", "lxc-", "libvirt-")


class Unit(NamedTuple):
    """The systemd unit that a cgroup belongs to, the unit of a user's own systemd below it, the innermost slice; each
    None where there is none."""

    unit: str | None = None
    user_unit: str | None = None
    slice: str | None = None


_UNITS = (".service", ".scope", ".socket", ".mount", ".swap")


def unit_of(path: str) -> Unit:
    """What systemd calls the place of a process, as sd_pid_get_unit(3), _get_user_unit and _get_slice tell it.

    systemd puts a `_` before a name that the kernel would take for its own file.
    """
    slice_: str | None = None
    units: list[str] = []
    for part in path.split("/"):
        name = part.removeprefix("_")
        if name.endswith(".slice") and len(units) == 0:
            slice_ = name
        elif name.endswith(_UNITS) and len(name) > len(".scope"):
            units.append(name)
    is_manager = len(units) > 1 and _USER.fullmatch(units[0]) is not None
    return Unit(units[0] if units else None, units[1] if is_manager else None, slice_)


def container_of(path: str) -> InContainer | None:
    """The innermost container of a cgroup path, None outside of any."""
    parts = path.split("/")
    for i in range(len(parts) - 1, 0, -1):
        found = _of_component(parts, i)
        if found is not None:
            pod_uid, qos = _pod(parts[: i + 1])
            return found._replace(owner=_owner(parts[:i]), pod_uid=pod_uid, qos=qos)
    return None


def _owner(above: list[str]) -> int | None:
    for part in above:
        match = _USER.fullmatch(part)
        if match:
            return int(match[1] or match[2]) or None
    return None


def _pod(above: list[str]) -> tuple[str | None, str | None]:
    """The pod's uid and quality of service, from the components above the container's."""
    for i in range(len(above) - 1, 0, -1):
        part = above[i].partition(":")[0]  # `slice:prefix:id`, as runc was told by the kubelet
        match = _POD.fullmatch(part)
        if match:
            classes = "/".join(above[: i + 1])
            qos = next((name for name in ("burstable", "besteffort") if name in classes), "guaranteed")
            return match[1].replace("_", "-"), qos
    return None, None


def _of_component(parts: list[str], i: int) -> InContainer | None:
    part, parent = parts[i], parts[i - 1]
    if not part:
        return None
    for runtime, pattern in _NAMED:
        match = pattern.fullmatch(part)
        if match:
            return InContainer(runtime, match[1])
    match = _NSPAWN.fullmatch(part)
    if match:
        name = _unescape(match[1] or match[2])
        return None if name.startswith(_NOT_CONTAINERS) else InContainer("systemd-nspawn", name)
    if parent in ("lxc", "lxc.payload"):
        return InContainer("lxc", part)
    if _BARE.fullmatch(part):
        return InContainer(_bare_runtime(parts, i), part)
    if i == 2 and parent in ("default", "k8s.io"):  # containerd's namespaces, where names are free
        return InContainer("containerd", part)
    return None


def _bare_runtime(parts: list[str], i: int) -> str:
    if parts[i - 1] == "docker":
        return "docker"
    if parts[i - 1].startswith("libpod"):
        return "podman"
    return "containerd"


def _unescape(name: str) -> str:
    r"""A unit name's escapes undone (systemd.unit(5)): `-` is a slash, `\x2d` a byte."""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), name)
