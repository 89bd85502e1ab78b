"""Every field: one row each, by class. `FIELDS` is the whole table.

A row's `get` is read by both code generators and by the documentation; see `model.field.Field`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.catalog.fields import container, evt, fd, fs, k8s, proc, user
from appliance.model.field import Field

CLASSES: Mapping[str, tuple[Field, ...]] = MappingProxyType(
    {
        "evt": evt.ROWS,
        "proc": proc.ROWS,
        "user": user.ROWS,
        "fd": fd.ROWS,
        "fs": fs.ROWS,
        "container": container.ROWS,
        "k8s": k8s.ROWS,
    }
)

FIELDS: Mapping[str, Field] = MappingProxyType({f.name: f for rows in CLASSES.values() for f in rows})
