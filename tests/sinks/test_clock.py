"""The wall clock jumps by years, forward and back, under a process that delivers: libfaketime, preloaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.receivers import https_receiver

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import json, select, sys, time
from pathlib import Path
time.sleep = lambda seconds: select.select([], [], [], seconds)  # libfaketime refuses clock_nanosleep with a deadline
from appliance.config.settings import HttpOutput
from appliance.model.wire import Format
from appliance.sinks.dispatch import Dispatcher
from appliance.sinks.file import FileSink
from appliance.sinks.http import HttpSink
from appliance.sinks.spool import Limits, Spool
from tests.support.receivers import wait_until
from tests.support.sinks import alert

url, ca, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def step(offset):
    (folder / "clock").write_text(offset)
    wait_until(lambda: abs(time.time() - real()) > 1e8 or offset == "+0", "the step of the clock")

def real():
    return time.clock_gettime(time.CLOCK_MONOTONIC) + began

began = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
limits = Limits(max_age_ms=3_600_000, retry_max_s=0.2)
http = HttpSink(HttpOutput(enabled=True, url=url, ca_cert=ca, keep_alive=False, timeout_ms=60_000), Format())
file = FileSink(folder / "alerts", Format(json_output=True), keep_alive=True, rotate_s=3600)
dispatcher = Dispatcher([http, file], capacity=1000,
    spool=lambda sink, after: Spool(sink, folder / "spool", limits, capacity=1000, after=after))

def stats():
    return dispatcher.stats()[0]

n = 0
def send(count):
    global n
    for _ in range(count):
        dispatcher.submit(alert(n))
        n += 1

send(10)
wait_until(lambda: stats().delivered == 10, "delivery")
troubles = []
for offset in ("+3650d", "-3650d"):
    step(offset)
    send(10)
    wait_until(lambda: "certificate" in stats().trouble.lower(), "a certificate that is not good at that time")
    troubles.append(stats().trouble)
    time.sleep(1.5)
    assert stats().lost == 0, stats()
    step("+0")
    wait_until(lambda: stats().waiting == 0, "delivery")
step("+3650d")
send(10)
wait_until(lambda: stats().acknowledged == 40 and dispatcher.stats()[1].delivered == 40, "the disk, twice")
of_http, of_file = dispatcher.close(timeout_s=0.5)
step("+0")
http = HttpSink(HttpOutput(enabled=True, url=url, ca_cert=ca, timeout_ms=60_000), Format())
spool = Spool(http, folder / "spool", limits, capacity=9)
spool.start()
wait_until(lambda: spool.stats().delivered == 10, "delivery")
spool.end(time.monotonic() + 5)
print(json.dumps([troubles, of_http.delivered, of_http.waiting, of_http.lost, of_file.delivered]))
"""


def test_steps_of_the_clock(tmp_path: Path, certificates: Path) -> None:
    """A certificate is not good ten years from now, nor ten years ago: alerts wait then, and none is thought old."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    (tmp_path / "clock").write_text("+0")
    env = os.environ | {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }  # fmt: skip
    with https_receiver(certificates) as (url, bodies):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, url, str(certificates / "ca.pem"), str(tmp_path)],
            cwd=ROOT, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    troubles, delivered, waiting, lost, in_file = json.loads(done.stdout)
    assert "expired" in troubles[0] and "not yet valid" in troubles[1]
    assert (delivered, waiting, lost, in_file) == (30, 10, 0, 40)
    assert [json.loads(body)["output_fields"]["fd.num"] for body in bodies] == list(range(40))
    assert not (tmp_path / "alerts.1").exists(), "a file is not old because the clock says so"
