"""Run in a mount namespace of its own: a socket where journald's is, alerts sent to it, entries printed as JSON.

The entries are read as systemd.io/JOURNAL_NATIVE_PROTOCOL says: `NAME=value\\n`, or `NAME\\n`, the value's length as 64
bits little-endian, the value, `\\n`. A large entry comes as a file descriptor.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import subprocess
import sys

from appliance.model.diagnostic import DeliveryError
from appliance.sinks.journald import SOCKET, JournaldSink
from tests.support.sinks import HOSTILE, alert


def read_entry(data: bytes) -> list[tuple[str, str]]:
    """The fields of an entry, in order."""
    fields = []
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        line = data[at:end]
        if b"=" in line:
            name, _, value = line.partition(b"=")
            at = end + 1
        else:
            name = line
            (size,) = struct.unpack_from("<Q", data, end + 1)
            value = data[end + 9 : end + 9 + size]
            assert data[end + 9 + size : end + 10 + size] == b"\n"
            at = end + 10 + size
        fields.append((name.decode(), value.decode()))
    return fields


def receive(server: socket.socket) -> tuple[list[tuple[str, str]], bool]:
    """An entry, and whether it came as a descriptor."""
    data, ancillary, _, _ = server.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    for level, kind, payload in ancillary:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        fd = array.array("i", payload)[0]
        with os.fdopen(fd, "rb") as memory:
            memory.seek(0)
            return read_entry(memory.read()), True
    return read_entry(data), False


def main() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    sink = JournaldSink()
    errors = []
    try:
        sink.deliver(alert())
    except DeliveryError as error:
        errors.append([str(error), error.retry])
    SOCKET.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(SOCKET))
        entries = []
        for each in (
            alert(),
            alert(output=HOSTILE, rule=HOSTILE, fields={"proc.name": HOSTILE, "x=y\nPRIORITY": "forged", "a" * 90: 1}),
            alert(output="x" * 500_000, fields={}),
        ):
            sink.deliver(each)
            entries.append(receive(server))
    try:
        sink.deliver(alert())
    except DeliveryError as error:
        errors.append([str(error), error.retry])
    json.dump({"entries": entries, "errors": errors}, sys.stdout)


if __name__ == "__main__":
    main()
