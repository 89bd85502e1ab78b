"""`tercel run` on the real kernel: what a person does, and what every output then holds."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.support.daemon import COMMAND, ROOT, Daemon
from tests.support.receivers import http_receiver, rsyslog, wait_until

pytestmark = pytest.mark.kernel

RULES = """
- rule: Marked program
  desc: d
  condition: evt.type in (execve, execveat) and evt.failed = false and proc.name startswith tercel-mark
  output: ran %proc.name (user=%user.name parent=%proc.pname command=%proc.cmdline tty=%proc.tty file=%proc.exepath)
  priority: WARNING
  tags: [one, two]
- rule: Marked file
  desc: d
  condition: evt.type in (open, openat) and fd.name contains tercel-hostile
  output: opened %fd.name (failed=%evt.failed)
  priority: ERROR
"""

HOSTILE = "tercel-hostile\x1b[2J\nFake: Alert\r\u202e%n{}\x9b\udcff<b>"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    return file


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A program that nobody else runs."""
    program = tmp_path / "tercel-mark"
    shutil.copy("/bin/true", program)
    return program


def balanced(daemon: Daemon) -> None:
    """The books of a run that has ended close."""
    numbers = {name: daemon.summary_number(name) for name in ("produced", "judged", "lost")}
    assert numbers["produced"] == numbers["judged"] + numbers["lost"], daemon.errors()
    assert "unaccounted" not in daemon.errors()


def test_twenty_three_of_twenty_three(tmp_path: Path, rules: Path, marked: Path) -> None:
    with Daemon(tmp_path, rules=[rules]) as daemon:
        for n in range(23):
            subprocess.run([marked, str(n)], check=True)
        wait_until(lambda: len(daemon.alerts("Marked program")) >= 23, "the alerts")
        daemon.settle()
    alerts = daemon.alerts("Marked program")
    assert Counter(a["output_fields"]["proc.cmdline"] for a in alerts) == Counter(f"tercel-mark {n}" for n in range(23))
    fields = alerts[0]["output_fields"]
    assert fields["user.name"] == "root"
    assert fields["proc.exepath"] == str(marked)
    assert "lost 0" in daemon.errors()
    assert "    23  Marked program" in daemon.errors()
    balanced(daemon)


def test_every_output_tells_the_same(tmp_path: Path, rules: Path, marked: Path) -> None:
    """A real syslog daemon, a real HTTP receiver, a file and a program, with names that want to be orders."""
    lines = tmp_path / "program.out"
    schema = json.loads((ROOT / "schemas/alert.schema.json").read_text())
    with rsyslog(tmp_path) as syslog, http_receiver() as http:
        config = {
            "syslog_output": {"enabled": True, "socket": str(syslog.socket), "facility": "local3"},
            "http_output": {"enabled": True, "url": http.url, "timeout_ms": 60_000},
            "program_output": {"enabled": True, "keep_alive": True, "program": ["dd", f"of={lines}", "status=none"]},
            "stdout_output": {"enabled": True},
            "output_timeout_ms": 60_000,
        }
        with Daemon(tmp_path, config, rules=[rules]) as daemon:
            (tmp_path / HOSTILE).touch()
            subprocess.run([marked, HOSTILE.encode(errors="surrogateescape")], check=True)
            wait_until(lambda: len(http.bodies) == 2 and len(syslog.lines()) == 2, "the alerts")
        told = daemon.alerts()
        assert sorted(a["rule"] for a in told) == ["Marked file", "Marked program"]
        for alert in told:
            jsonschema.validate(alert, schema)
        assert http.alerts() == told
        assert {h["Content-Type"] for h in http.headers} == {"application/json; charset=utf-8"}
        assert [json.loads(line) for line in lines.read_text().splitlines()] == told
        assert [json.loads(line) for line in daemon.output().splitlines()] == told
        by_priority = {json.loads(line.partition(": ")[2])["priority"]: line.split()[0] for line in syslog.lines()}
        assert by_priority == {"Error": str(19 * 8 + 3), "Warning": str(19 * 8 + 4)}
        assert [json.loads(line.partition(": ")[2]) for line in syslog.lines()] == told
        for text in (daemon.file.read_text(), lines.read_text(), daemon.output(), *syslog.lines()):
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
    for sink in ("stdout", "file", "syslog", "http", "program"):
        assert f"{sink}_output: delivered 2, lost 0" in daemon.errors()
    balanced(daemon)


def test_text_on_a_terminal_is_one_coloured_line(tmp_path: Path, rules: Path, marked: Path) -> None:
    master, slave = pty.openpty()
    config = tmp_path / "tercel.yaml"
    config.write_text(json.dumps({"rules_files": [str(rules)]}))
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen(
        [COMMAND, "run", "-c", config], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
    )
    os.close(slave)
    text = ""

    def read_until(mark: str) -> None:
        nonlocal text
        deadline = time.monotonic() + 240
        while mark not in text:
            assert time.monotonic() < deadline, text
            text += os.read(master, 65536).decode(errors="replace")

    try:
        read_until("armed")
        subprocess.run([marked, "a\x1b[31mb\nc"], check=True)
        read_until("\x1b[0m")
        process.send_signal(signal.SIGINT)
        read_until("alerts    1")
        assert process.wait(120) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    (line,) = [line for line in text.split("\r\n") if "ran tercel-mark" in line]
    assert re.fullmatch(
        r"\x1b\[33m\d\d:\d\d:\d\d\.\d{9}: Warning ran tercel-mark \(user=root .* command=tercel-mark "
        r"a\\x1b\[31mb\\nc .*\)\x1b\[0m",
        line,
    )


