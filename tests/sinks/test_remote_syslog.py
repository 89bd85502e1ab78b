"""Syslog elsewhere, by RFC 5424: against Debian's rsyslogd over UDP, TCP and TLS."""

from __future__ import annotations

import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config.settings import SyslogOutput
from appliance.model.alert import Priority
from appliance.model.diagnostic import DeliveryError
from appliance.model.wire import Format
from appliance.sinks.remote_syslog import RemoteSyslogSink
from appliance.sinks.spool import Limits, Spool
from tests.support.receivers import closed_port, remote_rsyslog, wait_until
from tests.support.sinks import HOSTILE, alert

TEXT = Format()


def sink(url: str, **settings: Any) -> RemoteSyslogSink:
    made = replace(SyslogOutput(enabled=True, url=url, facility="local3"), **settings)
    return RemoteSyslogSink(made, TEXT, timeout_s=60)


def test_a_message_is_as_the_rfc_has_it() -> None:
    message = sink("udp://127.0.0.1").message(alert(fields={"proc.name": 'a"b\\c]d', "evt.failed": False, "x": None}))
    text = message.decode()
    assert re.fullmatch(
        r"<156>1 2023-11-14T22:13:20\.123456Z web1 tercel \d+ alert "
        r'\[tercel@32473 id="web1:boot:1" rule="Some rule" priority="Warning" source="syscall" tag="host" tag="T1059"\]'
        r'\[fields@32473 proc\.name="a\\"b\\\\c\\]d" evt\.failed="false"\] '
        "\ufeff" + r"\d\d:\d\d:\d\d\.123456789: Warning something happened",
        text,
    )


def test_hostile_names_and_values_stay_where_they_are() -> None:
    strange = alert(hostname="a b\n" * 99, rule=HOSTILE, fields={'a=b]"' + "é" * 40: HOSTILE, "": 1})
    text = sink("udp://127.0.0.1", enterprise=55555).message(strange).decode()
    assert text.isprintable() or text.replace("\ufeff", "").isprintable()
    assert text.split(" ")[2] == ("a?b?" * 99)[:255]
    names = re.findall(r" ([!-~]{1,32})=\"", text)
    assert names[:5] == ["id", "rule", "priority", "source", "tag"]
    assert "[tercel@55555 " in text and "[fields@55555 " in text


CASES = [
    ("udp", False, {}),
    ("tcp", False, {}),
    ("tls", False, {"ca_cert": "ca.pem"}),
    ("tls", False, {"insecure": True}),
    ("tls", True, {"ca_cert": "ca.pem", "client_cert": "client.pem", "client_key": "client.key"}),
]


@pytest.mark.parametrize(
    ("protocol", "client", "settings"), CASES, ids=lambda x: str(x) if isinstance(x, str) else None
)
def test_alerts_reach_rsyslog(
    tmp_path: Path, certificates: Path, protocol: str, client: bool, settings: dict[str, Any]
) -> None:
    files = {k: str(certificates / v) if isinstance(v, str) else v for k, v in settings.items()}
    with remote_rsyslog(tmp_path, protocol, certificates, client=client) as daemon:
        made = sink(daemon.url, **files)
        for n in range(5):
            made.deliver(alert(n, priority=Priority(n)))
        made.deliver_several([alert(n) for n in range(5, 40)])
        made.deliver(alert(40, output=HOSTILE, fields={"proc.name": HOSTILE}))
        made.deliver(alert(41, output="x" * 60_000, fields={}))
        wait_until(lambda: len(daemon.lines()) == 42, "the messages")
        made.close()
        lines = daemon.lines()
    assert [re.findall(r' id="([^"]*)"', line) for line in lines] == [[f"web1:boot:{n}"] for n in range(42)]
    assert [line.split()[0] for line in lines[:5]] == [str(19 * 8 + n) for n in range(5)]
    assert " web1 tercel alert [tercel@32473 " in lines[0]
    assert lines[0].endswith("something happened")
    assert r'proc.name="a\\x1b[2Jb\\nc' in lines[40]
    assert "x" * (1000 if protocol == "udp" else 60_000) in lines[41]


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("server", {"ca_cert": "stranger.pem"}, "the certificate is not good"),
        ("server", {}, "the certificate is not good"),
        ("other", {"ca_cert": "ca.pem"}, "the certificate is not good: Hostname mismatch"),
        ("server", {"ca_cert": "nothing.pem"}, "No such file"),
    ],
)
def test_a_certificate_that_is_not_good(
    tmp_path: Path, certificates: Path, name: str, settings: dict[str, str], reason: str
) -> None:
    with remote_rsyslog(tmp_path, "tls", certificates, name=name) as daemon:
        made = sink(daemon.url, **{k: str(certificates / v) for k, v in settings.items()})
        with pytest.raises(DeliveryError, match=reason) as caught:
            made.deliver(alert())
        assert caught.value.retry, "somebody can mend it"
        made.close()
        assert daemon.lines() == []


