"""Descriptors as rules see them, in the daemon as its user starts it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = pytest.mark.kernel

RULES = """
- rule: Connected by name
  desc: d
  condition: evt.type = connect and fd.sip.name = localhost and fd.sport = {port} and evt.rawres = 0
  output: connected (name=%fd.sip.name connection=%fd.name connected=%fd.connected changed=%fd.name_changed)
  priority: NOTICE

- rule: A shell on a socket
  desc: d
  condition: evt.type = execve and evt.failed = false and proc.stdin.type = ipv4 and proc.stdin.name contains ":{port}"
  output: shell (stdin=%proc.stdin.name stdout=%proc.stdout.name stderr=%proc.stderr.name)
  priority: NOTICE

- rule: Served
  desc: d
  condition: evt.type in (accept, accept4) and fd.sport = {port} and fd.is_server = true
  output: served (connection=%fd.name lport=%fd.lport proto=%fd.sproto)
  priority: NOTICE
"""
CODE = """
import os, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
os.dup2(s.fileno(), 0)
os.execv("/bin/true", ["true"])
"""


def test_a_connection_by_name_a_shell_on_it_and_its_server(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        rules.write_text(RULES.replace("{port}", str(port)))
        with Daemon(tmp_path, {"rule_matching": "all"}, rules=[rules]) as daemon:
            deadline = time.monotonic() + 90
            while not daemon.alerts("Connected by name") and time.monotonic() < deadline:  # it is looked up meanwhile
                subprocess.run([sys.executable, "-S", "-E", "-c", CODE, str(port)], check=True)
                server.accept()[0].close()
                time.sleep(0.05)
            named = daemon.wait_for(lambda a: a["rule"] == "Connected by name")["output_fields"]
            shell = daemon.wait_for(lambda a: a["rule"] == "A shell on a socket")["output_fields"]
            served = daemon.wait_for(lambda a: a["rule"] == "Served")["output_fields"]
    assert named["fd.sip.name"] == "localhost" and named["fd.name"].endswith(f"->127.0.0.1:{port}")
    assert (named["fd.connected"], named["fd.name_changed"]) == (True, True)
    assert shell["proc.stdin.name"].endswith(f"->127.0.0.1:{port}")
    assert served["fd.name"].endswith(f"->127.0.0.1:{port}")
    assert (served["fd.lport"], served["fd.sproto"]) == (port, str(port))
