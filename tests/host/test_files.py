"""Links that others made are not followed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from appliance.cli.run import pidfile
from appliance.config.settings import FileOutput
from appliance.host.files import open_own
from appliance.model.diagnostic import DeliveryError
from appliance.model.wire import Format
from appliance.sinks.file import FileSink
from tests.support.sinks import alert

_STRANGER = 65534
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def link_of(owner: int, at: Path, to: str) -> Path:
    at.symlink_to(to)
    os.lchown(at, owner, owner)
    return at


@pytest.mark.kernel  # a link of somebody else takes root to make
def test_a_link_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("whole\n")
    trap = link_of(_STRANGER, tmp_path / "events.txt", "secret")
    with pytest.raises(OSError, match="symbolic link of user 65534") as caught:
        open_own(trap, _FLAGS)
    assert caught.value.errno == errno.ELOOP
    sink = FileSink.of(FileOutput(enabled=True, filename=trap), Format())
    with pytest.raises(DeliveryError, match="symbolic link of user 65534"):
        sink.deliver(alert())
    with pidfile(trap):
        pass
    assert secret.read_text() == "whole\n"


@pytest.mark.kernel
def test_a_link_to_a_link_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whole\n")
    link_of(_STRANGER, tmp_path / "trap", "secret")
    own = tmp_path / "events.txt"
    own.symlink_to("trap")
    with pytest.raises(OSError, match="symbolic link of user"):
        open_own(own, _FLAGS)


def test_ones_own_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "second").symlink_to("logs/alerts")
    (tmp_path / "first").symlink_to("second")
    os.close(open_own(tmp_path / "first", _FLAGS))
    assert (tmp_path / "logs" / "alerts").exists()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels"):
        open_own(tmp_path / "loop", _FLAGS)
