"""Which program a process is: a file, a script, an applet; and whether it bears that name."""

from __future__ import annotations

import pytest

from appliance.catalog.programs import has_own_name, program_of
from appliance.model.event import NO_PROCESS, Process


@pytest.mark.parametrize(
    ("exepath", "args", "program"),
    [
        ("/usr/sbin/sshd", ("-D",), "/usr/sbin/sshd"),
        ("/usr/bin/python3.11", ("/usr/bin/dnf", "install"), "/usr/bin/dnf"),
        ("/usr/bin/python3.11", ("-Es", "-u", "/usr/sbin/tuned", "-l"), "/usr/sbin/tuned"),
        ("/usr/bin/python3.11", ("-c", "/usr/bin/dnf"), None),
        ("/usr/bin/python3.11", ("-m", "/usr/bin/dnf"), None),
        ("/usr/bin/python3.11", ("-W", "/usr/bin/dnf"), None),
        ("/usr/bin/python3.11", ("x.py", "/usr/bin/dnf"), None),
        ("/usr/bin/python3.11", (), None),
        ("/tmp/python3", ("/usr/bin/dnf",), "/tmp/python3"),
        ("/usr/bin/perl", ("-w", "/usr/sbin/dpkg-reconfigure"), "/usr/sbin/dpkg-reconfigure"),
        ("/usr/bin/perl", ("-e", "/usr/; system 'id'"), None),
        ("/usr/bin/perl", ("-we", "/usr/"), None),
        ("/usr/bin/perl", ("-Mx", "/usr/sbin/dpkg-reconfigure"), None),
        ("/usr/bin/dash", ("-e", "/usr/sbin/update-ca-certificates"), "/usr/sbin/update-ca-certificates"),
        ("/usr/bin/bash", ("-c", "/usr/bin/x"), None),
        ("/usr/bin/bash", ("--rcfile", "/usr/bin/x"), None),
        ("/usr/bin/bash", ("-s", "/usr/bin/x"), None),
        ("/usr/bin/bash", ("-",), None),
        ("/usr/bin/node", ("-r", "/usr/bin/x"), None),
        ("/usr/bin/node", ("/usr/bin/npm", "ci"), "/usr/bin/npm"),
        (None, (), None),
    ],
)
def test_the_program_is_a_file_or_a_script(exepath: str | None, args: tuple[str, ...], program: str | None) -> None:
    assert program_of(Process(pid=1, name="x", exe="x", exepath=exepath, args=args)) == program


@pytest.mark.parametrize(
    ("name", "exepath", "exe", "args", "own"),
    [
        ("sshd", "/usr/sbin/sshd", "/usr/sbin/sshd", (), True),
        ("sshd", "/usr/bin/cat", "/tmp/sshd", (), False),
        ("sshd", "/usr/bin/perl", "sshd", ("-e", "1"), False),
        (
            "sshd",
            "/usr/bin/perl",
            "sshd",
            ("/tmp/sshd",),
            True,
        ),  # as the file says; that it is in /tmp says `proc.program`
        ("systemd-executo", "/usr/lib/systemd/systemd-executor", "x", (), True),
        ("unattended-upgr", "/usr/bin/python3.11", "python3", ("/usr/bin/unattended-upgrade",), True),
        ("systemd-udevd", "/usr/bin/udevadm", "/lib/systemd/systemd-udevd", (), True),
        ("systemd-udevd", "/usr/bin/udevadm", "udevadm", (), False),
        ("crond", "/bin/busybox", "crond", (), True),
        ("crond", "/bin/busybox", "cat", ("/etc/shadow",), False),
        ("crond", "/bin/busybox", "busybox", ("cat", "/etc/shadow"), False),
        ("crond", "/tmp/busybox", "crond", (), False),
    ],
)
def test_a_name_is_its_own_or_borrowed(name: str, exepath: str, exe: str, args: tuple[str, ...], own: bool) -> None:
    assert has_own_name(Process(pid=1, name=name, exe=exe, exepath=exepath, args=args)) is own


def test_of_nothing_nothing_is_known() -> None:
    assert program_of(NO_PROCESS) is None and has_own_name(NO_PROCESS) is None
