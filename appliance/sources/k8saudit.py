"""Kubernetes audit events: from JSON as the API server writes it to `Event`s.

Comes in: a body of the webhook or a line of a log: an event of `audit.k8s.io`, an `EventList`, an array of them. Goes
out: events whose `document` is the audit event, or `AuditError` that says why not. Never: a guess at what is no audit
event, and no other error whatever the bytes are.

Limits are those of Falco's plugin: 262,144 bytes for an event, 12,582,912 for a body.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from appliance.model.diagnostic import TercelError
from appliance.model.event import Event, EventType

MAX_EVENT_BYTES = 262_144
MAX_BODY_BYTES = 12_582_912
MAX_VALUES = 1_000_000  # in one body, by its commas and brackets: each takes some hundred bytes of memory
MAX_DEPTH = 200  # of values in values: what looks into them recurs
QUEUE_EVENTS = 10_000
QUEUE_BYTES = 32 << 20  # of JSON; as Python values it is several times that
_API = "audit.k8s.io/"
_TIMES = ("stageTimestamp", "requestReceivedTimestamp", "timestamp")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-]\d\d:\d\d))")
TOO_LARGE = "k8s_audit: event too large"
UNREADABLE = "k8s_audit: not readable"
AT_END = "k8s_audit: not evaluated before the end"


class AuditError(TercelError):
    """What came is no audit event."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one body. `too_large` of it were larger than an event may be and are not among them."""

    events: tuple[Event, ...]
    size: int  # bytes of JSON
    too_large: int = 0


def read_body(data: bytes, *, now_ns: int, max_event_bytes: int = MAX_EVENT_BYTES, cluster: str = "") -> Batch:
    """The events of one JSON text. `now_ns` is the time of those that tell none, `cluster` the name of their cluster.

    Raises `AuditError`.
    """
    documents = list(_documents(_parse(data)))
    if cluster:  # where `ka.cluster.name` looks, if no annotation says it
        documents = [{**d, "cluster_name": d.get("cluster_name", cluster)} for d in documents]
    kept = documents
    if len(data) > max_event_bytes:  # only then one of them may be
        kept = [d for d in documents if len(_compact(d)) <= max_event_bytes]
    events = tuple(audit_event(d, now_ns=now_ns) for d in kept)
    return Batch(events, len(data), len(documents) - len(kept))


def is_audit(document: object) -> bool:
    """Whether a JSON value calls itself an audit event, or a list of them: by `kind`, as the webhook goes by."""
    if isinstance(document, list):
        return bool(document) and all(map(is_audit, document))
    if not isinstance(document, dict) or "type" in document:
        return False
    version = document.get("apiVersion")
    by_version = isinstance(version, str) and version.startswith(_API)
    return by_version or document.get("kind") in ("Event", "EventList") or ("auditID" in document)


def audit_documents(document: object) -> Iterator[Mapping[str, Any]]:
    """The audit events within a JSON value. Raises `AuditError`."""
    return _documents(document)


def audit_event(document: Mapping[str, Any], *, now_ns: int = 0, num: int = 0) -> Event:
    """One audit event; its time is the one it tells of its stage, else `now_ns`."""
    return Event(EventType.PLUGINEVENT, num, time_of(document, now_ns), 0, 0, 0, (), document=document)


def time_of(document: Mapping[str, Any], default: int) -> int:
    """The time of an event's stage, nanoseconds since the epoch."""
    for key in _TIMES:
        text = document.get(key)
        found = _TIME.fullmatch(text) if isinstance(text, str) and len(text) < 64 else None
        if found is None:
            continue
        try:
            moment = datetime.fromisoformat(found[1] + (found[3] or "+00:00"))
            seconds = (moment - _EPOCH).days * 86_400 + (moment - _EPOCH).seconds
        except (ValueError, OverflowError):
            continue
        return seconds * 1_000_000_000 + int((found[2] or "0").ljust(9, "0"))
    return default


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _parse(data: bytes) -> object:
    if len(data) > MAX_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise AuditError(f"more than {MAX_VALUES} values")
    try:
        value: object = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise AuditError("not UTF-8") from None
    except RecursionError:
        raise AuditError("nested too deep") from None
    except ValueError as error:
        raise AuditError(f"not JSON: {error}") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for node in level for inner in _inner(node)]
        if not level:
            return value
    raise AuditError("nested too deep")


