"""`tercel run` by hand as root, with the configuration of the service: what it leaves stops the service nowhere."""

# ruff: noqa: F811  (fixtures of another module)

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.config.settings import Capture, Metrics
from appliance.daemon.guard import Trace
from appliance.daemon.recorder import Recorded, Recorder
from appliance.daemon.snapshots import Snapshots
from appliance.model.diagnostic import ConfigError
from appliance.model.wire import Format
from appliance.sinks.file import FileSink
from appliance.sinks.spool import Limits, Spool
from tests.daemon.test_recorder import event, rule
from tests.support.nobody import NOBODY, as_nobody, of_nobody  # noqa: F401
from tests.support.receivers import wait_until
from tests.support.sinks import MemorySink, alert, failing
from tests.support.status import full_status


def to_file(folder: Path) -> None:
    FileSink(folder / "made", Format(), keep_alive=False).deliver(alert(1))


def trace(folder: Path) -> None:
    one = Trace(folder / "made")
    one.begin({})
    one.end(farewell=False)  # killed


def metrics(folder: Path) -> None:
    settings = Metrics(enabled=True, output_file=str(folder / "made"), output_rule=False)
    Snapshots(settings, status=full_status, hooks=lambda: [], tell=lambda _: None).take()


def recording(folder: Path) -> None:
    done: list[Recorded] = []
    made = Recorder(Capture(enabled=True, path_prefix=str(folder / "made" / "t")), hostname="h", done=done.append)
    made.fired(event(1), rule(), {})
    made.end()
    wait_until(lambda: bool(done), "the recording")
    assert done[0].error == ""


def spool(folder: Path) -> None:
    made = Spool(MemorySink(), folder / "made" / "http_output", Limits(), capacity=10)
    made.start()
    made.submit(alert(1))
    assert made.end(time.monotonic() + 60).delivered == 1


@pytest.mark.parametrize("make", [to_file, trace, metrics, recording, spool])
def test_what_root_made_is_put_aside(
    make: Callable[[Path], None], of_nobody: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(2):  # twice, and nothing of the first time is lost
        make(of_nobody)
        assert (of_nobody / "made").stat().st_uid == 0
        with as_nobody():
            make(of_nobody)
        assert (of_nobody / "made").stat().st_uid == NOBODY
        asides = ["made.of-0", "made.of-0.1"][: n + 1]
        assert sorted(path.name for path in of_nobody.iterdir()) == ["made", *asides]
        assert {(of_nobody / name).stat().st_uid for name in asides} == {0}
        assert f"renamed to {asides[-1]}" in caplog.text
        if n == 0:
            (of_nobody / "made").rename(of_nobody.parent / "elsewhere")


def test_alerts_that_wait_in_roots_spool_are_kept(of_nobody: Path) -> None:
    sink = MemorySink(errors=failing(10_000, retry=True))
    made = Spool(sink, of_nobody / "spool" / "http_output", Limits(), capacity=10)
    made.start()
    made.submit(alert(1))
    wait_until(lambda: made.stats().acknowledged == 1, "the alert on the disk")
    assert made.end(time.monotonic() + 1).waiting == 1
    os.chown(of_nobody / "spool", NOBODY, NOBODY)  # one that was there before
    with as_nobody():
        spool_of_service = Spool(MemorySink(), of_nobody / "spool" / "http_output", Limits(), capacity=10)
        spool_of_service.start()
        spool_of_service.end(time.monotonic() + 60)
    assert sorted(path.name for path in (of_nobody / "spool").iterdir()) == ["http_output", "http_output.of-0"]
    assert list((of_nobody / "spool" / "http_output.of-0").glob("*.seg"))


def test_what_cannot_be_put_aside_is_refused_or_told(of_nobody: Path) -> None:
    spool(of_nobody)
    os.chown(of_nobody, 1000, 1000)
    for folder in (of_nobody, of_nobody / "made"):
        folder.chmod(0o755)
    with as_nobody(), pytest.raises(ConfigError) as refused:
        Spool(MemorySink(), of_nobody / "made" / "http_output", Limits(), capacity=10)
    assert [d.name for d in refused.value.diagnostics] == ["spool-unsafe"]
    assert (of_nobody / "made").stat().st_uid == 0


def test_root_is_told_to_run_as_the_user_whose_spool_it_is(of_nobody: Path) -> None:
    with as_nobody():
        spool(of_nobody)
    with pytest.raises(ConfigError) as refused:
        Spool(MemorySink(), of_nobody / "made" / "http_output", Limits(), capacity=10)
    (told,) = refused.value.diagnostics
    assert told.message.endswith("belongs to user 65534")
    assert told.hint == "run as that user, or name another `spool.path`"


def test_the_trace_of_another_is_not_taken_away_at_the_end(of_nobody: Path) -> None:
    """Root's run goes on while the service starts beside it."""
    roots, services = Trace(of_nobody / "run"), Trace(of_nobody / "run")
    roots.begin({})
    with as_nobody():
        services.begin({})
    roots.end(farewell=True)
    assert (of_nobody / "run").stat().st_uid == NOBODY
    services.end(farewell=True)
    assert not (of_nobody / "run").exists()
