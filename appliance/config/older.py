"""Keys of older Falcos: what becomes of each, one row a key, back to Falco 0.20.

Comes in: a tree, before it is held against the schema. Goes out: notes; keys that are switched off are taken out of
the tree, those that have another name today are put there. Never: a key that asks for something and gets nothing; it
stays in the tree and is refused, with what to use instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.config.document import Key, Node


@dataclass(frozen=True, slots=True)
class Older:
    """A key that today's Falco no longer has, or that cannot be used here.

    `until` is the last Falco that had it. `on` says of a tree whether it asks for the thing; `moved` is the key that
    does the same today. `instead` is what to use where it is on.
    """

    key: str
    until: str
    note: str
    instead: str = ""
    on: Callable[[Node], bool] = lambda root: False
    moved: Key | None = None


def _given(root: Node, *at: str) -> object:
    node = root.find(at)
    return None if node is None else node.plain()


def _enabled(section: str) -> Callable[[Node], bool]:
    return lambda root: _given(root, section, "enabled") not in (None, False)


def _engine(kind: str) -> Callable[[Node], bool]:
    return lambda root: _given(root, "engine", "kind") == kind


def _audit_by_webserver(root: Node) -> bool:
    plugins = _given(root, "load_plugins")
    loaded = isinstance(plugins, list) and "k8saudit" in plugins
    return _given(root, "webserver", "enabled") not in (None, False) and not loaded


_NO_GRPC = "Falco has given up gRPC, and there was none here"
_HTTP = "use `http_output`"
_RINGS = ("engine", "modern_ebpf")

OLDER: tuple[Older, ...] = (
    Older("grpc", "0.43", _NO_GRPC, _HTTP, _enabled("grpc")),
    Older("grpc_output", "0.43", _NO_GRPC, _HTTP, _enabled("grpc_output")),
    Older("engine.gvisor", "0.43", "gVisor's events cannot be read here",
          "watch the host by `engine.kind: modern_ebpf`", _engine("gvisor")),
    Older("engine.ebpf", "0.43", "Falco's older probe: one eBPF engine watches, whose rings `engine.modern_ebpf` sets"),
    Older("webserver.k8s_audit_endpoint", "0.31", "audit events come by `load_plugins: [k8saudit]`",
          "write `load_plugins: [k8saudit]`, and address and path in its `open_params`: `http://:9765/k8s-audit`",
          _audit_by_webserver),
    Older("syscall_buf_size_preset", "0.37", "is `engine.modern_ebpf.buf_size_preset`",
          moved=(*_RINGS, "buf_size_preset")),
    Older("syscall_drop_failed_exit", "0.37", "is `engine.modern_ebpf.drop_failed_exit`",
          moved=(*_RINGS, "drop_failed_exit")),
    Older("modern_bpf.cpus_for_each_syscall_buffer", "0.37", "is `engine.modern_ebpf.cpus_for_each_buffer`",
          moved=(*_RINGS, "cpus_for_each_buffer")),
    Older("modern_bpf", "0.37", "is `engine.modern_ebpf`"),
    Older("metadata_download", "0.36", "no metadata of Kubernetes is downloaded: it comes from the container engine"),
)  # fmt: skip
BY_KEY: Mapping[str, Older] = {row.key: row for row in OLDER}


def retire(root: Node) -> list[tuple[str, str, Node]]:
    """Take out of the tree what is off, and put what was renamed where it belongs: key, note and node of each."""
    found: list[tuple[str, str, Node]] = []
    if not isinstance(root.value, dict):
        return found
    asked = [(row, row.on(root)) for row in OLDER]  # of the tree as it was written
    for row, on in asked:
        at = tuple(row.key.split("."))
        above, node = root.find(at[:-1]), root.find(at)
        if node is None or above is None or not isinstance(above.value, dict) or on:
            continue
        del above.value[at[-1]]
        if row.moved is not None:
            _put(root, row.moved, node)
        if row.key != "modern_bpf" or node.value:  # what was in it has been moved
            found.append((row.key, row.note, node))
    return found


def _put(root: Node, at: Key, node: Node) -> None:
    """Set a key where the tree does not set it, too."""
    for step in at[:-1]:
        below = root.value.setdefault(step, Node({}))
        if not isinstance(below.value, dict):
            return
        root = below
    root.value.setdefault(at[-1], node)
