"""Every field: one row each, by class. `FIELDS` is the whole table.

A row's `get` is read by both code generators and by the documentation; see `model.field.Field`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from appliance.catalog.fields import container, evt, fd, fs, k8s, ka, proc, user
from appliance.model.field import OF_ALL_SOURCES, SOURCES, Field


def _evt() -> tuple[Field, ...]:
    return tuple(replace(row, sources=SOURCES) if row.name in OF_ALL_SOURCES else row for row in evt.ROWS)


CLASSES: Mapping[str, tuple[Field, ...]] = MappingProxyType(
    {
        "evt": _evt(),
        "proc": proc.ROWS,
        "user": user.ROWS,
        "fd": fd.ROWS,
        "fs": fs.ROWS,
        "container": container.ROWS,
        "k8s": k8s.ROWS,
        "ka": ka.ROWS,
    }
)

FIELDS: Mapping[str, Field] = MappingProxyType({f.name: f for rows in CLASSES.values() for f in rows})
