"""Chats, each in the rich form that it documents: Slack, Mattermost, Rocket.Chat, Teams, Discord, Google Chat,
Telegram, Webex, Zoho Cliq, Gotify, ntfy.

Comes in: alerts. Goes out: messages within the documented limits, the text of strangers escaped, mentions switched off.
Never: a message that pings a channel because a file was called `@here`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Answer, Outcome, Request, Verdict
from appliance.hub.outputs.event import to_bytes
from appliance.hub.outputs.http import HttpOptions, Row, by_status
from appliance.hub.outputs.logs import JSON
from appliance.hub.outputs.words import COLOURS, EMOJI, colour, cut, cut_bytes, facts, moment, title

FORMATS = ("all", "text", "fields")
_ZERO = "\u200b"  # a space without width: takes the meaning of what follows


@dataclass(frozen=True, slots=True)
class ChatOptions(HttpOptions):
    """Where to, and how much."""

    webhookurl: Secret = option(doc="URL of the incoming webhook; it is the secret.")
    outputformat: str = option(
        "all", "`all`, `text` (the message alone) or `fields` (without the message).", choices=FORMATS
    )


@dataclass(frozen=True, slots=True)
class SlackOptions(ChatOptions):
    """Also who speaks."""

    channel: str = option("", "Channel in place of the webhook's own.")
    username: str = option("Tercel", "Name of the speaker.")
    icon: str = option("", "URL of a picture of the speaker.")
    footer: str = option("", "Text below each message; empty: the time.")


def _text(alert: HubAlert, options: ChatOptions) -> str:
    return "" if options.outputformat == "fields" else alert.output


def _pairs(alert: HubAlert, options: ChatOptions, limit: int) -> list[tuple[str, str]]:
    return [] if options.outputformat == "text" else facts(alert)[:limit]


def _post(options: ChatOptions, document: Mapping[str, Any]) -> Request:
    return Request("POST", str(options.webhookurl), JSON, to_bytes(document))


# -- Slack: Block Kit (docs.slack.dev: header 150 characters, section 3,000, 10 fields of 2,000, 50 blocks)


def slack_text(text: str, limit: int) -> str:
    """Escaped as Slack wants it: `&`, `<` and `>`; the limit holds after escaping and cuts no entity."""
    made = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(made) <= limit:
        return made
    return re.sub(r"&[a-z]{0,3}\Z", "", made[: limit - 1]) + "…"


def _slack(batch: Sequence[HubAlert], options: SlackOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        heading = {"type": "plain_text", "text": cut(f"{EMOJI[alert.priority]} {title(alert)}", 150), "emoji": True}
        blocks: list[dict[str, Any]] = [{"type": "header", "text": heading}]
        if text := _text(alert, options):
            blocks.append(
                {"type": "section", "text": {"type": "mrkdwn", "text": slack_text(text, 2900), "verbatim": True}}
            )
        pairs = _pairs(alert, options, 40)
        for at in range(0, len(pairs), 10):
            fields = [
                {"type": "mrkdwn", "text": f"*{slack_text(name, 200)}*\n{slack_text(value, 1700)}", "verbatim": True}
                for name, value in pairs[at : at + 10]
            ]
            blocks.append({"type": "section", "fields": fields})
        footer = slack_text(options.footer or moment(alert), 1000)
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": footer}]})
        document: dict[str, Any] = {
            "text": slack_text(title(alert), 300),
            "attachments": [{"color": colour(alert), "blocks": blocks}],
        }
        document |= {"channel": options.channel} if options.channel else {}
        document |= {"username": options.username} if options.username else {}
        document |= {"icon_url": options.icon} if options.icon else {}
        made.append(_post(options, document))
    return made


def _attachment(alert: HubAlert, options: SlackOptions, escaped: Any) -> dict[str, Any]:
    """Slack's older form, which Mattermost and Rocket.Chat took over."""
    made: dict[str, Any] = {
        "fallback": cut(title(alert), 300),
        "color": colour(alert),
        "title": cut(title(alert), 300),
        "fields": [
            {"title": cut(name, 200), "value": cut(escaped(value), 2000), "short": len(value) < 36}
            for name, value in _pairs(alert, options, 60)
        ],
    }
    if text := _text(alert, options):
        made["text"] = cut(escaped(text), 7000)
    return made | {"footer": options.footer or moment(alert)}


