"""What a container engine said of a container, read back from its event.

Comes in: the `json` of a CONTAINER event. Goes out: a `Container`. The keys are the names of `Container`'s fields, as
`sources.container` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from appliance.model.event import Container, Labels, Mount, Pod


def read_container(text: str) -> Container:
    """Raises `ValueError` where the text is not what `sources.container` writes."""
    try:
        facts: dict[str, Any] = json.loads(text)
        mounts = tuple(_mount(m) for m in facts.pop("mounts", ()))
        pod = _pod(facts.pop("pod", None))
        lists: dict[str, Any] = {name: tuple(facts.pop(name, ())) for name in _LISTS}
        labels = _labels(facts.pop("labels", ()))
        return Container(**facts, **lists, labels=labels, mounts=mounts, pod=pod)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not the facts of a container: {error}") from error


_LISTS = ("healthcheck", "liveness_probe", "readiness_probe")


def merged(known: Container, told: Container) -> Container:
    """What an engine told, with what the cgroup, or the engine's news, had told before."""
    pod = told.pod or known.pod
    if pod is not None and known.pod is not None:
        pod = replace(pod, uid=known.pod.uid or pod.uid, qos=known.pod.qos or pod.qos)
    if told.missing is None:
        return replace(told, runtime=told.runtime or known.runtime, pod=pod)
    facts = {name: getattr(told, name) or getattr(known, name) for name in _FACTS}
    return replace(known, **facts, pod=pod, missing=told.missing)


_FACTS = tuple(f.name for f in fields(Container) if f.name not in ("id", "full_id", "owner", "pod", "missing"))


def _labels(told: Iterable[Iterable[str]]) -> Labels:
    return tuple((name, value) for name, value in told)


def _pod(facts: Mapping[str, Any] | None) -> Pod | None:
    return None if facts is None else Pod(**{**facts, "labels": _labels(facts.get("labels", ()))})


def _mount(facts: Mapping[str, Any]) -> Mount:
    return Mount(**facts)
