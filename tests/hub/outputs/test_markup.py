"""Text of strangers in messages that are markup: nothing of it is markup there. Costs a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.outputs.chat import ROWS, TelegramOptions
from appliance.hub.outputs.mail import SmtpOptions, mail
from tests.hub.alerts import XSS, xss_alerts

TAGS = {"html", "body", "div", "h3", "p", "table", "tr", "th", "td"}


class Seen(HTMLParser):
    """The tags, attributes and texts that a reader of HTML sees."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts += data


def sent(batch: Sequence[HubAlert], form: str = "html") -> EmailMessage:
    """A mail as a mail program reads it."""
    options = SmtpOptions(hostport="h:25", sender="Tercel <t@example.org>", to=("a@example.org",), outputformat=form)
    return message_from_bytes(mail(batch, options).as_bytes(policy=policy.SMTP), policy=policy.default)


@pytest.mark.parametrize("n", range(len(XSS) + 1))
def test_a_mail_holds_no_markup_of_strangers(n: int) -> None:
    alerts = xss_alerts()
    batch = alerts if n == len(XSS) else [alerts[n]]
    message = sent(batch)
    assert set(message.keys()) == {
        "Subject", "From", "To", "Date", "Message-ID", "X-Priority", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    body = message.get_body(("html",))
    assert body is not None
    seen = Seen(body.get_content())
    assert seen.tags <= TAGS
    assert seen.attributes <= {"style"}
    for text in XSS if n == len(XSS) else [XSS[n]]:
        if text.isprintable():
            assert text in seen.texts, "a person reads it as it was"
    plain = message.get_body(("plain",))
    assert plain is not None
    assert all(c.isprintable() or c == "\n" for c in plain.get_content().replace("\r\n", "\n"))


def test_a_text_ends_no_header() -> None:
    [alert] = [a for a in xss_alerts() if "\x00" in a.rule]
    for rule in ("x\r\nBcc: b@example.org", "x\n\nbody", "\u2028Bcc: b@example.org", alert.rule):
        message = sent([HubAlert(1, "i", 1, 1, rule, rule, alert.priority, rule, (rule,), rule, {})], "text")
        assert "Bcc" not in message
        assert [part.get_content_type() for part in message.walk()] == ["text/plain"]


@pytest.mark.parametrize("alert", xss_alerts(), ids=range(len(XSS)))
def test_telegram_holds_no_markup_of_strangers(alert: HubAlert) -> None:
    options = TelegramOptions(token=Secret("t"), chatid="1")
    [row] = [row for row in ROWS if row.name == "telegram"]
    [made] = row.build([alert], options)
    text = json.loads(made.body)["text"]
    seen = Seen(text)
    assert seen.tags <= {"b", "code"}
    assert not seen.attributes