def _inner(node: object) -> Iterable[object]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no value of JSON")


def _compact(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _documents(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield _event_of(item)
        return
    if isinstance(value, dict) and value.get("kind") == "EventList":
        items = value.get("items")
        if not isinstance(items, list):
            raise AuditError("an `EventList` has no `items`")
        for item in items:
            yield _event_of(item)
        return
    yield _event_of(value)


def _event_of(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise AuditError("an audit event must be an object")
    kind = value.get("kind", "Event")  # the items of a list may leave it out
    if kind != "Event":
        raise AuditError("`kind` is neither `Event` nor `EventList`")
    if "auditID" not in value and "stage" not in value:
        raise AuditError("neither `auditID` nor `stage`: this is no audit event")
    return value


@dataclass(slots=True)
class AuditQueue:
    """Where the webhook and files put events and the loop takes them: bounded in events and bytes, for any thread.

    A batch goes in whole or not at all. `taken` and `refused` count events; `lost` counts by reason what was not judged
    and will not come again.
    """

    capacity: int = QUEUE_EVENTS
    capacity_bytes: int = QUEUE_BYTES
    wake: Callable[[], None] = lambda: None
    taken: int = 0
    refused: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    _waiting: deque[tuple[Event, int]] = field(default_factory=deque)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, batch: Batch) -> bool:
        """Take a batch; False if there is no room for it now. An empty queue takes any batch."""
        share = batch.size // max(1, len(batch.events))
        with self._lock:
            if not self._fits(batch):
                self.refused += len(batch.events)
                return False
            self._waiting.extend((event, share) for event in batch.events)
            self._bytes += share * len(batch.events)
            if batch.too_large:
                self.lost[TOO_LARGE] += batch.too_large
        self.wake()
        return True

    def has_room(self, batch: Batch) -> bool:
        """Whether `put` would take it: for a reader that can wait, and is not refused then."""
        with self._lock:
            return self._fits(batch)

    def _fits(self, batch: Batch) -> bool:
        full = len(self._waiting) + len(batch.events) > self.capacity or self._bytes + batch.size > self.capacity_bytes
        return not (self._waiting and full)

    def lose(self, reason: str, count: int) -> None:
        """Count what will not be evaluated."""
        with self._lock:
            self.lost[reason] += count

    def give_up(self) -> int:
        """Nobody takes any more: what waits is lost. Says how many that are."""
        with self._lock:
            count = len(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            if count:
                self.lost[AT_END] += count
        return count

    def take(self, limit: int) -> Sequence[Event]:
        """The oldest events, at most `limit`, without waiting."""
        if not self._waiting:
            return ()
        with self._lock:
            found = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
            self._bytes -= sum(size for _, size in found)
            first = self.taken + 1
            self.taken += len(found)
        return [event._replace(num=first + i) for i, (event, _) in enumerate(found)]

    @property
    def waiting_bytes(self) -> int:
        """The JSON of what waits."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._waiting)


def _raise(error: AuditError) -> None:
    raise error


def read_log(
    path: Path, *, now_ns: int, cluster: str = "", unreadable: Callable[[AuditError], None] = _raise
) -> Iterator[Batch]:
    """The events of a file of JSON Lines, as the API server's log backend writes it; empty lines are passed over.

    `unreadable` gets an `AuditError` with the place of each line that is no audit event; without it that is raised.
    Raises OSError.
    """
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_BODY_BYTES + 1):
            number += 1
            if len(line) > MAX_BODY_BYTES:
                unreadable(AuditError(f"{path}:{number}: a line of more than {MAX_BODY_BYTES} bytes"))
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_BODY_BYTES)
                continue
            if not line.strip():
                continue
            try:
                batch = read_body(line, now_ns=now_ns, cluster=cluster)
            except AuditError as error:
                unreadable(AuditError(f"{path}:{number}: {error}"))
            else:
                yield batch
