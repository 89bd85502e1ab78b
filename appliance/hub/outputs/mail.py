"""Mail by SMTP: one message for each batch, so that a storm is a digest.

Comes in: batches. Goes out: messages of RFC 5322 with text and HTML. Never: a text of strangers in a header unencoded,
or in HTML unescaped.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from html import escape
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.queues import TlsOptions, done, tls_of
from appliance.hub.outputs.table import Kind
from appliance.hub.outputs.words import colour, cut, facts, title
from appliance.model.text import printable

_SHOWN = 50  # alerts in one message; beyond them their number


@dataclass(frozen=True, slots=True)
class SmtpOptions(TlsOptions):
    """Which server, from whom, to whom."""

    hostport: str = option(doc="Server.", example="mail.example.org:587")
    security: str = option(
        "starttls", "`starttls`, `tls` from the first byte (port 465), or `none`.", choices=("starttls", "tls", "none")
    )
    authmechanism: str = option("plain", "How to log in.", choices=("plain", "login", "none"))
    user: str = option("", "User.")
    password: Secret = option(Secret(""), "Password.")
    sender: str = option(doc="Address of the sender.", example="tercel@example.org")
    to: tuple[str, ...] = option(doc="Addresses of the recipients.", example=["oncall@example.org"])
    outputformat: str = option("html", "`html` with a text part beside it, or `text`.", choices=("html", "text"))


def mail(batch: Sequence[HubAlert], options: SmtpOptions) -> EmailMessage:
    """The message of a batch: the subject names the worst alert and how many more there are."""
    worst = min(batch, key=lambda alert: alert.priority)
    message = EmailMessage()
    more = f" (and {len(batch) - 1} more)" if len(batch) > 1 else ""
    message["Subject"] = printable(cut(title(worst), 180)) + more
    message["From"] = _address(options.sender)
    message["To"] = [_address(to) for to in options.to]
    message["Date"] = format_datetime(_when(worst))
    message["Message-ID"] = make_msgid(
        idstring="tercel", domain=options.sender.rpartition("@")[2].strip("> ") or "tercel"
    )
    message["X-Priority"] = "1" if worst.priority <= 3 else "3"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n\n".join(map(_text, batch[:_SHOWN])) + _rest(batch), cte="quoted-printable")
    if options.outputformat == "html":
        body = "".join(map(_html, batch[:_SHOWN])) + f"<p>{escape(_rest(batch).strip())}</p>"
        message.add_alternative(
            f"<!DOCTYPE html><html><body>{body}</body></html>", subtype="html", cte="quoted-printable"
        )
    return message


def _address(text: str) -> Address:
    name, _, spec = text.rpartition("<")
    return Address(display_name=name.strip(' "'), addr_spec=spec.strip("> "))


def _when(alert: HubAlert) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(alert.ts_ns // 1_000_000_000, UTC)


def _rest(batch: Sequence[HubAlert]) -> str:
    return f"\n\n{len(batch) - _SHOWN} more alerts are not shown." if len(batch) > _SHOWN else ""


def _text(alert: HubAlert) -> str:
    lines = [printable(title(alert)), "", printable(cut(alert.output, 8000)), ""]
    return "\n".join([*lines, *(f"  {printable(name)}: {printable(cut(value, 2000))}" for name, value in facts(alert))])


def _html(alert: HubAlert) -> str:
    rows = "".join(
        f'<tr><th style="text-align:left;padding:2px 12px 2px 0;vertical-align:top">{escape(printable(name))}</th>'
        f'<td style="font-family:monospace;white-space:pre-wrap">{escape(printable(cut(value, 2000)))}</td></tr>'
        for name, value in facts(alert)
    )
    return (
        f'<div style="border-left:6px solid {colour(alert)};padding-left:12px;margin-bottom:24px;'
        'font-family:sans-serif">'
        f"<h3>{escape(printable(title(alert)))}</h3><p>{escape(printable(cut(alert.output, 8000)))}</p>"
        f'<table style="border-collapse:collapse;font-size:13px">{rows}</table></div>'
    )


class SmtpClient(Client):
    """A connection for each message, as servers like it."""

    def __init__(self, options: SmtpOptions) -> None:
        import aiosmtplib

        self._smtp: Any = aiosmtplib
        self._options = options

    def _context(self) -> ssl.SSLContext | None:
        options = self._options
        return tls_of(
            TlsOptions(
                tls=options.security != "none",
                checkcert=options.checkcert,
                ca_file=options.ca_file,
                client_cert=options.client_cert,
                client_key=options.client_key,
            )
        )

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """One message. A refusal of the content or of all recipients (5xx) is for ever, of the login is not."""
        options = self._options
        host, _, port = options.hostport.rpartition(":") if ":" in options.hostport else (options.hostport, "", "")
        client = self._smtp.SMTP(
            hostname=host,
            port=int(port or (465 if options.security == "tls" else 587)),
            timeout=20,
            use_tls=options.security == "tls",
            start_tls=options.security == "starttls",
            tls_context=self._context(),
        )
        try:
            async with client:
                if options.user and options.authmechanism != "none":
                    await client.ehlo()  # what was offered before TLS does not count any more
                    await getattr(client, f"auth_{options.authmechanism}")(options.user, str(options.password))
                await client.send_message(mail(batch, options))
        except (self._smtp.SMTPDataError, self._smtp.SMTPRecipientsRefused, self._smtp.SMTPSenderRefused) as error:
            code = getattr(error, "code", 0) or max((r.code for r in getattr(error, "recipients", ())), default=0)
            verdict = Verdict.NEVER if code in (552, 554) else Verdict.AGAIN
            return Outcome((verdict,) * len(batch), f"{code} {printable(str(error))[:200]}")
        except self._smtp.SMTPException as error:
            raise OSError(f"{type(error).__name__}: {error}"[:300]) from error
        return done(batch)

    async def close(self) -> None:
        """Nothing is kept open."""


KINDS = (
    Kind(
        name="smtp",
        title="SMTP (mail)",
        category="Email",
        extra="hub-smtp",
        options=SmtpOptions,
        connect=SmtpClient,
        doc="One message for each batch, text and HTML; set `pause_ms` for a digest.",
        delivered="The server took the message (250).",
        batch=lambda options: 100,
        batch_max=lambda options: 1000,
    ),
)
