"""What a process changes about itself is known at its next event: name, session, group, rights, root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from appliance.model.event import Event, EventType
from tests.support.capture import Capture

pytestmark = pytest.mark.kernel


def after(capture: Capture, change: str, **options: object) -> tuple[Event, Event]:
    """The events of a mkdir before a change and of one behind it."""
    script = f"import ctypes, os, sys\nlibc = ctypes.CDLL(None)\nos.mkdir('before')\n{change}\nos.mkdir('behind')\n"
    pid, events = capture.run([sys.executable, "-c", script], **options)
    made = [e for e in events if e.type is EventType.MKDIR and e.process.pid == pid]
    assert [e.res for e in made] == [0, 0]
    return made[0], made[1]


@pytest.mark.parametrize(
    ("text", "name"), [("renamed", "renamed"), ("x" * 40, "x" * 15), ("a b\\xff", "a b\udcff"), ("", "")]
)
def test_a_new_name(capture: Capture, tmp_path: Path, text: str, name: str) -> None:
    before, behind = after(capture, f"assert libc.prctl(15, b'{text}', 0, 0, 0) == 0", cwd=tmp_path)
    assert before.process.name != name
    assert behind.process.name == name


def test_the_name_of_another_thread_is_not_the_process_s(capture: Capture, tmp_path: Path) -> None:
    change = (
        "import threading\n"
        "t = threading.Thread(target=lambda: libc.prctl(15, b'of-a-thread', 0, 0, 0)); t.start(); t.join()"
    )
    before, behind = after(capture, change, cwd=tmp_path)
    assert behind.process.name == before.process.name


def test_a_name_given_without_a_call_for_it(capture: Capture, tmp_path: Path) -> None:
    """Through /proc/PID/comm, by another thread of the process or by the first itself."""
    change = (
        "import threading\n"
        "def name(text): open(f'/proc/{os.getpid()}/comm', 'w').write(text)\n"
        "t = threading.Thread(target=name, args=('given-by-another-thread',)); t.start(); t.join()\n"
        "os.mkdir('one')\nname('own-hand')"
    )
    pid, events = capture.run([sys.executable, "-c", f"import os\n{change}\nos.mkdir('two')"], cwd=tmp_path)
    made = [e for e in events if e.type is EventType.MKDIR and e.process.pid == pid]
    assert [e.process.name for e in made] == ["given-by-anothe", "own-hand"]


def test_a_name_given_to_another_thread_is_not_the_process_s(capture: Capture, tmp_path: Path) -> None:
    change = (
        "import threading\n"
        "go = threading.Event(); t = threading.Thread(target=go.wait); t.start()\n"
        "open(f'/proc/self/task/{t.native_id}/comm', 'w').write('of-a-thread'); go.set(); t.join()"
    )
    before, behind = after(capture, change, cwd=tmp_path)
    assert behind.process.name == before.process.name


def test_a_new_session(capture: Capture, tmp_path: Path) -> None:
    _, behind = after(capture, "os.setsid()", cwd=tmp_path)
    pid = behind.process.pid
    assert (behind.process.sid, behind.process.pgid, behind.process.tty) == (pid, pid, 0)


def test_a_new_group_of_ones_own(capture: Capture, tmp_path: Path) -> None:
    before, behind = after(capture, "os.setpgid(0, 0)", cwd=tmp_path)
    assert before.process.pgid != before.process.pid
    assert behind.process.pgid == behind.process.pid


def test_a_group_given_by_the_parent(capture: Capture, tmp_path: Path) -> None:
    """As a shell with job control does it: the child is put into a group before it runs on."""
    script = (
        "import os, sys\nr, w = os.pipe()\npid = os.fork()\n"
        "if pid == 0:\n os.read(r, 1); os.mkdir('made'); os._exit(0)\n"
        "os.setpgid(pid, pid); os.write(w, b'.'); os.waitpid(pid, 0)"
    )
    _, events = capture.run([sys.executable, "-c", script], cwd=tmp_path)
    made = next(e for e in events if e.type is EventType.MKDIR and e.path == str(tmp_path / "made"))
    assert made.process.pgid == made.process.pid


def test_rights_given_up(capture: Capture, tmp_path: Path) -> None:
    change = (
        "import struct\nhead = ctypes.create_string_buffer(struct.pack('Ii', 0x20080522, 0))\n"
        "assert libc.capset(head, ctypes.create_string_buffer(struct.pack('IIIIII', 1, 3, 0, 0, 0, 0))) == 0"
    )
    before, behind = after(capture, change, cwd=tmp_path)
    assert (before.process.cap_effective or 0) > 1
    assert (behind.process.cap_effective, behind.process.cap_permitted) == (1, 3)


def test_rights_in_a_user_namespace(capture: Capture) -> None:
    with tempfile.TemporaryDirectory() as folder:  # which anybody may enter
        Path(folder).chmod(0o777)
        _, behind = after(capture, "os.setuid(65534)\nassert libc.unshare(0x10000000) == 0", cwd=folder)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert behind.process.uid == 65534
    assert behind.process.cap_effective == 2 ** (last + 1) - 1


def test_what_proc_says_is_what_we_say(capture: Capture, tmp_path: Path) -> None:
    """After many changes at once, the process's own look at /proc."""
    change = (
        "import json\nlibc.prctl(15, b'many', 0, 0, 0); os.setsid(); os.setgid(7); os.setuid(0)\n"
        "stat = open('/proc/self/stat').read().rpartition(')')[2].split()\n"
        "json.dump([open('/proc/self/comm').read().strip(), int(stat[3]), int(stat[2]), os.getgid()], open('t', 'w'))"
    )
    _, behind = after(capture, change, cwd=tmp_path)
    process = behind.process
    assert [process.name, process.sid, process.pgid, process.gid] == json.loads((tmp_path / "t").read_text())


def test_a_new_root_is_an_event_with_the_path_as_seen_from_the_old(capture: Capture, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    child = [sys.executable, "-c", "import os; os.chroot('root'); os.chdir('/')"]
    pid, events = capture.run(child, cwd=tmp_path, stdin=subprocess.DEVNULL, env=os.environ)
    event = next(e for e in events if e.process.pid == pid and e.type is EventType.CHROOT)
    assert (event.res, event.path) == (0, str(tmp_path / "root"))
