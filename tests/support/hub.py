"""A receiver of alerts that wants certificates, for machines of a scenario: it outlives the command that starts it.

    python -m tests.support.hub start FOLDER    # certificates, then a server on the loopback: FOLDER/port
    python -m tests.support.hub stop FOLDER     # by pid

Comes in: POSTs over TLS by those who have FOLDER/client.pem. Goes out: FOLDER/alerts, an alert a line, as they came.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.certificates import make_certificates
from tests.support.receivers import https_receiver, wait_until


def serve(folder: Path) -> None:
    """Until somebody ends it."""
    with https_receiver(folder, mtls=True) as (url, bodies), (folder / "alerts").open("w", buffering=1) as file:
        (folder / "port.part").write_text(url.rpartition(":")[2].strip("/"))
        (folder / "port.part").rename(folder / "port")
        while True:
            while bodies:
                told = json.loads(bodies.pop(0))
                for alert in told if isinstance(told, list) else [told]:
                    file.write(json.dumps(alert) + "\n")
            time.sleep(0.05)


def start(folder: Path) -> None:
    """Make it, and wait until it listens."""
    folder.mkdir(parents=True)
    make_certificates(folder)
    with (folder / "log").open("wb") as log:
        argv = [sys.executable, "-m", "tests.support.hub", "serve", str(folder)]
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / "pid").write_text(str(child.pid))
    wait_until((folder / "port").exists, "the hub's port", 60)


def stop(folder: Path) -> None:
    """End it; nothing where it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((folder / "pid").read_text())
        if os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes():  # numbers are used again
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    {"serve": serve, "start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]))
