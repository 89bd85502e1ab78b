"""Outputs over plain sockets: syslog (RFC 5424, CEF, LEEF), Logstash, StatsD and DogStatsD.

Comes in: batches. Goes out: frames over UDP, TCP or TLS, with the event's own time and every text escaped by the rules
of its format. Never: a line end in a frame that ends at line ends.

Syslog has no answers: over TCP and TLS a message counts as delivered when the other machine has acknowledged all bytes
(SIOCOUTQ, tcp(7)); over UDP when it was sent.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import socket
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance import __version__
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.queues import TlsOptions, tls_of
from appliance.hub.outputs.table import Kind
from appliance.hub.outputs.words import cut_bytes, text_of
from appliance.model.moment import iso_time

_FACILITIES = {
    "kern": 0,
    "user": 1,
    "daemon": 3,
    "auth": 4,
    "syslog": 5,
    "authpriv": 10,
    "local0": 16,
    "local1": 17,
    "local2": 18,
    "local3": 19,
    "local4": 20,
    "local5": 21,
    "local6": 22,
    "local7": 23,
}
_DATAGRAM_BYTES = 60_000
_ACK_S = 15.0


@dataclass(frozen=True, slots=True)
class SyslogOptions(TlsOptions):
    """Where to, and in which format."""

    host: str = option(doc="Server.", example="syslog.example.org")
    port: int = option(514, "Port.", minimum=1, maximum=65535)
    protocol: str = option("tcp", "Transport; `tls` is TCP with TLS.", choices=("udp", "tcp", "tls"))
    format: str = option(
        "json",
        "`json`: the JSON event. `text`: the message, fields as structured data. `cef`, `leef`: for SIEMs.",
        choices=("json", "text", "cef", "leef"),
    )
    facility: str = option("daemon", "Facility.", choices=tuple(_FACILITIES))
    framing: str = option(
        "octet-counted", "How messages are separated on a stream (RFC 6587).", choices=("octet-counted", "newline")
    )
    maxbytes: int = option(
        0,
        "Largest message in bytes; a larger one is refused here and becomes a dead letter, because a syslog server cuts"
        " or splits it without an answer. 0: no limit.",
        minimum=0,
    )


def message(alert: HubAlert, options: SyslogOptions) -> bytes:
    """One message of RFC 5424, in UTF-8, without its frame."""
    when = iso_time(alert.ts_ns)[:26] + "Z"  # microseconds
    head = (
        f"<{_FACILITIES[options.facility] * 8 + alert.priority}>1 {when} {_token(alert.hostname, 255)} "
        f"tercel {os.getpid()} alert"
    )
    data, text = "-", ""
    match options.format:
        case "cef":
            text = cef(alert)
        case "leef":
            text = leef(alert)
        case "text":
            about = [
                ("id", alert.id),
                ("rule", alert.rule),
                ("priority", alert.priority.label),
                ("source", alert.source),
            ]
            about += [("tag", tag) for tag in alert.tags]
            fields = [(name, text_of(value)) for name, value in alert.fields.items() if value is not None]
            data = _element("tercel@32473", about) + (_element("fields@32473", fields) if fields else "")
            text = alert.output
        case _:
            text = to_bytes(event(alert)).decode().replace("\x7f", "\\u007f")  # rsyslog writes `#177` for it
    body = f"{head} {data} \ufeff{text}" if options.format == "text" else f"{head} {data} {text}"
    return body.encode(errors="replace")


def _token(text: str, limit: int) -> str:
    return re.sub(r"[^\x21-\x7e]", "?", text)[:limit] or "-"


def _element(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    written = "".join(
        f' {re.sub(r"[^!-~]|[=]|[]]|[ ]|[" + chr(34) + r"]", "_", key)[:32] or "_"}="{_escaped(value)}"'
        for key, value in pairs
    )
    return f"[{name}{written}]"


def _escaped(text: str) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", text)


# -- CEF and LEEF

_CEF_SEVERITY = (10, 9, 8, 7, 6, 4, 3, 0)
_CEF_NAMES: Mapping[str, str] = {
    "proc.name": "sproc",
    "proc.pid": "spid",
    "user.name": "suser",
    "user.uid": "suid",
    "fd.name": "filePath",
    "fd.sip": "dst",
    "fd.sport": "dpt",
    "fd.cip": "src",
    "fd.cport": "spt",
    "proc.exepath": "sourceProcessPath",
    "proc.cmdline": "deviceProcessName",
}


def cef(alert: HubAlert) -> str:
    r"""An event of the Common Event Format, version 0: `|` and `\` are escaped in the header, `=`, `\` and line ends in
    the extension (ArcSight, "Implementing ArcSight Common Event Format", revision 25)."""
    head = "|".join(
        _cef_head(part)
        for part in ("Falcosecurity", "Falco", __version__, alert.rule, alert.rule, str(_CEF_SEVERITY[alert.priority]))
    )
    pairs: list[tuple[str, str]] = [
        ("rt", str(alert.ts_ns // 1_000_000)),
        ("externalId", alert.id),
        ("dvchost", alert.hostname),
        ("msg", cut_bytes(alert.output, 1023 * 4)),
        ("cat", alert.source),
        ("cs1Label", "tags"),
        ("cs1", ",".join(alert.tags)),
        ("cs2Label", "priority"),
        ("cs2", alert.priority.label),
    ]
    used = {name for name, _ in pairs}
    for name, value in alert.fields.items():
        if value is None or value == "":
            continue
        key = _CEF_NAMES.get(name) or re.sub(r"[^A-Za-z0-9]", "", name) or "field"
        while key in used:
            key += "x"
        used.add(key)
        pairs.append((key, text_of(value)))
    return f"CEF:0|{head}|" + " ".join(f"{key}={_cef_value(text)}" for key, text in pairs if text)


_PICTURES = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}


def _visible(text: str) -> str:
    """Control characters as their pictures: syslog servers replace or drop them, each in its own way."""
    return text.translate(_PICTURES)


def _cef_head(text: str) -> str:
    return _visible(re.sub(r"[\r\n]+", " ", text)).replace("\\", "\\\\").replace("|", "\\|")


def _cef_value(text: str) -> str:
    made = text.replace("\\", "\\\\").replace("=", "\\=")
    return _visible(made.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\r"))


def leef(alert: HubAlert) -> str:
    """An event of the Log Event Extended Format 2.0 with `^` between attributes (IBM, "LEEF event components")."""
    head = "|".join(_leef(part).replace("|", " ") for part in ("Falcosecurity", "Falco", __version__, alert.rule))
    pairs = {
        "devTime": str(alert.ts_ns // 1_000_000),
        "sev": str(max(1, _CEF_SEVERITY[alert.priority])),
        "cat": alert.source,
        "identHostName": alert.hostname,
        "msg": alert.output,
        "externalId": alert.id,
        "tags": ",".join(alert.tags),
    }
    for name, value in alert.fields.items():
        if value is not None and value != "":
            pairs.setdefault(re.sub(r"[^A-Za-z0-9_.]", "_", name) or "field", text_of(value))
    return f"LEEF:2.0|{head}|^|" + "^".join(f"{key}={_leef(text)}" for key, text in pairs.items() if text)


def _leef(text: str) -> str:
    return _visible(re.sub(r"[\r\n]+", " ", text).replace("^", " "))


class StreamClient(Client):
    """A connection over TCP or TLS that is kept; each batch is written at once and acknowledged by the other
    machine."""

    def __init__(self, host: str, port: int, tls: Any, frame: Callable[[HubAlert], bytes], most: int = 0) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._frame, self._most = frame, most
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Write the frames, and wait until the other machine has all of their bytes."""
        frames = [self._frame(alert) for alert in batch]
        large = [bool(self._most) and len(frame) > self._most for frame in frames]
        try:
            if self._writer is None or self._reader is None or self._reader.at_eof() or self._writer.is_closing():
                await self.close()
                self._reader, self._writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls, server_hostname=self._host if self._tls else None
                )
            self._writer.write(b"".join(frame for frame, over in zip(frames, large, strict=True) if not over))
            await self._writer.drain()
            await self._acknowledged(self._writer.get_extra_info("socket"))
            if self._reader.at_eof():
                raise ConnectionResetError("the other end has closed the connection")
        except BaseException:
            await self.close()
            raise
        verdicts = tuple(Verdict.NEVER if over else Verdict.DONE for over in large)
        return Outcome(verdicts, f"larger than `maxbytes`, {self._most}" if any(large) else "")

    async def _acknowledged(self, made: socket.socket) -> None:
        pause, waited = 0.0005, 0.0
        while struct.unpack("i", fcntl.ioctl(made.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
            if waited > _ACK_S:
                raise TimeoutError("the other machine does not acknowledge")
            await asyncio.sleep(pause)
            waited += pause
            pause = min(0.05, pause * 2)

    async def close(self) -> None:
        """Close the connection."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()


class DatagramClient(Client):
    """Datagrams; a name is resolved for each batch, so that a service that moved is found."""

    def __init__(self, host: str, port: int, frames: Callable[[HubAlert], Sequence[bytes]]) -> None:
        self._host, self._port, self._frames = host, port, frames

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Send them; what no datagram holds is refused."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, proto, _, address = found[0]
        verdicts = []
        with socket.socket(family, kind | socket.SOCK_NONBLOCK, proto) as made:
            made.connect(address)
            for alert in batch:
                frames = self._frames(alert)
                if any(len(frame) > _DATAGRAM_BYTES for frame in frames):
                    verdicts.append(Verdict.NEVER)
                    continue
                for frame in frames:
                    await loop.sock_sendall(made, frame)
                verdicts.append(Verdict.DONE)
        return Outcome(tuple(verdicts), "larger than a datagram" if Verdict.NEVER in verdicts else "")

    async def close(self) -> None:
        """Nothing is kept open."""


def _syslog(options: SyslogOptions) -> Client:
    if options.protocol == "udp":
        return DatagramClient(options.host, options.port, lambda alert: [message(alert, options)])
    tls = tls_of(_with_tls(options)) if options.protocol == "tls" else None

    def frame(alert: HubAlert) -> bytes:
        data = message(alert, options)
        if options.framing == "newline":
            return data.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
        return b"%d %b" % (len(data), data)

    return StreamClient(options.host, options.port, tls, frame, options.maxbytes)


def _with_tls(options: TlsOptions) -> TlsOptions:
    return TlsOptions(
        tls=True,
        checkcert=options.checkcert,
        ca_file=options.ca_file,
        client_cert=options.client_cert,
        client_key=options.client_key,
    )


# -- Logstash


@dataclass(frozen=True, slots=True)
class LogstashOptions(TlsOptions):
    """Where to."""

    address: str = option(doc="Server.", example="logstash.example.org")
    port: int = option(5044, "Port of a `tcp` input with the codec `json_lines`.", minimum=1, maximum=65535)
    tags: tuple[str, ...] = option((), "Tags added to each event.")


def _logstash(options: LogstashOptions) -> Client:
    def frame(alert: HubAlert) -> bytes:
        document = event(alert)
        document |= {"@timestamp": document["time"], "@version": "1", "tags": [*alert.tags, *options.tags]}
        return to_bytes(document) + b"\n"

    return StreamClient(options.address, options.port, tls_of(options), frame)


# -- StatsD


@dataclass(frozen=True, slots=True)
class StatsdOptions:
    """Where to."""

    forwarder: str = option(doc="Address of the agent.", example="127.0.0.1:8125")
    namespace: str = option("falcosidekick.", "Put before each name.")
    tags: tuple[str, ...] = option((), "Tags added to each metric, `name:value`; DogStatsD only.")


def _part(text: str) -> str:
    """A part of a name: letters, digits and `_`."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text.lower()).strip("_")[:120] or "none"


def _statsd(options: StatsdOptions) -> Client:
    def frames(alert: HubAlert) -> Sequence[bytes]:
        parts = (alert.source, alert.priority.label, alert.rule)
        name = f"{options.namespace}falco.accepted.{'.'.join(map(_part, parts))}"
        return [f"{name}:1|c".encode()]

    return _datagrams(options.forwarder, frames)


def _dogstatsd(options: StatsdOptions) -> Client:
    def frames(alert: HubAlert) -> Sequence[bytes]:
        tags = [f"source:{_tag(alert.source)}", f"priority:{_tag(alert.priority.label)}", f"rule:{_tag(alert.rule)}"]
        tags += [f"hostname:{_tag(alert.hostname)}"] if alert.hostname else []
        tags += [_tag(tag) for tag in options.tags]
        return [f"{options.namespace}falco.accepted:1|c|#{','.join(tags)}".encode()]

    return _datagrams(options.forwarder, frames)


def _tag(text: str) -> str:
    return re.sub(r"[^\w:./-]+", "_", text.lower())[:190]


def _datagrams(forwarder: str, frames: Callable[[HubAlert], Sequence[bytes]]) -> Client:
    host, _, port = forwarder.rpartition(":") if ":" in forwarder else (forwarder, "", "")
    return DatagramClient(host, int(port or 8125), frames)


def _size(number: int) -> Any:
    return lambda options: number


KINDS = (
    Kind(
        name="syslog",
        title="Syslog, CEF, LEEF",
        category="Logs",
        options=SyslogOptions,
        connect=_syslog,
        doc="Messages of RFC 5424 over UDP, TCP or TLS, as JSON, text with structured data, CEF or LEEF.",
        delivered="The other machine acknowledged all bytes (TCP, TLS), or it was sent (UDP).",
        batch=_size(100),
    ),
    Kind(
        name="logstash",
        title="Logstash",
        category="Logs",
        options=LogstashOptions,
        connect=_logstash,
        doc="JSON lines to a `tcp` input.",
        delivered="The other machine acknowledged all bytes.",
        batch=_size(100),
    ),
    Kind(
        name="statsd",
        title="StatsD",
        category="Metrics and observability",
        options=StatsdOptions,
        connect=_statsd,
        doc="A counter for each source, priority and rule.",
        delivered="It was sent: UDP has no answers.",
        batch=_size(100),
    ),
    Kind(
        name="dogstatsd",
        title="DogStatsD",
        category="Metrics and observability",
        options=StatsdOptions,
        connect=_dogstatsd,
        doc="A counter with tags.",
        delivered="It was sent: UDP has no answers.",
        batch=_size(100),
    ),
)
