"""What a container engine said of a container, read back from its event.

Comes in: the `json` of a CONTAINER event. Goes out: a `Container`. The keys are the names of `Container`'s fields, as
`sources.container` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from appliance.model.event import Container, Mount


def read_container(text: str) -> Container:
    """Raises `ValueError` where the text is not what `sources.container` writes."""
    try:
        facts: dict[str, Any] = json.loads(text)
        mounts = tuple(_mount(m) for m in facts.pop("mounts", ()))
        return Container(**facts, mounts=mounts)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not the facts of a container: {error}") from error


def _mount(facts: Mapping[str, Any]) -> Mount:
    return Mount(**facts)
