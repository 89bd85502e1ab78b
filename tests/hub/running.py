"""A whole hub, started as its operator starts it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.hub.actions import export, status_of
from appliance.hub.settings import HubSettings

TERCEL = [sys.executable, "-m", "appliance.cli.main", "hub"]


@dataclass
class Hub:
    """`tercel hub run` at work."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path
    config: Path
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """One of the other actions over the same configuration."""
        return hub(*argv, "-c", str(self.config))

    def status(self) -> dict[str, Any]:
        """What `tercel hub status --json` prints."""
        return status_of(HubSettings(data_dir=self.data_dir))

    def exported(self) -> list[dict[str, Any]]:
        """What `tercel hub export` prints."""
        stream = io.BytesIO()
        export(HubSettings(data_dir=self.data_dir), stream)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    def parts(self) -> dict[str, int]:
        """Process ids of its parts that run, by name."""
        found = {}
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # ended meanwhile
                comm = Path(f"/proc/{child}/comm").read_text().strip()
                if comm.startswith("hub-"):
                    found[comm.removeprefix("hub-")] = int(child)
        return found


def hub(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run an action."""
    return subprocess.run([*TERCEL, *argv], capture_output=True, text=True, timeout=60, check=False)


def until(holds: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def running(
    folder: Path, config: str = "", *, environment: dict[str, str] | None = None, sidekick: Path | None = None
) -> Iterator[Hub]:
    """A hub with a configuration, ours or Falcosidekick's file; its data stays in `folder`. At the end it gets SIGTERM
    and must end well."""
    folder.mkdir(exist_ok=True)
    file = sidekick or folder / "tercel-hub.yaml"
    if sidekick is None:
        file.write_text(f"data_dir: {folder}/data\n{config or 'collector: {port: 0}'}\n")
    log = folder / "log"
    before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*TERCEL, "run", "-c", file, "-o", "page.enabled=false", "-o", f"data_dir={folder}/data"],
            stderr=stream,
            env=os.environ | (environment or {}),
        )
    made = Hub(process, folder / "data", log, file)

    def told() -> str:
        return log.read_bytes()[before:].decode()

    try:
        until(lambda: "ready" in told() or process.poll() is not None, "the hub")
        assert process.poll() is None, told()
        found = re.search(r"collector: .*:(\d+), data", told())
        assert found
        made.port = int(found[1])
        yield made
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, told()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
