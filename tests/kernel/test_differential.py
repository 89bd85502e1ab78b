"""The same run of a program, told by `strace -f` and by us: thread by thread the same calls, arguments and results.

strace stops each thread at each call and reads its registers and memory; we are told by the kernel while it runs. Both
see one run, so what the two tell of a thread must be the same sequence. What is compared of a call: its type; its
result or error; each argument that `catalog.events` says is an argument of the call (descriptors, flags, modes, sizes,
ids, signals); paths and other texts; data read and written (as much of it as we keep); socket addresses; the
descriptors that pipe(2) and socketpair(2) make; what execve(2) started; how a process ended. `APART` says what is not.

A call whose end strace does not see may or may not be told by us: a thread that is killed (by SIGKILL, or by the end of
its process in another thread) never stops for strace again, while the kernel may have come to the end of the call. Such
a call is the last of its thread, and `ended_with` leaves it out.

We hear all that happens on the machine. Where a busy one overran the rings and the two accounts differ, the program is
run again with rings twice as large; with nothing lost, a difference is a difference.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.catalog import values
from appliance.catalog.events import CLONES, EVENTS, EXECS
from appliance.catalog.params import CWD, OPEN_FLAGS, VEC, Param, ParamType
from appliance.kernel.arch import this_arch
from appliance.model.event import Event
from appliance.model.event import EventType as E
from tests.support.capture import Capture
from tests.support.docker import DockerEngine
from tests.support.events import event as made

pytestmark = pytest.mark.kernel

RINGS_MIB = (64, 128, 256)  # for each two processors: the next larger where records were lost

# What is left out, and why.
APART = {
    E.FUTEX: "threads of every program on the machine wait by it; nothing here is about it",
    E.PTRACE: "strace's own way: it would fill the rings; no program here uses it",
    E.PROCESS_VM_READV: "the same",
    E.PROCESS_VM_WRITEV: "the same",
    E.FCHMODAT2: "younger than the strace of Debian 12",
}
# What differs, and is told so in docs/falco-differences.md: a new process or thread is told at its birth, from inside
# the kernel, by its number on the host; the caller, if it lives in a PID namespace, gets the number there.
KERNEL_NAMES = {"pread64": E.PREAD, "pwrite64": E.PWRITE, "prlimit64": E.PRLIMIT}
NUMBERS = this_arch().syscalls
TYPES = (
    frozenset(t for t, row in EVENTS.items() if row.told and row.source == "syscall" and t in NUMBERS) - APART.keys()
)
NAMES = {t.value: t for t in TYPES - set(KERNEL_NAMES.values())} | KERNEL_NAMES

# Results that only tracers see, where a signal comes in between: the kernel has no names for programs.
RESTARTS = {"ERESTARTSYS": 512, "ERESTARTNOINTR": 513, "ERESTARTNOHAND": 514, "ERESTART_RESTARTBLOCK": 516}

# Bits of open flags that are no caller's, but what came of the call: created, and in which layer of an overlay it lies.
CAME_OF_IT = OPEN_FLAGS["O_F_CREATED"] | OPEN_FLAGS["FD_UPPER_LAYER"] | OPEN_FLAGS["FD_LOWER_LAYER"]

T = ParamType
WORDS = {
    T.FD, T.FLAGS, T.FLAGS16, T.ENUM, T.MODE, T.UID, T.PID, T.SIGNAL, T.INT16, T.INT32, T.INT64, T.UINT16, T.UINT32,
    T.UINT64,
}  # fmt: skip
# Arguments that programs of their own in the kernel tell.
MORE = {
    (E.PRCTL, "option"): 0, (E.FCHDIR, "fd"): 0, (E.CHDIR, "path"): 0, (E.SETPGID, "pid"): 0, (E.SETPGID, "pgid"): 1,
    (E.POLL, "timeout"): 2,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One call as strace tells it: its arguments as written, its result; None where it did not return."""

    type: E
    args: list[str]
    res: int | None
    text: str


