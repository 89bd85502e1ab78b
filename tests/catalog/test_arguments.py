"""Arguments as text: numbers, and the names that they go by."""

from __future__ import annotations

import pytest

from appliance.catalog.values import argument, arguments
from appliance.model.event import NO_FD, Account, Event
from tests.support.events import event, file_fd, process

OPENED = event(
    "openat", res=3, dirfd=-100, name="a", flags=0o101, mode=0o644, dev=1, ino=2, fd=file_fd("/tmp/a")
)._replace(path="/tmp/a")
REFUSED = event("openat", res=-13, dirfd=9, name=None, flags=0, mode=0, fd=NO_FD)
SIGNALLED = event("kill", res=-3, pid=7, sig=9)
MAPPED = event("mmap", res=4096, addr=0, length=5, prot=0, flags=0x22, offset=0)
DUPLICATED = event("dup", res=-9, oldfd=-1)
CHANGED = event(
    "setuid", process=process(user=Account(33, "www-data"), login=Account(-1, "<NA>")), res=0, uid=33, new_uid=33
)


@pytest.mark.parametrize(
    ("of", "name", "text"),
    [
        (OPENED, "fd", "<f>/tmp/a"),
        (OPENED, "dirfd", "AT_FDCWD"),
        (OPENED, "flags", "O_CREAT|O_WRONLY"),
        (OPENED, "mode", "0644"),
        (REFUSED, "fd", "EACCES"),
        (REFUSED, "dirfd", "9"),
        (REFUSED, "name", "<NA>"),
        (SIGNALLED, "res", "ESRCH"),
        (SIGNALLED, "sig", "SIGKILL"),
        (MAPPED, "res", "4096"),
        (DUPLICATED, "oldfd", "EPERM"),
        (MAPPED, "prot", "PROT_NONE"),
        (MAPPED, "vm_size", None),
        (CHANGED, "uid", "www-data"),
    ],
)
def test_one(of: Event, name: str, text: str | None) -> None:
    assert argument(of, name) == text


def test_all() -> None:
    assert arguments(OPENED) == (
        "fd=3(<f>/tmp/a) dirfd=-100(AT_FDCWD) name=a(/tmp/a) flags=6(O_CREAT|O_WRONLY) mode=0644 dev=1 ino=2"
    )
    assert arguments(REFUSED).startswith("fd=-13(EACCES) dirfd=9 name=<NA> flags=1(O_RDONLY) mode=0 ")
    assert arguments(SIGNALLED) == "res=-3(ESRCH) pid=7 sig=9(SIGKILL)"
    assert arguments(CHANGED) == "res=0 uid=33(www-data)"
