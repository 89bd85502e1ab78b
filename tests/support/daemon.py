"""The appliance itself, started as its user starts it: the installed command, the real kernel, a config file.

with Daemon(tmp_path) as daemon:
    ... do something ...
    alert = daemon.wait_for(lambda a: a["rule"] == "...")
assert daemon.summary_number("lost") == 0
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / ".venv" / "bin" / "tercel"
PROGRAMS = Path(tempfile.gettempdir()) / f"tercel-test-programs-{os.geteuid()}"
"""Where compiled programs are kept from test to test: compiling takes most of a start."""
START_S = 240.0
END_S = 120.0

Json = dict[str, Any]


class Daemon:
    """`tercel run` in the foreground, alerts as JSON into `folder/alerts.json`.

    `config` is merged over the harness's own; `rules` are rules files in place of the shipped ones; `prefix` is a
    command that becomes the appliance.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        rules: Sequence[Path] | None = None,
        argv: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.file = folder / "alerts.json"
        self._config = folder / "tercel.yaml"
        shipped = yaml.safe_load((ROOT / "tercel.yaml").read_text())
        settings: Json = {
            "rules_files": [str(path) for path in rules]
            if rules is not None
            else [str(ROOT / path) for path in shipped["rules_files"]],
            "rule_matching": shipped.get("rule_matching", "first"),
            "json_output": True,
            "stdout_output": {"enabled": False},
            "spool": {"path": str(folder / "spool"), "min_free_mib": 0},
            "file_output": {"enabled": True, "filename": str(self.file), "keep_alive": True},
            "control_socket": str(folder / "control.sock"),
            "guard": {"state_file": str(folder / "run.json")},
            **(config or {}),
        }
        settings["capture"] = {"programs": str(PROGRAMS), **settings.get("capture", {})}
        self._config.write_text(yaml.safe_dump(settings))
        self._argv = [*prefix, str(COMMAND), "run", "-c", str(self._config), *argv]
        self._env = {**os.environ, **(env or {})}
        self._out, self._err = folder / "daemon.out", folder / "daemon.err"
        self.process: subprocess.Popen[bytes] | None = None
        self.status: int | None = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        if error is None:
            assert self.status == 0, self.errors()

    def start(self) -> None:
        """Start, and wait until it is armed."""
        self.file.unlink(missing_ok=True)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT, env=self._env
            )
        deadline = time.monotonic() + START_S
        while "\narmed" not in self.errors():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"tercel did not start:\n{self.errors()}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it as `^C` does, and wait for its account."""
        if self.process is None:
            return
        process, self.process = self.process, None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            self.status = process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            self.status = process.wait()
            raise AssertionError(f"tercel did not end within {END_S} s:\n{self.errors()}") from None

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        assert self.process is not None
        return self.process.pid

    def output(self) -> str:
        """What it wrote to standard output so far."""
        return self._out.read_text(errors="surrogateescape")

    def errors(self) -> str:
        """Banner, log and summary so far."""
        return self._err.read_text(errors="surrogateescape")

    def alerts(self, rule: str | None = None) -> list[Json]:
        """The alerts in its file so far, of one rule or of all."""
        if not self.file.exists():
            return []
        lines = self.file.read_text().split("\n")[:-1]  # what follows the last line end is being written
        found: list[Json] = [json.loads(line) for line in lines]
        return [a for a in found if rule is None or a["rule"] == rule]

    def wait_for(self, wanted: Callable[[Json], bool], patience_s: float = 90.0) -> Json:
        """The first alert that is as wanted."""
        deadline = time.monotonic() + patience_s
        while True:
            found = self.alerts()
            for alert in found:
                if wanted(alert):
                    return alert
            if time.monotonic() > deadline:
                raise AssertionError(f"no such alert among {json.dumps(found, indent=1)}\n{self.errors()}")
            time.sleep(0.05)

    def settle(self, seconds: float = 1.0) -> None:
        """Give what must not come the time to come."""
        time.sleep(seconds)

    def cpu_seconds(self) -> float:
        """User and system time that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def summary_number(self, name: str) -> int:
        """A number of the summary it printed at its end: produced, judged, lost ..."""
        found = re.search(rf"\b{name} (\d+)", self.errors().partition("\nended after")[2])
        assert found is not None, f"no `{name}` in the summary:\n{self.errors()}"
        return int(found[1])