def test_two_megabytes_of_command_line(tmp_path: Path, rules: Path, marked: Path) -> None:
    with Daemon(tmp_path, rules=[rules]) as daemon:
        subprocess.run([marked, *("x" * 100_000 for _ in range(19))], check=True, env={})
        alert = daemon.wait_for(lambda a: a["rule"] == "Marked program")
    assert alert["output_fields"]["proc.cmdline"].startswith("tercel-mark xxxx")
    assert len(json.dumps(alert)) < 300_000
    balanced(daemon)


def test_sinks_that_fail_are_accounted_for_and_delay_nobody(tmp_path: Path, rules: Path, marked: Path) -> None:
    config = {
        "http_output": {"enabled": True, "url": "http://127.0.0.1:9/"},
        "syslog_output": {"enabled": True, "socket": str(tmp_path / "nobody")},
        "program_output": {"enabled": True, "keep_alive": True, "program": ["sleep", "1000"]},
        "output_timeout_ms": 200,
    }
    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        for _ in range(3):
            subprocess.run([marked], check=True)
        wait_until(lambda: len(daemon.alerts("Marked program")) == 3, "the alerts in the file")
        wait_until(lambda: "http_output: cannot deliver, alerts wait" in daemon.errors(), "the trouble in the log")
        wait_until(lambda: "syslog_output: alerts were lost" in daemon.errors(), "the loss in the log")
        told = daemon.wait_for(lambda a: a["rule"] == "Tercel internal: alerts lost")
        assert told["output_fields"]["sink"] == "syslog_output" and told["priority"] == "Critical"
    others = len(daemon.alerts()) - 3  # that tell of the losses
    assert f"file_output: delivered {3 + others}, lost 0" in daemon.errors()
    assert f"http_output: delivered 0, lost 0, waiting {3 + others}" in daemon.errors()
    assert "syslog_output: delivered 0, lost 3" in daemon.errors()
    assert f"program_output: delivered {3 + others}" in daemon.errors()  # they are in its pipe
    with http_receiver() as http:
        config["http_output"] = {"enabled": True, "url": http.url, "timeout_ms": 60_000}
        with Daemon(tmp_path, config, rules=[rules]) as daemon:
            wait_until(lambda: len(http.bodies) >= 3 + others, "what waited on disk")
    assert [a["rule"] for a in http.alerts()].count("Marked program") == 3


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(tmp_path: Path, rules: Path, marked: Path, full_disk: Path) -> None:
    file = full_disk / "alerts.json"
    config = {"file_output": {"enabled": True, "filename": str(file)}, "stdout_output": {"enabled": True}}
    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        for _ in range(30):
            subprocess.run([marked, "x" * 400], check=True)
        wait_until(lambda: daemon.output().count('"rule":"Marked program"') == 30, "the alerts on standard output")
        wait_until(lambda: "No space left on device" in daemon.errors(), "the loss in the log")
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert file.read_text().endswith("\n")
    found = re.search(r"file_output: delivered (\d+), lost (\d+)", daemon.errors())
    assert found is not None
    assert (int(found[1]), int(found[1]) + int(found[2])) == (len(kept), 30)


# -- what refuses to start, and says why


def refused(*argv: str | Path, prefix: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*prefix, COMMAND, "run", *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, cwd="/"
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_root() -> None:
    said = refused(prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    assert "uid 65534 may not load programs" in said
    assert "hint: run as root" in said


def test_without_btf(rules: Path) -> None:
    hide = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    said = refused("-r", rules, prefix=("unshare", "--mount", "sh", "-c", hide, "sh"))
    assert "BTF" in said
    assert "CONFIG_DEBUG_INFO_BTF" in said


def test_in_a_pid_namespace_of_its_own(rules: Path) -> None:
    said = refused("-r", rules, prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    assert "not the host's pid namespace" in said
    assert "--pid=host" in said


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("broken.yaml", b"- rule: [", "error[yaml-syntax]"),
        ("tabs.yaml", b"- rule: x\n\tdesc: y\n", "error[tab-indentation]"),
        ("binary.yaml", bytes(range(256)) * 4, "error[not-utf-8]"),
        (
            "field.yaml",
            b"- {rule: x, desc: d, condition: proc.nmae = x, output: o, priority: INFO}",
            "did you mean `proc.name`",
        ),
    ],
    ids=["broken", "tabs", "binary", "field"],
)
def test_rules_that_are_refused(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    said = refused("-r", tmp_path / name)
    assert expected in said
    assert f"{name}:1:" in said or f"{name}:2:1" in said


def test_a_rules_folder_that_is_missing(tmp_path: Path) -> None:
    assert "nowhere" in refused("-r", tmp_path / "nowhere")


def test_a_ten_megabyte_file(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    rule = "- {rule: r%d, desc: d, condition: evt.type = fork, output: o, priority: INFO}\n"
    file.write_text("".join(rule % n for n in range(140_000)))
    assert file.stat().st_size > 10_000_000
    said = refused("-r", file)
    assert "large.yaml" in said
    assert "bytes" in said


def test_wrong_configuration(tmp_path: Path) -> None:
    config = tmp_path / "tercel.yaml"
    config.write_text("stdout_ouput:\n  enabled: true\n")
    assert f"{config}:1:1" in refused("-c", config)
    assert "did you mean `stdout_output`" in refused("-c", config)
