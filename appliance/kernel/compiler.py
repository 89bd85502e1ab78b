"""A program's text, compiled in a process that then ends. The one importer of bcc.

Comes in: a job (text, names of functions and tables) on a socket. Goes out: an `Object` over the same socket, or why
there is none. Never: a program in the kernel; who gets the object loads it.

bcc brings LLVM along, 140 MB that a daemon does not need once its program is compiled: hence the process. bcc is
Debian's `python3-bpfcc`. It wants a kernel source tree; ours are a dozen stub headers beside the C
(`BCC_KERNEL_SOURCE`), for nothing of the kernel's own headers is used: offsets come from BTF.

Run as `python -m appliance.kernel.compiler SOCKET_FD`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from appliance.kernel import bpfcall
from appliance.kernel.objects import Object, tables_named, to_json, with_places


def compiled(job: dict[str, Any]) -> dict[str, Any]:
    """Compile a job's text: functions and tables by name, and which table those of another are like.

    The answer is `{"ok": true, "object": ...}` (`objects.to_json`), or `{"kind", "text", "log"}`; kind is `bcc` or
    `other`.
    """
    try:
        import bcc
    except ImportError as error:
        return {"kind": "bcc", "text": f"bcc cannot be imported by {sys.executable}: {error}", "log": ""}
    if not hasattr(bcc, "BPF"):
        return {"kind": "bcc", "text": f"the `bcc` of {bcc.__file__} is another package", "log": ""}
    os.environ["BCC_KERNEL_SOURCE"] = job["stubs"]
    log: list[str] = []
    try:
        with _stderr_into(log):
            bpf = bcc.BPF(text=job["text"].encode(), cflags=job["flags"])
            codes = {name: bpf.dump_func(name.encode()) for name in job["functions"]}
            named: dict[str, int] = {}
            for name in job["tables"]:
                with suppress(KeyError):  # who loads it misses it
                    named[name] = bpf[name.encode()].map_fd
    except Exception as error:  # bcc raises bare Exceptions
        return {"kind": "other", "text": str(error) or repr(error), "log": "".join(log)}
    return {"ok": True, "object": to_json(_object(codes, named, job["like"]))}


def _object(codes: Mapping[str, bytes], named: Mapping[str, int], like: Mapping[str, str]) -> Object:
    """From instructions that load bcc's own descriptors; `named` are those that we know by name."""
    names = {fd: name for name, fd in named.items()}
    used = {fd for code in codes.values() for fd in tables_named(code)}
    inner = {named[outer]: named[one] for outer, one in like.items() if outer in named}
    order = [*inner.values(), *sorted((used | names.keys()) - set(inner.values()))]  # what others are like comes first
    places = {fd: place for place, fd in enumerate(order)}
    tables = []
    for fd in order:
        told = bpfcall.table_facts(fd)
        table = replace(told, name=names.get(fd, told.name))
        tables.append(replace(table, inner=places[inner[fd]]) if fd in inner else table)
    return Object(tuple(tables), {name: with_places(code, places) for name, code in codes.items()})


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
        data = json.dumps(compiled(job)).encode()
        peer.sendall(struct.pack("=I", len(data)) + data)
        sys.stdout.flush()
        os._exit(0)  # LLVM's own farewell takes time and says nothing


if __name__ == "__main__":
    main(int(sys.argv[1]))
