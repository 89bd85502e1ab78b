"""A program's text, compiled and loaded in a process that then ends. The one importer of bcc.

Comes in: a job (text, functions and how each is loaded, names of maps) on a socket. Goes out: the descriptors of what
was loaded, over the same socket, or why it could not be. Never: a hook; who gets the descriptors attaches them.

bcc brings LLVM along, 140 MB that a daemon does not need once its program is loaded: hence the process. bcc is Debian's
`python3-bpfcc`. It wants a kernel source tree; ours are a dozen stub headers beside the C (`BCC_KERNEL_SOURCE`), for
nothing of the kernel's own headers is used: offsets come from BTF.

Run as `python -m appliance.kernel.compiler SOCKET_FD`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from appliance.kernel import bpfcall

_LOG_BYTES = 16 << 20
PER_MESSAGE = 200  # descriptors in one message: the kernel takes 253 (SCM_MAX_FD)


def compiled(job: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Load a job's program. The answer, and the descriptors of its functions and maps in the job's order.

    The answer is `{"ok": true}`, or `{"kind", "text", "log"}`; kind is `bcc`, `verifier` (text names the function) or
    `other`.
    """
    try:
        import bcc
    except ImportError as error:
        return {"kind": "bcc", "text": f"bcc cannot be imported by {sys.executable}: {error}", "log": ""}, []
    if not hasattr(bcc, "BPF"):
        return {"kind": "bcc", "text": f"the `bcc` of {bcc.__file__} is another package", "log": ""}, []
    os.environ["BCC_KERNEL_SOURCE"] = job["stubs"]
    log: list[str] = []
    try:
        with _stderr_into(log):
            bpf = bcc.BPF(text=job["text"].encode(), cflags=job["flags"])
            codes = {name: bpf.dump_func(name.encode()) for name in job["functions"]}
    except Exception as error:  # bcc raises bare Exceptions
        return {"kind": "other", "text": str(error) or repr(error), "log": "".join(log)}, []
    _keep.append(bpf)
    functions = []
    for name, (kind, attach_type, target) in job["functions"].items():
        try:  # by ourselves: bcc cannot load for a typed tracepoint
            functions.append(_loaded(kind, codes[name], name, attach_type, target))
        except OSError as error:
            return {"kind": "verifier", "text": name, "log": error.strerror}, []
    return {"ok": True}, functions + [bpf[name.encode()].map_fd for name in job["maps"]]


def _loaded(kind: int, code: bytes, name: str, attach_type: int, target: int) -> int:
    try:
        return bpfcall.load_program(kind, code, name, attach_type=attach_type, target=target)
    except OSError:  # again, for what the verifier says
        return bpfcall.load_program(kind, code, name, attach_type=attach_type, target=target, log=_LOG_BYTES)


_keep: list[Any] = []  # an object of bcc closes its descriptors when it goes


@contextmanager
def _stderr_into(log: list[str]) -> Iterator[None]:
    """LLVM and the verifier's log go to descriptor 2, past Python."""
    sys.stderr.flush()
    keep = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(keep, 2)
            os.close(keep)
            sink.seek(0)
            log.append(sink.read().decode(errors="replace"))


def main(fd: int) -> None:
    """Read one job from a connected socket, answer it, end."""
    with socket.socket(fileno=fd) as peer:
        with peer.makefile("rb") as reader:
            job = json.load(reader)
        answer, descriptors = compiled(job)
        data = json.dumps(answer).encode()
        peer.sendall(struct.pack("=I", len(data)) + data)
        for start in range(0, len(descriptors), PER_MESSAGE):
            socket.send_fds(peer, [b"\0"], descriptors[start : start + PER_MESSAGE])
        sys.stdout.flush()
        os._exit(0)  # LLVM's own farewell takes time and says nothing


if __name__ == "__main__":
    main(int(sys.argv[1]))
