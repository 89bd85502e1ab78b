"""The whole way: a system call, an alert, its spool, and the other machine's end, through outages and kills."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.support import receivers
from tests.support.certificates import make_certificates
from tests.support.daemon import COMMAND, ROOT, Daemon
from tests.support.receivers import closed_port, http_receiver, remote_rsyslog

pytestmark = pytest.mark.kernel

wait_until = partial(receivers.wait_until, patience_s=120)

RULES = """
- rule: Delivered program
  desc: d
  condition: evt.type in (execve, execveat) and evt.failed = false and proc.name = NAME
  output: ran %proc.cmdline
  priority: WARNING
"""


def test_alerts_outlive_outages_kills_rotations_and_reloads(tmp_path: Path) -> None:
    """To rsyslog over TLS, an HTTP receiver, and a file that a real logrotate moves away."""
    name = f"deliver{os.getpid()}"
    program = tmp_path / name
    shutil.copy("/bin/true", program)
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES.replace("NAME", name))
    (tmp_path / "c").mkdir()
    certificates = make_certificates(tmp_path / "c")
    count = 0

    def act(times: int) -> None:
        nonlocal count
        for _ in range(times):
            subprocess.run([program, str(count)], check=True)
            count += 1

    def on_disk(number: int) -> bool:
        return all(
            f"{name} {number}".encode() in b"".join(f.read_bytes() for f in (tmp_path / "spool" / sink).glob("*.seg"))
            for sink in ("http_output", "syslog_output")
        )

    with remote_rsyslog(tmp_path, "tls", certificates) as syslog, http_receiver() as http, closed_port() as nobodys:
        config = {
            "http_output": {"enabled": True, "url": f"http://127.0.0.1:{nobodys}/", "timeout_ms": 60_000},
            "syslog_output": {"enabled": True, "url": syslog.url, "ca_cert": str(certificates / "ca.pem")},
            "spool": {"path": str(tmp_path / "spool"), "min_free_mib": 0, "retry_max_ms": 300},
        }
        daemon = Daemon(tmp_path, config, rules=[rules])
        daemon.start()
        act(10)
        wait_until(lambda: sum(f"{name} " in line for line in syslog.lines()) == 10, "the messages over TLS")
        wait_until(lambda: len(daemon.alerts("Delivered program")) == 10, "the lines in the file")
        rotate = tmp_path / "logrotate.conf"
        rotate.write_text(
            f"{daemon.file} {{\n rotate 3\n create 0600\n su root root\n"
            f" postrotate\n  kill -USR1 {daemon.pid}\n endscript\n}}\n"
        )
        rotate.chmod(0o600)
        subprocess.run(["/usr/sbin/logrotate", "-f", "-s", tmp_path / "state", rotate], check=True)
        act(10)
        wait_until(lambda: len(daemon.alerts("Delivered program")) == 10, "the lines in the new file")
        assert (tmp_path / "alerts.json.1").read_text().count("Delivered program") == 10
        wait_until(lambda: sum(f"{name} " in line for line in syslog.lines()) == 20, "the messages over TLS")
        syslog.kill()  # it has read them: of what it has not only the sender knows, and that is killed, too
        act(10)
        wait_until(lambda: on_disk(29), "the spools")
        assert daemon.process is not None
        daemon.process.kill()
        assert daemon.process.wait() == -signal.SIGKILL
        daemon.process = None

        syslog.start()
        with Daemon(tmp_path, config, rules=[rules]) as daemon:
            act(5)
            wait_until(lambda: "http_output: cannot deliver" in daemon.errors(), "the trouble in the log")
            file = tmp_path / "tercel.yaml"
            changed = yaml.safe_load(file.read_text())
            changed["http_output"]["url"] = http.url
            file.write_text(yaml.safe_dump(changed))
            os.kill(daemon.pid, signal.SIGHUP)
            wait_until(lambda: any(f"{name} 34".encode() in b for b in list(http.bodies)), "what waited, by HTTP")
            wait_until(
                lambda: any(f'proc.cmdline="{name} 34"' in line for line in syslog.lines()),
                "what waited, by syslog",
            )
        assert re.search(r"http_output: delivered \d+, lost 0\n", daemon.errors())
        assert re.search(r"syslog_output: delivered \d+, lost 0\n", daemon.errors())
        by_http = [(a["rule"], a["output_fields"].get("proc.cmdline")) for a in http.alerts()]
        ids = [h["Tercel-Alert-Id"] for h in http.headers]
    assert [told for rule, told in by_http if rule == "Delivered program"] == [f"{name} {n}" for n in range(35)]
    assert len(set(ids)) == len(ids), "nothing came twice by HTTP: it was away until the reload"
    found = [int(n) for line in syslog.lines() for n in re.findall(rf'proc\.cmdline="{name} (\d+)"', line)]
    assert list(dict.fromkeys(found)) == list(range(35)), "in order, some of them perhaps twice"


def test_a_standard_error_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    """The pipe is full when the loop wants to log that a queue is full. Alerts go on to the file."""
    name = f"unread{os.getpid()}"
    program = tmp_path / name
    shutil.copy("/bin/true", program)
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES.replace("NAME", name))
    file = tmp_path / "alerts.json"
    config = tmp_path / "tercel.yaml"
    settings = {
        "rules_files": [str(rules)],
        "json_output": True,
        "stdout_output": {"enabled": False},
        "file_output": {"enabled": True, "filename": str(file)},
        # alerts of 64 KiB fill the pipe of a program that does not read, and then its queue
        "program_output": {"enabled": True, "keep_alive": True, "program": ["sleep", "60"]},
        "output_timeout_ms": 3000,
        "outputs_queue": {"capacity": 5},
        "control_socket": str(tmp_path / "control.sock"),
    }
    config.write_text(yaml.safe_dump(settings))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [COMMAND, "run", "-c", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer, cwd=ROOT
    )
    try:
        said = b""
        while b"end with ^C\n" not in said:
            assert select.select([reader], [], [], 240)[0], said
            said += os.read(reader, 4096)
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x")
        os.set_blocking(writer, True)
        for n in range(30):
            subprocess.run([program, str(n), "x" * 100_000], check=True)
            wait_until(lambda n=n: file.exists() and file.read_text().count(f'"{name} {n} x') >= 1, f"alert {n}")
        os.close(writer)
        process.terminate()
        rest = b""
        while b"file_output: delivered" not in rest:  # not to its end: the program has it, too
            assert select.select([reader], [], [], 240)[0], rest
            rest += os.read(reader, 65536)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(reader)
    assert b"program_output: alerts were lost" in rest
