"""Alerts to the journal with native fields: `journalctl -t tercel TERCEL_RULE='...'`.

Comes in: alerts. Goes out: entries, through libsystemd (sd_journal_sendv(3)), which frames values by their length: no
text of the host's can become a field. Never: a text that is not UTF-8, or a control character.
"""

from __future__ import annotations

import re
from pathlib import Path

from systemd import journal

from appliance.model.alert import Alert, FieldValue
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import printable, why
from appliance.sinks.base import Sink

MESSAGE_ID = "8d4f3f2c64a64f0f9d6c7f0b5f2a7c1e"
"""Of every alert of a rule (sd-id128, made once for Tercel): `journalctl MESSAGE_ID=...` finds all of them."""

OWN_MESSAGE_ID = "7fde6ea314184c659325c6423c8fb2ae"
"""Of what the appliance says of itself, where it has no id of its own below."""

OWN_MESSAGE_IDS = {
    "Tercel internal: events lost": "07ee59102e7745e4a79abffef2a857ec",
    "Tercel internal: filter was wrong": "014fe2dffa6d449cb2b43acf9551692e",
    "Tercel internal: 32-bit calls not seen": "32ee1075ea7d42e1b6aa5cdc41fc4221",
    "Tercel internal: reload refused": "eb7554ca95c746588be5430f77341eb2",
    "Tercel internal: metrics snapshot": "f1f0bb6d429a41d8966823abdace49c3",
    "Tercel internal: alerts lost": "bb011ab2ac0a4365bb60f80b0a134a09",
    "Tercel internal: alerts held back": "1f789508c05047d993be5544a67adb09",
    "Tercel internal: recording": "e6d4160c8b8548bbacdd1ffddfc28a68",
    "Tercel internal: reloaded": "6f9fcd4c493a45d396a1b4b7a28cddb7",
    "Tercel internal: tampering": "e72063a9a05a46be92195cca491515b7",
    "Tercel internal: stood still": "0a0c1d0b108c42ff8ee5a41d209850e8",
    "Tercel internal: ended without farewell": "37102a6bb9c1484cac3089296f396948",
    "Tercel internal: files changed": "406d198ea8764f4180a0b87d688094a8",
    "Tercel internal: canary late": "747865dfe64d4d409c48aaefa2dc21e6",
    "Tercel internal: audit events lost": "791f76d7d1064fb5b878a6b80eb41b4e",
}
"""Of each kind of them; `journalctl -x` explains it by the catalogue in `packaging/systemd/tercel.catalog`."""

SOCKET = Path("/run/systemd/journal/socket")
_NAME = re.compile(r"[^A-Z0-9]+")
_MAX_NAME = 64  # journald drops fields with longer names


class JournaldSink(Sink):
    """Sends to the journal of this machine."""

    name = "journald_output"

    def deliver(self, alert: Alert) -> None:
        """Send one entry."""
        if not SOCKET.exists():  # the library would say nothing
            raise DeliveryError(f"{SOCKET}: no journal runs here", retry=True)
        try:
            journal.sendv(*(f"{name}={value}".encode() for name, value in entry(alert)))
        except OSError as error:
            raise DeliveryError(f"{SOCKET}: {why(error)}", retry=True) from error

    def close(self) -> None:
        """The library holds the socket."""

    def describe(self) -> str:
        """One line for the start-up banner."""
        return "journal"


def entry(alert: Alert) -> list[tuple[str, str]]:
    """The fields of an alert's entry, in order; `TERCEL_TAGS` once for each tag."""
    return [
        ("MESSAGE", printable(alert.output)),
        ("MESSAGE_ID", _message_id(alert)),
        ("PRIORITY", str(int(alert.priority))),
        ("SYSLOG_IDENTIFIER", "tercel"),
        ("TERCEL_ID", printable(alert.id)),
        ("TERCEL_RULE", printable(alert.rule)),
        ("TERCEL_SOURCE", printable(alert.source)),
        *(("TERCEL_TAGS", printable(tag)) for tag in alert.tags),
        *((field_name(name), _text(value)) for name, value in alert.fields.items() if value is not None),
    ]


def _message_id(alert: Alert) -> str:
    if alert.source != "internal":
        return MESSAGE_ID
    return OWN_MESSAGE_IDS.get(alert.rule, OWN_MESSAGE_ID)


def field_name(name: str) -> str:
    """The journal's name of an output field: `proc.aname[2]` is `TERCEL_F_PROC_ANAME_2`."""
    return f"TERCEL_F_{_NAME.sub('_', name.upper()).strip('_')}"[:_MAX_NAME]


def _text(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(str(value))