@pytest.mark.parametrize("protocol", ["tcp", "tls"])
def test_a_daemon_that_is_killed_again_and_again_gets_every_alert(
    tmp_path: Path, certificates: Path, protocol: str
) -> None:
    """What it had not read when it was killed is sent again, though its machine had acknowledged it."""
    with remote_rsyslog(tmp_path, protocol, certificates) as daemon:
        made = sink(daemon.url, ca_cert=str(certificates / "ca.pem"))
        spool = Spool(made, tmp_path / "spool", Limits(retry_max_s=0.2), capacity=10_000)
        spool.start()
        for n in range(300):
            spool.submit(alert(n))
            if n in (100, 200):
                daemon.kill()
                spool.submit(alert(n + 1000))
                time.sleep(0.05)
                daemon.start()
            time.sleep(0.001)

        def found() -> list[str]:
            return [i for line in daemon.lines() for i in re.findall(r' id="web1:boot:(\d+)"', line)]

        wait_until(lambda: len(set(found())) == 302, "every alert")
        stats = spool.end(time.monotonic() + 5)
    assert (stats.delivered, stats.waiting, stats.lost) == (302, 0, 0)
    order = [int(n) for n in dict.fromkeys(found()) if int(n) < 1000]
    assert order == sorted(order)


def test_a_daemon_that_does_not_read_is_not_waited_for_without_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made = RemoteSyslogSink(
            SyslogOutput(enabled=True, url=f"tcp://127.0.0.1:{server.getsockname()[1]}"), TEXT, timeout_s=0.3
        )
        with pytest.raises(DeliveryError, match="no answer in time") as caught:
            for _ in range(1000):
                made.deliver(alert(output="x" * 60_000))
        assert caught.value.retry
        made.close()


def test_what_was_sent_just_before_a_connection_broke_is_sent_again_without_a_new_alert() -> None:
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = sink(f"tcp://127.0.0.1:{server.getsockname()[1]}")

        def serve() -> None:
            first, _ = server.accept()
            time.sleep(0.6)
            first.close()  # unread
            second, _ = server.accept()
            got.append(second.recv(65536))
            time.sleep(0.6)
            second.close()

        thread = threading.Thread(target=serve)
        thread.start()
        made.deliver(alert())

        def sent_again() -> bool:
            made.look()
            return bool(got)

        wait_until(sent_again, "the message")
        thread.join()
        made.close()
    length, _, rest = got[0].partition(b" ")
    assert len(rest) == int(length) and b'id="web1:boot:1"' in rest


@pytest.mark.parametrize(
    ("url", "reason"), [("tcp://nowhere.invalid:1", "not known"), ("tcp://127.0.0.1:PORT", "refused")]
)
def test_a_place_that_is_not_there(url: str, reason: str) -> None:
    with closed_port() as port, pytest.raises(DeliveryError, match=reason) as caught:
        sink(url.replace("PORT", str(port))).deliver(alert())
    assert caught.value.retry


def test_the_banner_says_where() -> None:
    assert sink("tls://logs.example.org").describe() == "syslog tls://logs.example.org:6514"
    assert sink("udp://[::1]").describe() == "syslog udp://[::1]:514"
