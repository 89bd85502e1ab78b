"""Every type of output: what it is called, what it takes, how it is made.

Comes in: nothing. Goes out: the table. Never: an import of a client library before an output of its type is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from appliance.hub.outputs.base import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One type of output.

    `name` is what `type` says in the configuration, `title` what people call it. `delivered` says what must have
    happened at the service before an alert counts as delivered. `options` is a settings class (fields by
    `options.option`). `connect` makes a client of an instance of it; it may import the client library and raise
    ImportError, whose remedy is `pip install tercel[EXTRA]`. `batch` says how many alerts suit one `send` with
    these options, `batch_max` how many it takes at most.
    """

    name: str
    title: str
    category: str
    doc: str
    delivered: str
    options: type
    connect: Callable[[Any], Client]
    batch: Callable[[Any], int] = lambda options: 1
    batch_max: Callable[[Any], int] = lambda options: 10_000
    extra: str = "hub"


def remedy(extra: str) -> str:
    """How to install the client libraries of an extra."""
    return f"pip install 'tercel[{extra if extra == 'hub' else f'hub,{extra}'}]'"


@cache
def kinds() -> Mapping[str, Kind]:
    """All of them, by name."""
    from appliance.hub.outputs import (
        alerting,
        aws,
        chat,
        elasticsearch,
        functions,
        google,
        lines,
        logs,
        mail,
        metrics,
        others,
        postgres,
        queues,
        securitylake,
        webhook,
    )  # fmt: skip
    from appliance.hub.outputs.http import kind_of

    rows = (
        webhook.ROW, elasticsearch.ROW, *logs.ROWS, *metrics.ROWS, *alerting.ROWS, *chat.ROWS, *functions.ROWS,
    )  # fmt: skip
    others_ = (queues, lines, postgres, mail, aws, securitylake, google, others)
    made = [*(kind_of(row) for row in rows), *(kind for module in others_ for kind in module.KINDS)]
    return {kind.name: kind for kind in made}
