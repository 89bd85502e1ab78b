"""Other shapes of an alert than Falco's event, for stores with a schema of their own.

Comes in: an alert. Goes out: a mapping of JSON in the shape that an option names. Never: a field lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from appliance.hub.alert import HubAlert
from appliance.hub.outputs.event import event
from appliance.hub.outputs.shapes import ecs, ocsf

SHAPES: Mapping[str, Callable[[HubAlert], dict[str, Any]]] = {
    "falco": event,
    "ocsf": ocsf.finding,
    "ecs": ecs.document,
}
SHAPE_DOC = "`falco`: the JSON event. `ocsf`: a Detection Finding of OCSF 1.1. `ecs`: a document of ECS 8."