def raw_argument(event: Event, name: str) -> object:
    """An argument as the kernel told it, before Falco's numbers and spellings."""
    param = EVENTS[event.type].param(name)
    if param is not None and param.stored:
        value = event.params[EVENTS[event.type].index[name]]
        return " ".join(value) if isinstance(value, tuple) else value.hex() if isinstance(value, bytes) else value
    return values.raw_argument(event, name)


def number(text: str) -> int | None:
    """A number as `-X raw` writes it, or several joined by `|`; None where it is something else."""
    value = 0
    for part in text.split("|"):
        if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", part) is None:
            return 0 if text == "NULL" else None
        digits = part.removeprefix("-")
        base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
        value |= int(digits, base) * (-1 if part[0] == "-" else 1)
    return value


def strings(text: str) -> list[bytes]:
    """The strings within, which `-xx` writes in hexadecimal to the last byte."""
    return [bytes.fromhex(s.replace("\\x", "")) for s in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', text)]


def split(text: str) -> list[str]:
    """Arguments, at the commas that are in no bracket. Strings hold none: they are hexadecimal."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def result(text: str) -> int | None:
    if text.startswith("?"):  # `?`, `? <unavailable>`, or a name that programs never see
        name = text[1:].split()
        return -RESTARTS[name[0]] if name and name[0] in RESTARTS else None
    if match := re.match(r"-1 (E\w+)", text):
        return -getattr(errno, match[1])
    value = number(text.split()[0])
    assert value is not None, text
    return value


def read_strace(path: Path) -> tuple[int, dict[int, list[Line]], dict[int, int]]:
    """What strace wrote: the first thread, the calls of each, and how each ended (a wait status)."""
    calls: dict[int, list[Line]] = defaultdict(list)
    ends: dict[int, int] = {}
    begun: dict[int, str] = {}
    first = 0
    for row in path.read_text("ascii").splitlines():
        tid, text = int(row.split(None, 1)[0]), row.split(None, 1)[1]
        first = first or tid
        if text.startswith("---"):  # a signal came
            continue
        if text.startswith("+++"):
            if tid in begun:  # and nothing was told of its end
                kind = NAMES[begun.pop(tid).partition("(")[0]]
                calls[tid].append(Line(kind, [], None, text))
            if match := re.match(r"\+\+\+ exited with (\d+)", text):
                ends[tid] = int(match[1]) << 8
            elif match := re.match(r"\+\+\+ killed by (\w+)( \(core dumped\))?", text):
                ends[tid] = getattr(signal, match[1]) | (0x80 if match[2] else 0)
            continue
        if text.startswith("???"):  # killed before strace could read which call it is in
            continue
        if match := re.fullmatch(r"(.*?)\s*<unfinished \.\.\.>(\)\s+= \?)?", text):
            if not match[2]:
                begun[tid] = match[1]
                continue
            text = f"{match[1]}) = ?"
            if text.startswith("<..."):  # begun, and then killed
                text = re.sub(r"<\.\.\. \w+ resumed>", lambda _: begun.pop(tid) + " ", text, count=1)  # noqa: B023
        elif match := re.match(r"<\.\.\. \w+ resumed>", text):
            text = begun.pop(tid) + " " + text[match.end() :]
        found = re.fullmatch(r"(\w+)\((.*)\)\s+= (.*)", text)
        assert found is not None, row[:300]
        kind = NAMES.get(found[1])
        assert kind is not None, row[:300]
        # A result can be told with what it brought in brackets behind it: `1 ([{fd=3, revents=0x1}])`.
        inner, res = found[2], found[3]
        while (cut := re.search(r"\)\s+= (.*)", inner)) is not None:
            inner, res = inner[: cut.start()], inner[cut.start() + 1 :].lstrip()[2:] + ") = " + res
        calls[tid].append(Line(kind, split(inner), result(res), text))
    return first, calls, ends


def ended_with(lines: list[Line], told: list[Event]) -> tuple[list[Line], list[Event]]:
    """Both accounts of a thread without the call in which it was killed: strace has no result of it."""
    if lines and lines[-1].res is None:
        *lines, last = lines
        if len(told) == len(lines) + 1 and told[-1].type is last.type:
            told = told[:-1]
    return [line for line in lines if line.res is not None], told


def address(text: str) -> bytes | None:
    """A socket address, as far as we compare it."""
    family = re.search(r"sa_family=(0x[0-9a-f]+)", text)
    if family is None:
        return None
    head = int(family[1], 16).to_bytes(2, sys.byteorder)
    match int(family[1], 16), strings(text):
        case socket.AF_INET, [port, host]:
            return head + port + host
        case socket.AF_INET6, [port, *_]:
            return head + port
        case socket.AF_UNIX, [path] if "@" not in text:
            return head + path
    return head


def shown(data: bytes) -> str:
    """Data as we keep it: as text."""
    return data.decode("utf-8", "surrogateescape")


def as_bytes(value: object) -> bytes:
    return bytes.fromhex(value) if isinstance(value, str) else b""


def namespaced(event: Event) -> bool:
    """Whether the caller lives in a PID namespace, where it knows its child by another number than the host."""
    return event.process.vpid != event.process.pid


def differences(line: Line, event: Event) -> Iterator[str]:
    """What the event tells otherwise than strace does."""
    if line.res != event.res and not (line.type in CLONES and 0 < (line.res or 0) < event.res and namespaced(event)):
        yield f"res: {event.res}"
    if line.type in EXECS:
        if event.res == 0 and "..." not in line.args[1 + (line.type is E.EXECVEAT)]:
            argv = [s.decode("utf-8", "surrogateescape") for s in strings(line.args[1 + (line.type is E.EXECVEAT)])]
            told = [raw_argument(event, "exe"), *event.process.args]
            # Of a script the kernel runs the interpreter: it stands before the script's path and arguments.
            script = len(told) > len(argv) and told[len(told) - len(argv) + 1 :] == argv[1:]
            if told != argv and not script:
                yield f"argv: {told}"
        return
    if line.type in CLONES:
        asked = re.search(r"flags=(0x[0-9a-f]+)", line.text)
        flags = int(asked[1], 16) & 0xFFFFFF00 if asked is not None else 0
        if raw_argument(event, "flags") != flags:
            yield f"flags: {raw_argument(event, 'flags')}"
        return
    for param in EVENTS[line.type].params:
        arg = param.arg
        n = MORE.get((line.type, param.name), arg.n if arg is not None else CWD)
        if n == VEC and param.type is T.DATA and line.type not in (E.SENDMMSG, E.RECVMMSG):
            pieces = re.findall(r'iov_base="[^"]*"', line.text)
            if event.res > 0 and pieces:  # of these as much as was moved
                whole = b"".join(strings(piece)[0] for piece in pieces)[: event.res]
                if raw_argument(event, param.name) != shown(whole[: arg.most if arg is not None else 0]):
                    yield f"{param.name}: {raw_argument(event, param.name)!r}"
            continue
        if not 0 <= n < len(line.args):
            continue
        text = line.args[n]
        if arg is not None and arg.sock:
            continue
        if param.name == "sockaddr":
            wanted = address(text)
            if wanted is not None and not as_bytes(raw_argument(event, param.name)).startswith(wanted):
                yield f"{param.name}: {raw_argument(event, param.name)}"
        elif param.type in (T.PATH, T.TEXT) and param.get is None:
            found = strings(text)
            whole_text = text.startswith('"') and not text.endswith("...") and len(found) == 1
            if whole_text and raw_argument(event, param.name) != shown(found[0]):
                yield f"{param.name}: {raw_argument(event, param.name)!r}"
        elif param.type in WORDS and (arg is None or (arg.at is None and arg.size is None and arg.long is None)):
            value = number(text)
            told = raw_argument(event, param.name)
            if value is not None and not same_word(value, told, param):
                yield f"{param.name}: {told} for {text}"
        elif param.name in ("fd1", "fd2") and event.res == 0:
            made = [int(d) for d in re.findall(r"\d+", text)]
            if raw_argument(event, param.name) != made[param.name == "fd2"]:
                yield f"{param.name}: {raw_argument(event, param.name)}"
        elif param.type is T.DATA and text.startswith('"') and arg is not None:
            (whole,) = strings(text)
            if raw_argument(event, param.name) != shown(whole[: arg.most]):
                yield f"{param.name}: {raw_argument(event, param.name)!r}"


def same_word(value: int, told: object, param: Param) -> bool:
    """Whether a number is the one that strace tells, as wide as the kernel takes it, whatever sign is read into it."""
    if not isinstance(told, int):
        return False
    bits = 64 if param.type in (T.INT64, T.UINT64) else 16 if param.type in (T.INT16, T.UINT16, T.FLAGS16) else 32
    taken = (1 << bits) - 1
    if bits < 64 and param.arg is not None:
        taken &= param.arg.mask
    if param.flags is OPEN_FLAGS:
        taken &= ~CAME_OF_IT
    return (value ^ told) & taken == 0


PYTHON = sys.executable
SERVE = """
import http.server, threading, urllib.request
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"x" * 5000)
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), H)
threading.Thread(target=s.serve_forever, daemon=True).start()
for i in range(5): urllib.request.urlopen(f"http://127.0.0.1:{s.server_port}/{i}").read()
s.shutdown()
"""
PACK = (
    "mkdir -p p/DEBIAN p/opt/t root/var/lib/dpkg/info root/var/lib/dpkg/updates; : >root/var/lib/dpkg/status; "
    "printf 'Package: t\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: d\\n' >p/DEBIAN/control; "
    "echo hello >p/opt/t/f; dpkg-deb -b p t.deb"
)
NGINX = (
    "mkdir -p n/logs; echo hello >n/index.html; printf 'pid n.pid; error_log stderr; daemon on; events {} "
    "http { access_log off; server { listen unix:n.sock; root '$PWD/n'; } }' >n.conf; "
    "nginx -p $PWD -c $PWD/n.conf -e stderr; for i in 1 2 3 4 5; do curl -s --unix-socket n.sock http://l/index.html; "
    "done; nginx -p $PWD -c $PWD/n.conf -e stderr -s quit; while test -e n.pid; do sleep 0.1; done"
)

REPOSITORY = """
mkdir -p p/DEBIAN p/opt/t repo; printf '#!/bin/sh\\necho hello\\n' >p/opt/t/f; chmod 755 p/opt/t/f
printf 'Package: t\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: d\\n' >p/DEBIAN/control
printf '#!/bin/sh\\nln -sf /opt/t/f /usr/local/bin/t\\nchown 1:1 /opt/t\\n' >p/DEBIAN/postinst
chmod 755 p/DEBIAN/postinst; dpkg-deb --root-owner-group -b p repo/t.deb
(cat p/DEBIAN/control; echo Filename: ./t.deb; echo Size: $(stat -c %s repo/t.deb)
echo SHA256: $(sha256sum <repo/t.deb | cut -d' ' -f1); echo) >repo/Packages
echo 'deb [trusted=yes] file:/repo ./' >repo/list
"""
APT = (
    "O='-o Dir::Etc::sourcelist=/repo/list -o Dir::Etc::sourceparts=-'; export DEBIAN_FRONTEND=noninteractive; "
    "apt-get -q $O update && apt-get -qy $O install t && t && dpkg -L t && apt-get -qy $O purge --dry-run t"
)

PROGRAMS = {
    "copy and link": "echo a >a; cp -a a b; mv b c; ln -s c d; ln c e; mkdir -p x/y; rmdir x/y; rm -r a c d e x",
    "owners and modes": "echo a >a; chmod 4711 a; chown 65534:65534 a; touch -d 2020-01-01 a; mkfifo f; stat a f",
    "pipeline": "cat /etc/passwd | sort -t: -k3n | cut -d: -f1 | tr a-z A-Z | tee up | wc -l",
    "background": "sleep 5 & sh -c 'exit 3'; kill -TERM $!; wait $!; umask 077; trap 'echo t' USR1; kill -USR1 $$",
    "find": "find /etc -maxdepth 2 -name '*.conf' -newer /etc/hostname -printf '%m %p\\n' >out",
    "grep": "grep -rIl --include='*.conf' root /etc/security /etc/ld.so.conf.d /etc/host.conf",
    "sed and awk": "seq 200 >n; sed -i 's/1/one/' n; awk '{s += NR} END {print s | \"cat\"}' n",
    "tar": "mkdir t; seq 5000 >t/a; cp t/a t/b; tar czf t.tgz t; rm -r t; tar xzf t.tgz; tar tzf t.tgz",
    "compress": "seq 20000 >n; xz -k n; bzip2 -k n; gzip n; xz -dc n.xz | cmp - <(zcat n.gz)",
    "gcc": "printf '#include <stdio.h>\\nint main(void){puts(\"hi\");return 7;}' >m.c; gcc -O1 -o m m.c; ./m",
    "make": "printf 'all: a b\\na b:\\n\\techo $@ >$@\\n' >Makefile; make -j2 all",
    "git": "git init -q r; cd r; git config user.email a@b; git config user.name a; echo 1 >f; git add f; "
    "git commit -qm one; git checkout -qb other; echo 2 >f; git commit -qam two; git log --oneline; git diff HEAD~1",
    "perl": 'perl -e \'use POSIX; open F,">f"; print F "x" x 9000; close F; rename "f","g"; mkdir "d",0711; '
    "utime 1,2,\"g\"; if(!fork){exec \"true\"} wait; unlink \"g\"; socket S,2,1,6; print getppid'",
    "python": f"{PYTHON} -I -c 'import os, subprocess, threading, tempfile; subprocess.run([\"true\"]); "
    "t = [threading.Thread(target=os.listdir, args=(\"/etc\",)) for _ in range(4)]; [x.start() for x in t]; "
    "[x.join() for x in t]; os.memfd_create(\"m\"); os.pipe(); os.eventfd(3); tempfile.mkdtemp(dir=\".\")'",
    "http server and client": f"{PYTHON} -I serve.py",
    "nginx": NGINX,
    "curl refused": "curl -s http://127.0.0.1:1/; curl -s http://[::1]:1/; wget -q -t1 http://127.0.0.1:1/",
    "openssl": "openssl genpkey -algorithm ed25519 -out k; openssl pkey -in k -pubout; openssl rand -hex 20 >r; "
    "openssl dgst -sha256 r",
    "ssh-keygen": "ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -lf key.pub",
    "sockets": f"{PYTHON} -I -c 'import socket as s; a, b = s.socketpair(); a.send(b\"x\" * 99); b.recv(50); "
    "u = s.socket(s.AF_INET, s.SOCK_DGRAM); u.bind((\"127.0.0.1\", 0)); u.sendto(b\"hi\", u.getsockname()); "
    "u.recvfrom(9); u.setsockopt(s.SOL_SOCKET, s.SO_BROADCAST, 1); n = s.socket(s.AF_UNIX); n.bind(\"un\"); "
    "n.listen(3); m = s.socket(s.AF_UNIX); m.connect(\"un\"); k, _ = n.accept(); k.shutdown(s.SHUT_RDWR); "
    "a.sendmsg([b\"a\", b\"b\"]); b.recvmsg(9); v = s.create_server((\"::1\", 0), family=s.AF_INET6); "
    "s.create_connection(v.getsockname()[:2]); v.accept()'",
    "package made and installed": f"{PACK}; dpkg --root=$PWD/root --force-not-root --log=/dev/null -i t.deb; "
    "dpkg-query --admindir=$PWD/root/var/lib/dpkg -L t",
    "package query in a chroot": "chroot / dpkg-query -W -f='${Package}\\n' 'lib*'",
    "namespaces": "unshare --mount --uts --pid --fork --mount-proc sh -c 'hostname t; mount -t tmpfs t /mnt; "
    "ls /proc; umount /mnt'",
    "other user": f"{PYTHON} -I -c 'import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
    "open(\"/etc/shadow\")'",
    "sqlite": f"{PYTHON} -I -c 'import sqlite3; d = sqlite3.connect(\"d\"); d.execute(\"create table t (a)\"); "
    "d.executemany(\"insert into t values (?)\", ((n,) for n in range(500))); d.commit(); "
    "d.execute(\"pragma journal_mode = wal\"); d.execute(\"delete from t where a > 9\"); d.commit(); d.close()'",
    "text tools": "seq 50 | shuf | head -20 | uniq | paste - - | nl | split -l 3 - s; dd if=/dev/zero of=z bs=4k "
    "count=5; truncate -s 10M z; cmp z z; df . ; id; uname -a; date",
}  # fmt: skip


class Recorder:
    """A capture, and a larger one in its place once records were lost."""

    def __init__(self) -> None:
        self._sizes = list(RINGS_MIB)
        self._open()

    def _open(self) -> None:
        self.size_mib = self._sizes.pop(0)
        self.capture = Capture(types=TYPES, ring_bytes=self.size_mib << 20)
        self.capture.__enter__()

    def close(self) -> None:
        self.capture.__exit__(None, None, None)

    def grow(self) -> bool:
        """Take larger rings; False where these are the largest."""
        if not self._sizes:
            return False
        self.close()
        self._open()
        return True


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    try:
        yield recorder
    finally:
        recorder.close()


def run(capture: Capture, out: Path, folder: Path, argv: Sequence[str]) -> tuple[list[Event], int]:
    """Run a program under strace, which writes to `out`: our events, and how many records were lost meanwhile."""
    names = ",".join(n for n in NAMES)
    before = capture.source.books().lost
    child = subprocess.Popen(
        ["strace", "-f", "-q", "-s", "512", "-xx", "--decode-pids=none", "-X", "raw", "-e",
         f"trace={names}", "-o", str(out), *argv],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"},
    )  # fmt: skip
    events = list(capture.of_family(child.pid))
    child.wait()
    return events, capture.source.books().lost - before


def compared(name: str, out: Path, events: list[Event]) -> list[str]:
    """What the two accounts of a run tell differently."""
    first, calls, ends = read_strace(out)
    ours: dict[int, list[Event]] = defaultdict(list)
    for e in events:
        if e.type in TYPES and e.tid in calls and (e.tid != first or ours[first] or e.type is E.EXECVE):
            ours[e.tid].append(e)
    wrong = []
    for tid, all_lines in calls.items():
        lines, told = ended_with(all_lines, ours[tid])
        for line, event in zip(lines, told, strict=False):
            if line.type is not event.type:
                wrong.append(f"{tid}: {line.text[:200]}: our {event.type.value} = {event.res}")
                break
            wrong += [f"{line.text[:200]}: our {what}" for what in differences(line, event)]
        else:
            if len(lines) != len(told):
                more = [x.text[:200] for x in lines[len(told) :]] or [f"our {e.type.value}" for e in told[len(lines) :]]
                wrong.append(f"{tid}: only one tells {more[:5]}")
    processes = {e.process.pid for told in ours.values() for e in told}
    status = {e.process.pid: e.res for e in events if e.type is E.PROCEXIT}
    wrong += [
        f"{pid} ended {ends.get(pid)}: our {status.get(pid)}" for pid in processes if ends.get(pid) != status.get(pid)
    ]
    count = sum(map(len, calls.values()))
    print(f"{name}: {len(calls)} threads, {count} calls")
    assert count > 100, "the program did not run"
    return wrong


def compare(name: str, recorder: Recorder, tmp_path: Path, argv: Callable[[Path], Sequence[str]]) -> None:
    """Run it until the two accounts are the same, again only where records were lost."""
    for attempt in range(len(RINGS_MIB)):
        folder = tmp_path / str(attempt)
        folder.mkdir(mode=0o755)
        out = folder.with_suffix(".strace")
        events, lost = run(recorder.capture, out, folder, argv(folder))
        wrong = compared(name, out, events)
        if not wrong:
            return
        assert lost, "\n" + "\n".join(wrong[:40])
        if not recorder.grow():
            break
    pytest.fail(f"records were lost each time: {lost} with rings of {recorder.size_mib} MiB. This machine is too busy")


@pytest.mark.parametrize("name", PROGRAMS)
def test_strace_tells_the_same(name: str, recorder: Recorder, tmp_path: Path) -> None:
    def argv(folder: Path) -> Sequence[str]:
        (folder / "serve.py").write_text(SERVE)
        return ["bash", "-c", PROGRAMS[name]]

    compare(name, recorder, tmp_path, argv)


@pytest.mark.docker
def test_a_package_is_installed_in_a_container(
    recorder: Recorder, tmp_path: Path, docker_engine: DockerEngine, nginx_image: str
) -> None:
    """By apt from a repository of files, in a real container that strace enters: its namespaces, its overlay."""
    subprocess.run(["bash", "-c", REPOSITORY], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    made: list[str] = []

    def argv(folder: Path) -> Sequence[str]:
        made.append(docker_engine.run(nginx_image, "sleep", "1h", options=(f"--volume={tmp_path}/repo:/repo:ro",)))
        pid = docker_engine.client("inspect", "--format={{.State.Pid}}", made[-1])
        return ["nsenter", f"--target={pid}", "--all", "sh", "-c", APT]

    try:
        compare("apt in a container", recorder, tmp_path, argv)
        assert docker_engine.exec(made[-1], "/opt/t/f") == "hello"
    finally:
        for container in made:
            docker_engine.remove(container)


def line_of(type_: E, res: int | None) -> Line:
    return Line(type_, [], res, "")


def test_the_call_in_which_a_thread_was_killed_is_left_out() -> None:
    """The kernel may have come to its end, or not; what stands before it counts, and nothing behind it."""
    read, poll = made(E.READ, res=3), made(E.POLL, res=-4)
    for told in ([read], [read, poll]):
        lines, left = ended_with([line_of(E.READ, 3), line_of(E.POLL, None)], told)
        assert ([x.type for x in lines], left) == ([E.READ], [read])
    assert ended_with([line_of(E.READ, 3)], [read, poll])[1] == [read, poll]
    assert ended_with([line_of(E.READ, 3), line_of(E.WRITE, None)], [read, poll])[1] == [read, poll]
    assert ended_with([line_of(E.POLL, None)], [read, poll])[1] == [read, poll]


def test_what_strace_writes_of_the_killed_is_read(tmp_path: Path) -> None:
    rows = [
        '7 read(3, "\\x61", 1) = 1',
        "8 read(3,  <unfinished ...>",
        "9 nanosleep({tv_sec=1, tv_nsec=0},  <unfinished ...>",
        '7 write(1, "\\x61", 1 <unfinished ...>) = ?',
        "8 <... read resumed> <unfinished ...>) = ?",
        "9 <... nanosleep resumed>NULL) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)",
        "9 ????( <unfinished ...>",
        "9 openat(-100, 0x7f, 0) = ? <unavailable>",
        "10 poll([], 0, -1 <unfinished ...>",
        "10 +++ exited with 3 +++",
        "7 +++ killed by SIGKILL +++",
        "8 +++ exited with 3 +++",
        "9 +++ superseded by execve in pid 7 +++",
    ]
    (tmp_path / "out").write_text("\n".join(rows))
    first, calls, ends = read_strace(tmp_path / "out")
    assert first == 7
    assert {tid: [(x.type, x.res) for x in lines] for tid, lines in calls.items()} == {
        7: [(E.READ, 1), (E.WRITE, None)],
        8: [(E.READ, None)],
        9: [(E.NANOSLEEP, -516), (E.OPENAT, None)],
        10: [(E.POLL, None)],
    }
    assert ends == {7: 9, 8: 3 << 8, 10: 3 << 8}


@pytest.mark.parametrize("wrong", [{"res": 4}, {"name": "/b"}, {"flags": 0x240}, {"mode": 0o600}, {"dirfd": 3}])
def test_what_differs_is_told(wrong: dict[str, Any]) -> None:
    line = Line(E.OPENAT, ["-100", r'"\x2f\x61"', "0x241", "0644"], 3, "")
    right: dict[str, Any] = {"res": 3, "dirfd": -100, "name": "/a", "flags": 0x241, "mode": 0o644}
    assert not list(differences(line, made(E.OPENAT, **right)))
    assert len(list(differences(line, made(E.OPENAT, **right | wrong)))) == 1
