"""The containers that processes are in: from the path of a cgroup to what is known of its container.

Comes in: paths of cgroups, facts that an engine told. Goes out: `Place`s, which the processes of a container share, so
that what arrives late is known of all of them. Never: a question that waits; an engine is asked by the seam given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from appliance.engine.cgroup import InContainer, Unit, container_of, unit_of
from appliance.engine.containers import merged
from appliance.model.event import HOST, WAITING, Container, ParamValue, Pod

_NAMED_BY_CGROUP = frozenset({"lxc", "systemd-nspawn"})  # no engine tells more; they have no image


class Place:
    """Where the facts of a container stand."""

    __slots__ = ("container",)

    def __init__(self, container: Container) -> None:
        self.container = container


class Places:
    """The table of containers, and what the paths of cgroups mean. One writer: the state."""

    def __init__(self, ask: Callable[[str, int | None], None], most: int, missing: Counter[str]) -> None:
        """`ask(full_id, owner)` asks without waiting; at most `most` are kept; `missing` counts absent facts."""
        self.host = Place(HOST)
        self._ask = ask
        self._most = most
        self._missing = missing
        self._places: dict[str, Place] = {}
        self._cgroups: dict[str, InContainer | None] = {}
        self._units: dict[str, Unit] = {}

    def __len__(self) -> int:
        """Containers known, ended ones that were not evicted included."""
        return len(self._places)

    def container(self, key: str) -> Container | None:
        """What is known of a container by its `key`, None for one never seen."""
        place = self._places.get(key)
        return None if place is None else place.container

    def tell(self, told: Container) -> None:
        """Take what an engine says."""
        place = self._places.get(told.key)
        if place is None:
            self._keep(told.key, Place(told))
        elif told.missing is None or place.container.missing is not None:
            place.container = merged(place.container, told)

    def of(self, *cgroups: ParamValue) -> Place:
        """The place of a process: that of the first of its cgroups that is a container's, else the host."""
        for path in cgroups:
            if not isinstance(path, str) or not path:
                continue
            found = self._container_of(path)
            if found is not None:
                return self._place(found)
        if not any(cgroups):
            self._missing["cgroup not readable"] += 1
        return self.host

    def unit(self, path: str) -> Unit:
        """The unit of systemd that a cgroup is of."""
        found = self._units.get(path)
        if found is None:
            self._halve(self._units)
            found = self._units[path] = unit_of(path)
        return found

    def _container_of(self, path: str) -> InContainer | None:
        try:
            return self._cgroups[path]
        except KeyError:
            self._halve(self._cgroups)
            found = self._cgroups[path] = container_of(path)
            return found

    def _halve(self, known: dict[str, InContainer | None] | dict[str, Unit]) -> None:
        """Forget the older half of what was made out of paths, where there is no more room."""
        if len(known) >= self._most:
            for old in tuple(islice(known, self._most // 2)):
                del known[old]

    def _place(self, found: InContainer) -> Place:
        place = self._places.get(found.key)
        pod = Pod(uid=found.pod_uid, qos=found.qos) if found.pod_uid else None
        if place is None:
            waiting = f"{WAITING}{found.runtime}"
            if found.runtime in _NAMED_BY_CGROUP:
                container = Container(
                    found.full_id, found.full_id, found.runtime, found.full_id, "", "", "", "", "", owner=found.owner
                )
                return self._keep(found.key, Place(container))
            container = Container(
                found.full_id[:12], found.full_id, found.runtime, owner=found.owner, pod=pod, missing=waiting
            )
            place = self._keep(found.key, Place(container))
            self._ask(found.full_id, found.owner)
        elif pod is not None and (place.container.pod is None or place.container.pod.qos is None):
            place.container = replace(
                place.container, pod=replace(place.container.pod or pod, uid=pod.uid, qos=pod.qos)
            )  # told by its engine before its first process ran
        return place

    def _keep(self, key: str, place: Place) -> Place:
        if len(self._places) >= self._most:
            self._missing["container table full"] += 1
            del self._places[next(iter(self._places))]
        self._places[key] = place
        return place
