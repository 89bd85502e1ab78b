"""From a cgroup's path to the container it belongs to.

Comes in: a path as in /proc/PID/cgroup. Goes out: the engine's name and the container's id. Never: a question to the
engine. A cgroup's name is set by whoever may make cgroups there: root, or a user below the slice delegated to them.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class InContainer(NamedTuple):
    """The engine's word and the container's whole id (a machine's name for systemd-nspawn and LXC)."""

    runtime: str
    full_id: str


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
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")

# Machines that are not containers but register with systemd-machined as well.
_NOT_CONTAINERS = ("qemu-", "lxc-", "libvirt-")


def container_of(path: str) -> InContainer | None:
    """The innermost container of a cgroup path, None outside of any."""
    parts = path.split("/")
    for i in range(len(parts) - 1, 0, -1):
        found = _of_component(parts, i)
        if found is not None:
            return found
    return None


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
