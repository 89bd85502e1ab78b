"""Run as a process: works on a spool again and again and is killed each time, at a call to the disk or at any moment.

Each life is a fork, so that hundreds of them take seconds. `acknowledged` and `delivered` in the folder tell what
each life did: one line and one write for an alert. Ends after so many kills; usage: kill_child.py FOLDER KILLS SEED
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from appliance.model.alert import Alert, Priority
from appliance.model.diagnostic import DeliveryError
from appliance.sinks.base import Sink
from appliance.sinks.spool import Limits, Spool
from tests.support.disks import Plan
from tests.support.sinks import alert

LIMITS = Limits(segment_bytes=4096, retry_max_s=0.005)
ALERTS = 20


class FileOfIds(Sink):
    """Delivers by writing an id; is away now and then."""

    name = "killed"

    def __init__(self, file: Path, chance: random.Random) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._chance = chance

    def deliver(self, alert: Alert) -> None:
        if self._chance.random() < 0.2:
            raise DeliveryError("away", retry=True)
        os.write(self._fd, f"{alert.id}\n".encode())

    def close(self) -> None:
        os.close(self._fd)

    def describe(self) -> str:
        return self.name


def ends_well(life: int) -> bool:
    """Each tenth life is left in peace: what waits must not grow until no life comes to the end of reading it."""
    return life % 10 == 9


def live(folder: Path, life: int, chance: random.Random) -> None:
    """One life: alerts in, alerts out, until killed; some lives end well."""
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(alerts: Sequence[Alert]) -> None:
        os.write(acknowledged, "".join(f"{a.id}\n" for a in alerts).encode())

    plan = Plan(chance.randrange(1, 120) if life % 2 and not ends_well(life) else 0, kill=True)
    sink = FileOfIds(folder / "delivered", chance)
    spool = Spool(sink, folder / "spool", LIMITS, capacity=1000, make_disk=plan.disk, on_commit=note)
    spool.start()
    for n in range(ALERTS):
        priority = chance.choice(list(Priority))
        lane = "express" if priority <= Priority.CRITICAL else "ordinary"
        spool.submit(alert(id=f"{lane}:{life * 1000 + n}", priority=priority))
        if n % 7 == 0:
            time.sleep(0.001)
    spool.end(time.monotonic() + 1)


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.disable()
    chance = random.Random(seed)
    killed = life = 0
    while killed < kills:
        life += 1
        seed = chance.randrange(1 << 30)
        pid = os.fork()
        if pid == 0:
            try:
                live(folder, life, random.Random(seed))
                os._exit(0)
            except BaseException as error:
                print(f"life {life}: {error!r}", flush=True)
                os._exit(1)
        if life % 2 == 0 and not ends_well(life):
            time.sleep(chance.random() * 0.06)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit(1)
    print(life)


if __name__ == "__main__":
    main()