def markdown(text: str) -> str:
    """Text of strangers between Markdown: what has a meaning there is escaped, mentions are broken."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|<>~-])", r"\\\1", text).replace("@", f"@{_ZERO}")


def _mattermost(batch: Sequence[HubAlert], options: SlackOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        document: dict[str, Any] = {
            "username": options.username,
            "attachments": [_attachment(alert, options, markdown)],
        }
        document |= {"channel": options.channel} if options.channel else {}
        document |= {"icon_url": options.icon} if options.icon else {}
        made.append(_post(options, document))
    return made


def _rocketchat(batch: Sequence[HubAlert], options: SlackOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        document: dict[str, Any] = {"text": markdown(title(alert)), "alias": options.username}
        document |= {"channel": options.channel} if options.channel else {}
        document |= {"avatar": options.icon} if options.icon else {}
        document["attachments"] = [_attachment(alert, options, markdown)]
        made.append(_post(options, document))
    return made


# -- Teams: Adaptive Card 1.4 by a Workflows webhook; 28 KB a message


def _teams(batch: Sequence[HubAlert], options: ChatOptions) -> Sequence[Request]:
    styles = ("attention", "attention", "attention", "attention", "warning", "good", "accent", "default")
    made = []
    for alert in batch:
        heading = {
            "type": "TextBlock",
            "size": "Large",
            "weight": "Bolder",
            "wrap": True,
            "text": markdown(title(alert)),
        }
        body: list[dict[str, Any]] = [{"type": "Container", "style": styles[alert.priority], "items": [heading]}]
        if text := _text(alert, options):
            body.append({"type": "TextBlock", "wrap": True, "text": cut_bytes(markdown(text), 6000)})
        room, shown = 14_000, []
        for name, value in _pairs(alert, options, 60):
            fact = {"title": cut(name, 100), "value": cut_bytes(markdown(value), 2000)}
            room -= len(fact["title"].encode()) + len(fact["value"].encode()) + 40
            if room < 0:
                break
            shown.append(fact)
        if shown:
            body.append({"type": "FactSet", "facts": shown})
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "msteams": {"width": "Full"},
            "body": body,
        }
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        made.append(_post(options, {"type": "message", "attachments": [attachment]}))
    return made


# -- Discord: 25 fields, title 256, description 4,096, field 256 + 1,024, 6,000 characters in all


@dataclass(frozen=True, slots=True)
class DiscordOptions(ChatOptions):
    """Also who speaks."""

    icon: str = option("", "URL of a picture of the speaker.")
    username: str = option("Tercel", "Name of the speaker.")


def _discord(batch: Sequence[HubAlert], options: DiscordOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        embed: dict[str, Any] = {
            "title": cut(title(alert), 256),
            "color": COLOURS[alert.priority],
            "timestamp": moment(alert)[:23] + "Z",
        }
        if text := _text(alert, options):
            embed["description"] = cut(markdown(text), 2500)
        room, fields = 2800, []
        for name, value in _pairs(alert, options, 25):
            inside = cut(value.replace("`", "'"), 1000)
            field = {"name": cut(name, 256) or "_", "value": f"`{inside or ' '}`", "inline": len(value) < 36}
            room -= len(str(field["name"])) + len(str(field["value"]))
            if room < 0:
                break
            fields.append(field)
        document: dict[str, Any] = {
            "username": options.username,
            "embeds": [embed | {"fields": fields}],
            "allowed_mentions": {"parse": []},
        }
        document |= {"avatar_url": options.icon} if options.icon else {}
        made.append(_post(options, document))
    return made


def _discord_says(answer: Answer, count: int) -> Outcome:
    """429 says in its body for how long (`retry_after`, seconds)."""
    outcome = by_status(answer, count)
    if answer.status == 429 and outcome.retry_after_s is None:
        return Outcome(outcome.verdicts, outcome.reason, _number(answer.body, "retry_after"))
    return outcome


def _number(body: bytes, *path: str) -> float | None:
    try:
        value: Any = json.loads(body)
        for name in path:
            value = value[name]
        return min(max(0.0, float(value)), 86_400.0)
    except (ValueError, TypeError, KeyError):
        return None


# -- Google Chat: cards v2; 32 KB a message


def _googlechat(batch: Sequence[HubAlert], options: ChatOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        room, widgets = 16_000, []
        for name, value in _pairs(alert, options, 60):
            shown = cut_bytes(escape(value), 2000)
            room -= len(shown.encode()) + len(name) + 60
            if room < 0:
                break
            widgets.append({"decoratedText": {"topLabel": cut(name, 100), "text": shown, "wrapText": True}})
        heading = {"title": cut(title(alert), 200), "subtitle": moment(alert)}
        sections: list[dict[str, Any]] = []
        if text := _text(alert, options):
            sections.append({"widgets": [{"textParagraph": {"text": cut_bytes(escape(text), 8000)}}]})
        sections += [{"widgets": widgets}] if widgets else []
        document = {
            "text": cut(f"{EMOJI[alert.priority]} {title(alert)}", 300),
            "cardsV2": [{"cardId": "alert", "card": {"header": heading, "sections": sections}}],
        }
        made.append(_post(options, document))
    return made


# -- Telegram: 4,096 characters after parsing; HTML needs only three escapes


@dataclass(frozen=True, slots=True)
class TelegramOptions(HttpOptions):
    """Which bot speaks where."""

    token: Secret = option(doc="Token of the bot.")
    chatid: str = option(doc="Chat, `-100...` or `@channel`.")
    messagethreadid: str = option("", "Topic of a forum chat.")
    host: str = option("https://api.telegram.org", "Address of the Bot API.")
    outputformat: str = option("all", "As for Slack.", choices=FORMATS)


def _telegram(batch: Sequence[HubAlert], options: TelegramOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        parts = [f"{EMOJI[alert.priority]} <b>{escape(title(alert))}</b>"]
        parts += [escape(cut(alert.output, 1500))] if options.outputformat != "fields" else []
        room = 2000
        for name, value in facts(alert) if options.outputformat != "text" else []:
            line = f"<b>{escape(cut(name, 80))}</b>: <code>{escape(cut(value, 300))}</code>"
            room -= len(name) + len(value[:300]) + 2
            if room < 0:
                break
            parts.append(line)
        document: dict[str, Any] = {
            "chat_id": options.chatid,
            "text": "\n".join(parts),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        }
        document |= {"message_thread_id": options.messagethreadid} if options.messagethreadid else {}
        url = f"{options.host.rstrip('/')}/bot{options.token}/sendMessage"
        made.append(Request("POST", url, JSON, to_bytes(document)))
    return made


def _telegram_says(answer: Answer, count: int) -> Outcome:
    outcome = by_status(answer, count)
    if answer.status == 429:
        return Outcome(outcome.verdicts, outcome.reason, _number(answer.body, "parameters", "retry_after"))
    return outcome


# -- Webex, Cliq, Gotify, ntfy


def _webex(batch: Sequence[HubAlert], options: ChatOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        lines = [f"### {EMOJI[alert.priority]} {markdown(title(alert))}"]
        lines += [markdown(cut(_text(alert, options), 2000))] if _text(alert, options) else []
        lines += [f"- **{markdown(name)}**: {markdown(cut(value, 500))}" for name, value in _pairs(alert, options, 40)]
        made.append(_post(options, {"markdown": cut_bytes("\n".join(lines), 7000)}))
    return made


@dataclass(frozen=True, slots=True)
class CliqOptions(ChatOptions):
    """Also who speaks."""

    icon: str = option("", "URL of a picture of the speaker.")
    useemoji: bool = option(True, "Begin with an emoji for the priority.")


def _cliq(batch: Sequence[HubAlert], options: CliqOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        text = f"{EMOJI[alert.priority]} " if options.useemoji else ""
        text += cut(title(alert), 300) + (f"\n{cut(markdown(alert.output), 3000)}" if _text(alert, options) else "")
        document: dict[str, Any] = {
            "text": text,
            "bot": {"name": "Tercel"} | ({"image": options.icon} if options.icon else {}),
        }
        rows = [{"Field": cut(name, 100), "Value": cut(value, 500)} for name, value in _pairs(alert, options, 20)]
        if rows:
            document["slides"] = [{"type": "table", "title": "", "data": {"headers": ["Field", "Value"], "rows": rows}}]
        made.append(_post(options, document))
    return made


@dataclass(frozen=True, slots=True)
class GotifyOptions(HttpOptions):
    """Where to."""

    hostport: str = option(doc="Address of Gotify.", example="https://gotify.example.org")
    token: Secret = option(doc="Token of an application.")
    format: str = option("markdown", "How the message is written.", choices=("markdown", "plaintext", "json"))


_GOTIFY = (10, 9, 8, 7, 5, 4, 3, 1)


def _gotify(batch: Sequence[HubAlert], options: GotifyOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        if options.format == "markdown":
            message = "\n".join(
                [markdown(alert.output), "", *(f"- **{markdown(n)}**: {markdown(v)}" for n, v in facts(alert))]
            )
        elif options.format == "json":
            message = json.dumps(dict(facts(alert)), ensure_ascii=False)
        else:
            message = alert.output
        kind = "text/markdown" if options.format == "markdown" else "text/plain"
        document = {
            "title": title(alert),
            "message": cut(message, 16_000),
            "priority": _GOTIFY[alert.priority],
            "extras": {"client::display": {"contentType": kind}},
        }
        headers = JSON | {"X-Gotify-Key": str(options.token)}
        made.append(Request("POST", f"{options.hostport.rstrip('/')}/message", headers, to_bytes(document)))
    return made


@dataclass(frozen=True, slots=True)
class NtfyOptions(HttpOptions):
    """Where to."""

    url: str = option("https://ntfy.sh", "Address of ntfy.")
    topic: Secret = option(doc="Topic; whoever knows it can read along.")
    token: Secret = option(Secret(""), "Access token.")


def _ntfy(batch: Sequence[HubAlert], options: NtfyOptions) -> Sequence[Request]:
    levels = (5, 5, 5, 4, 4, 3, 2, 1)
    made = []
    for alert in batch:
        document = {
            "topic": str(options.topic),
            "title": title(alert),
            "message": cut_bytes(alert.output, 4000),
            "priority": levels[alert.priority],
            "tags": [cut(tag, 64) for tag in alert.tags[:5]],
        }
        headers = JSON | ({"Authorization": f"Bearer {options.token}"} if options.token else {})
        made.append(Request("POST", options.url.rstrip("/") + "/", headers, to_bytes(document)))
    return made


def _refused_by_body(answer: Answer, count: int) -> Outcome:
    """Slack and its kin answer 200 with a text; `ok`, `1` or anything that is no error word is good."""
    outcome = by_status(answer, count)
    if outcome.verdicts[0] is Verdict.DONE and answer.body.strip() in (b"invalid_payload", b"no_text", b"no_service"):
        return Outcome((Verdict.NEVER,) * count, answer.body.decode(errors="replace")[:200])
    return outcome


def _chat(name: str, title_: str, doc: str, options: type[HttpOptions], build: Any, judge: Any = by_status) -> Row:
    return Row(
        name=name,
        title=title_,
        category="Chat",
        doc=doc,
        delivered="The service answered 2xx.",
        options=options,
        build=build,
        judge=judge,
        batch_max=lambda options: 1,
    )


ROWS = (
    _chat("slack", "Slack", "A Block Kit message, coloured by priority.", SlackOptions, _slack, _refused_by_body),
    _chat("mattermost", "Mattermost", "An attachment, coloured by priority.", SlackOptions, _mattermost),
    _chat("rocketchat", "Rocket.Chat", "An attachment, coloured by priority.", SlackOptions, _rocketchat),
    _chat("teams", "Microsoft Teams", "An Adaptive Card, by the webhook of a workflow.", ChatOptions, _teams),
    _chat("discord", "Discord", "An embed; mentions are switched off.", DiscordOptions, _discord, _discord_says),
    _chat("googlechat", "Google Chat", "A card.", ChatOptions, _googlechat),
    _chat("telegram", "Telegram", "A message of a bot, in HTML.", TelegramOptions, _telegram, _telegram_says),
    _chat("webex", "Webex", "A message in Markdown, by an incoming webhook.", ChatOptions, _webex),
    _chat("cliq", "Zoho Cliq", "A message with a table.", CliqOptions, _cliq),
    _chat("gotify", "Gotify", "A push message.", GotifyOptions, _gotify),
    _chat("ntfy", "ntfy", "A push message.", NtfyOptions, _ntfy),
)
