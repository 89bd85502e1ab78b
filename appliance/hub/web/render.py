"""Templates -> pages. Everything is escaped; text from hosts is made safe to look at as well (`|safe_text`)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from appliance.hub.people.triage import REASONS
from appliance.hub.web import rules, show
from appliance.hub.web.context import STATIC, TEMPLATES, Ask, Hub
from appliance.hub.web.filters import ORDERS, RANGES, condition, conditions

THEMES = ("system", "dark", "light", "contrast")
PLACES = (
    ("/", "Now", "n"),
    ("/alerts", "Alerts", "l"),
    ("/live", "Live", "t"),
    ("/hosts", "Hosts", "h"),
    ("/pipeline", "Pipeline", "p"),
    ("/exceptions", "Exceptions", "e"),
    ("/attack", "ATT&CK", "m"),
    ("/report", "Report", "r"),
)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Jinja's, made once."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "safe_text": show.safe,
        "count": show.count,
        "size": show.size,
        "iso": show.iso,
        "duration": show.span_text,
    }
    made.globals |= {
        "PRIORITIES": show.PRIORITIES,
        "SHAPES": show.SHAPES,
        "RANGES": RANGES,
        "ORDERS": ORDERS,
        "REASONS": REASONS,
        "PLACES": PLACES,
        "THEMES": THEMES,
        "spark": show.spark,
        "condition": condition,
        "conditions": conditions,
        "technique_name": rules.technique_name,
        "technique_link": rules.technique_link,
        "techniques": rules.techniques,
        "asset": asset,
        "document": show.document,
    }
    return made


@lru_cache(maxsize=64)
def asset(name: str) -> str:
    """The address of a file below `static/`, new whenever the file is: browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]
    return f"/static/{name}?v={digest}"


def page(hub: Hub, ask: Ask, template: str, status: int = 200, **values: Any) -> Response:
    """A page of a template."""
    user = ask.session.user if ask.session else None
    zone = user.zone if user else "UTC"
    theme = user.theme if user else "system"
    text = (
        environment()
        .get_template(template)
        .render(
            ask=ask,
            user=user,
            csrf=ask.session.csrf if ask.session else "",
            theme=theme,
            zone=zone,
            url=ask.url,
            at=lambda ns, ms=False: show.moment(ns, zone, ms=ms),
            ago=lambda ns: show.ago(ns, ask.now_ns),
            partial=partial(ask),
            **values,
        )
    )
    return HTMLResponse(text, status, {"Vary": "HX-Request, Cookie"})


def partial(ask: Ask) -> bool:
    """Whether htmx asks for a part of the page only."""
    return ask.headers.get("hx-request") == "true" and ask.headers.get("hx-boosted") != "true"
