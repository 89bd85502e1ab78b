"""What README.md and docs/hub.md tell a newcomer to do with the page, done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub.web.conftest import ROOT, free_port

TERCEL = [sys.executable, "-m", "appliance.cli.main", "hub"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """`make demo`, smaller and at other ports: (address, one-time password, folder)."""
    recipe = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "packaging/try_hub.py --demo" in recipe
    folder = tmp_path_factory.mktemp("demo")
    argv = ["packaging/try_hub.py", "--demo", "--alerts", "3000", "--folder", str(folder)]
    ports = ["--page-port", str(free_port()), "--collector-port", str(free_port())]
    process = subprocess.Popen([sys.executable, *argv, *ports], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = ""
    assert process.stdout is not None
    while "Ctrl-C" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    address, password = re.search(r"(http://\S+/)", said), re.search(r"one-time password: (\S+)", said)
    assert address is not None
    assert password is not None
    yield address[1], password[1], folder
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()


def hub(folder: Path, *argv: str, typed: str = "") -> str:
    done = subprocess.run(
        [*TERCEL, *argv, "-c", str(folder / "tercel-hub.yaml")],
        cwd=ROOT,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demonstration_as_a_newcomer_sees_it(demo: tuple[str, str, Path]) -> None:
    address, password, _ = demo
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        said = client.post("/login", data={"name": "admin", "password": password})
        assert "Choose a password of your own" in said.text
        csrf = said.text.split('data-csrf="')[1].split('"')[0]
        said = client.post("/me/password", data={"csrf": csrf, "old": password, "new": "one of my own"})
        ends = time.monotonic() + 30
        while "3,000</b> alerts" not in client.get("/?range=7d").text and time.monotonic() < ends:
            time.sleep(0.1)
        page = client.get("/?range=7d").text
        assert "<b>3,000</b> alerts" in page
        assert "Drop and execute new binary in container" in page
        made = client.post("/me/tokens", data={"csrf": page.split('data-csrf="')[1].split('"')[0], "name": "t"})
    token = made.text.split('id="made">')[1].split("<")[0]
    text = (ROOT / "docs/hub.md").read_text()
    commands = [line for line in text.splitlines() if line.startswith('curl -H "Authorization')]
    assert len(commands) == 2
    for command in commands:
        command = command.replace("http://127.0.0.1:2802/", address).replace(">alerts.ndjson", "")
        done = subprocess.run(
            ["sh", "-c", command.replace("curl ", "curl -sf ")],
            env={**os.environ, "TOKEN": token},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout.splitlines()[0])


def test_users_and_exceptions_from_the_terminal(demo: tuple[str, str, Path]) -> None:
    folder = demo[2]
    text = (ROOT / "docs/hub.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("tercel hub user add"))
    argv = line.split()[2:-2]
    assert argv == ["user", "add", "ann", "--role", "admin"]
    assert "added ann, admin" in hub(folder, *argv, typed="correct horse battery\n")
    assert "ann  admin  local  may log in" in hub(folder, "user")
    hub(folder, "user", "disable", "ann")
    assert "ann  admin  local  disabled" in hub(folder, "user", "list")
    first = json.loads(hub(folder, "export", "--limit", "1").splitlines()[0])
    assert "It would have silenced" in hub(folder, "tune", first["uuid"])


def test_the_index_is_made_again_by_one_command(tmp_path: Path) -> None:
    (tmp_path / "tercel-hub.yaml").write_text(f"data_dir: {tmp_path / 'data'}\n")
    hub(tmp_path, "demo", "--limit", "2000")
    assert "2,000 alerts indexed" in hub(tmp_path, "reindex")
    assert "left as it is" in hub(tmp_path, "demo", "--limit", "10")


@pytest.mark.kernel
def test_this_host_is_attached(tmp_path: Path) -> None:
    """`make hub`: an act on this host is an alert in the hub."""
    recipe = subprocess.run(["make", "-n", "hub"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "packaging/try_hub.py" in recipe
    ports = ["--page-port", str(free_port()), "--collector-port", str(free_port())]
    argv = [sys.executable, "packaging/try_hub.py", "--folder", str(tmp_path), *ports]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 90
        while "Read of a sensitive file" not in (said := exported(tmp_path)):
            assert time.monotonic() < ends, said
            assert process.poll() is None
            subprocess.run(["cat", "/etc/shadow"], stdout=subprocess.DEVNULL, check=True)
            time.sleep(1)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0


def exported(folder: Path) -> str:
    """What the hub has of this host; nothing before it has started."""
    config = folder / "tercel-hub.yaml"
    if not config.exists():
        return ""
    argv = [*TERCEL, "export", "-c", str(config)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False).stdout
