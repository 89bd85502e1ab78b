"""Docker's API, as Docker and podman answer it on their unix sockets.

Comes in: a container's id; an engine's own events. Goes out: a `Container`, news of containers. Never: trust in an
answer; engines may be absent, hang, restart or talk nonsense, and a user's own engine is that user's word about that
user's containers.

Docker Engine API: `/containers/json`, `/containers/ID/json`, `/images/ID/json`, `/events`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from appliance.model.event import WAITING, Container, Labels, Mount, Pod

_ANSWER_MAX = 4 * 1024 * 1024
_LINE_MAX = 1024 * 1024
_LIST_MAX = 4096
_MOUNTS_MAX = 256
_LABELS_MAX = 256
_LABEL_MAX = 4096  # characters of one, name and value
_LABELS_SIZE = 32 * 1024  # of all of a container
_APPLIED_MAX = 256 * 1024  # Kubernetes allows no more for all annotations
_PROBE_MAX = 64
_TELLING = frozenset({"create", "start", "rename", "update"})  # after these, facts may be new
_NAMING = frozenset({"create", "start"})  # these carry name, image and labels, and nothing else
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBERNETES = "io.kubernetes."


class EngineError(Exception):
    """An engine did not answer, or not as the API promises."""


class UnknownContainerError(Exception):
    """The engine answered that it has no such container (or image)."""


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image's name in its parts; empty where it has none (`sha256:...` alone names no repository)."""

    repository: str
    tag: str
    digest: str


def parse_image(name: str) -> ImageName:
    """`host:5000/a/b:tag@sha256:...` in its parts; a colon before a slash belongs to the registry's port."""
    if name.startswith("sha256:"):
        return ImageName("", "", "")
    rest, _, digest = name.partition("@")
    head, colon, tail = rest.rpartition(":")
    if colon and "/" not in tail:
        return ImageName(head, tail, digest)
    return ImageName(rest, "" if digest else "latest", digest)


def connect_unix(path: Path, owner: int | None, timeout_s: float) -> socket.socket:
    """A connection to a unix socket. With `owner`, what listens there must be that user's: a user may put a link to
    anything in place of a socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(os.fspath(path))
        if owner is not None:
            _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != owner:
                raise PermissionError(f"{path} is not answered by user {owner}")
    except BaseException:
        sock.close()
        raise
    return sock


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, owner: int | None, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._owner = owner
        self._patience_s = timeout_s

    def connect(self) -> None:
        self.sock = connect_unix(self._path, self._owner, self._patience_s)


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its word (`docker`, `podman`), where it answers, and the user whose engine it is (None: root's)."""

    runtime: str
    socket: Path
    owner: int | None = None

    def connect(self, timeout_s: float) -> _UnixConnection:
        """A connection not opened yet."""
        return _UnixConnection(self.socket, self.owner, timeout_s)

    def get(self, path: str, timeout_s: float) -> Any:
        """The JSON that the engine answers. Raises `EngineError`, `UnknownContainerError` (404)."""
        connection = self.connect(timeout_s)
        deadline = time.monotonic() + timeout_s
        try:
            connection.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
            answer = connection.getresponse()
            if answer.status == 404:
                raise UnknownContainerError
            if answer.status != 200:
                raise EngineError(f"status {answer.status}")
            parts, size = [], 0
            while part := answer.read1(65_536):
                size += len(part)
                parts.append(part)
                if size > _ANSWER_MAX:
                    raise EngineError(f"answer larger than {_ANSWER_MAX} bytes")
                if time.monotonic() > deadline:
                    raise EngineError("answer too slow")
            return json.loads(b"".join(parts))
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise EngineError(str(error)) from error
        finally:
            connection.close()

    def container(self, full_id: str, timeout_s: float) -> Container:
        """All facts of one container."""
        told = self.get(f"/containers/{_quoted(full_id)}/json", timeout_s)
        container = read_answer(told, self.runtime)
        if container.full_id != full_id:
            raise EngineError("an answer about another container")
        digest = container.image_digest or self._digest(container, str(told.get("Image") or ""), timeout_s)
        container = replace(container, owner=self.owner, image_digest=digest)
        return self._with_sandbox(container, timeout_s)

    def _digest(self, container: Container, image_id: str, timeout_s: float) -> str:
        """The digest under which the image was pulled: it stands with the image, not with the container."""
        if not image_id:
            return ""
        try:
            digests = as_mapping(self.get(f"/images/{_quoted(image_id)}/json", timeout_s)).get("RepoDigests")
        except (EngineError, UnknownContainerError):
            return ""
        return own_digest(digests, container.image_repository)

    def _with_sandbox(self, container: Container, timeout_s: float) -> Container:
        """Labels and address of a pod stand with its sandbox, which is a container here."""
        pod = container.pod
        if pod is None or not pod.sandbox_id or pod.sandbox_id == container.full_id:
            return container
        try:
            told = self.get(f"/containers/{_quoted(pod.sandbox_id)}/json", timeout_s)
            sandbox = read_answer(told, self.runtime)
        except (EngineError, UnknownContainerError):
            return container
        ip = container.ip or sandbox.ip
        pod = replace(pod, labels=pod_labels(sandbox.labels), ip=ip)
        name = dict(container.labels).get("io.kubernetes.container.name", "")
        applied = dict(sandbox.labels).get(f"annotation.{_APPLIED}", "")
        liveness, readiness = kubernetes_probes(applied, name)
        return replace(container, ip=ip, pod=pod, liveness_probe=liveness, readiness_probe=readiness)

    def listen(self, timeout_s: float) -> DockerEvents:
        """The engine's events, from now on. Raises `EngineError`, OSError."""
        return DockerEvents(self, timeout_s)


class DockerEvents:
    """An engine's events as they come. `news` gives containers of which something is new until the engine ends it;
    `shut`, from any thread, ends it here."""

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._connection = engine.connect(timeout_s)
        filters = json.dumps({"type": ["container"]})
        path = f"/events?{urlencode({'filters': filters})}"
        try:
            self._connection.request("GET", path, headers={"Host": "localhost"})
        except BaseException:
            self._connection.close()
            raise
        sock = self._connection.sock
        assert sock is not None  # noqa: S101  (`request` has connected)
        self._sock: socket.socket = sock

    def news(self) -> Iterator[Container]:
        """The running containers are listed after the listening began: one that starts in between comes twice, not
        missed. Raises `EngineError`, OSError, `http.client.HTTPException`."""
        if self._engine.runtime == "podman":  # it answers only with its first event
            yield from self._running()
        self._sock.settimeout(None)  # silence is no failure here; `shut` ends it
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise EngineError(f"status {answer.status}")
        if self._engine.runtime != "podman":
            yield from self._running()
        while line := answer.readline(_LINE_MAX):
            yield from _heard(line, self._engine)

    def _running(self) -> Iterator[Container]:
        told = self._engine.get("/containers/json", self._timeout_s)
        if not isinstance(told, list):
            raise EngineError("not a list of containers")
        for entry in told[:_LIST_MAX]:
            yield _news(as_text(as_mapping(entry).get("Id")), self._engine)

    def shut(self) -> None:
        """End `news`, wherever it waits."""
        shut(self._sock)

    def close(self) -> None:
        """Give the connection back; not while `news` runs."""
        self._connection.close()


def _heard(line: bytes, engine: Engine) -> Iterator[Container]:
    try:
        event = as_mapping(json.loads(line))
        actor = as_mapping(event.get("Actor") or {})
        attributes = as_mapping(actor.get("Attributes") or {})
    except (ValueError, RecursionError) as error:
        raise EngineError("an event that is no JSON") from error
    action = event.get("Action", event.get("status"))
    if action in _TELLING:
        news = _news(as_text(actor.get("ID") or event.get("id")), engine)
        yield _named(news, attributes) if action in _NAMING else news


def _news(full_id: str, engine: Engine) -> Container:
    waiting = f"{WAITING}{engine.runtime}"
    return Container(full_id[:12], full_id, engine.runtime, owner=engine.owner, missing=waiting)


def _named(news: Container, attributes: Mapping[str, Any]) -> Container:
    """With what an event says of a container: its labels, and among them `name` and `image`."""
    name, image = as_text(attributes.get("name")), as_text(attributes.get("image"))
    if not name or not image:
        return news
    parts = parse_image(image)
    labels = read_labels({k: v for k, v in attributes.items() if k not in ("name", "image")})
    return replace(
        news, name=name, image=image, image_repository=parts.repository, image_tag=parts.tag,
        image_digest=parts.digest or None, labels=labels, pod=pod_of(labels, None, sandbox_id=news.full_id),
    )  # fmt: skip


def shut(sock: socket.socket) -> None:
    """End a connection that another thread may be reading from."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is gone already
        return


def _quoted(name: str) -> str:
    """An id as a part of a path: JSON can tell half a character, which no path has."""
    return quote(name, safe=":", errors="replace")


# -- answers


def as_mapping(value: object) -> Mapping[str, Any]:
    """The value where it is an object. Raises `EngineError`."""
    if not isinstance(value, dict):
        raise EngineError("not an object where the API promises one")
    return value


def as_text(value: object) -> str:
    """The value where it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def own_digest(digests: object, repository: str | None) -> str:
    """Of `repository@digest`s the digest of that repository, else of the first."""
    named = [d.partition("@") for d in digests if isinstance(d, str)] if isinstance(digests, list | tuple) else []
    same = [digest for name, _, digest in named if name == repository]
    return (same or [digest for _, _, digest in named] or [""])[0]


def read_answer(told: object, runtime: str) -> Container:
    """The facts in an answer of `/containers/ID/json`. Raises `EngineError` where it is none."""
    facts = as_mapping(told)
    full_id = as_text(facts.get("Id"))
    if not full_id:
        raise EngineError("an answer without an id")
    config, host = as_mapping(facts.get("Config") or {}), as_mapping(facts.get("HostConfig") or {})
    image = as_text(config.get("Image")) or as_text(facts.get("ImageName"))
    name = parse_image(image)
    mounts = facts.get("Mounts")
    labels = read_labels(config.get("Labels"))
    ip = _address(facts.get("NetworkSettings"))
    state = facts.get("State")
    return Container(
        id=full_id[:12],
        full_id=full_id,
        runtime=runtime,
        name=as_text(facts.get("Name")).removeprefix("/"),
        image=image,
        image_id=as_text(facts.get("Image")).removeprefix("sha256:"),
        image_repository=name.repository,
        image_tag=name.tag,
        image_digest=name.digest,
        privileged=host.get("Privileged") is True,
        mounts=tuple(_mount(m) for m in mounts[:_MOUNTS_MAX]) if isinstance(mounts, list) else (),
        labels=labels,
        ip=ip,
        started_ns=_time_ns(as_text(state.get("StartedAt"))) if isinstance(state, dict) else None,
        host_pid=host.get("PidMode") == "host",
        host_network=host.get("NetworkMode") == "host",
        host_ipc=host.get("IpcMode") == "host",
        healthcheck=_healthcheck(config.get("Healthcheck")),
        pod=pod_of(labels, ip, sandbox_id=full_id),
    )


def read_labels(told: object) -> Labels:
    """Names and values that are texts, as many and as long as we keep: the kubelet's own come first, so that no others
    can crowd them out."""
    if not isinstance(told, dict):
        return ()
    room, labels = _LABELS_SIZE, []
    for key in sorted(told, key=lambda k: not str(k).startswith((_KUBERNETES, "annotation."))):
        value = told[key]
        if not isinstance(value, str):
            continue
        if key == f"annotation.{_APPLIED}":  # long, and read for the probes
            if len(value) <= _APPLIED_MAX:
                labels.append((key, value))
            continue
        size = len(key) + len(value)
        if size > min(room, _LABEL_MAX) or len(labels) >= _LABELS_MAX:
            continue
        room -= size
        labels.append((key, value))
    return tuple(labels)


def pod_of(labels: Labels, ip: str | None, *, sandbox_id: str) -> Pod | None:
    """The pod that a container's labels name, as the kubelet sets them; None outside of Kubernetes. `sandbox_id` counts
    where they name no sandbox."""
    told = dict(labels)
    if "io.kubernetes.pod.uid" not in told and "io.kubernetes.pod.name" not in told:
        return None
    is_sandbox = told.get("io.kubernetes.docker.type", told.get("io.cri-containerd.kind")) in ("podsandbox", "sandbox")
    return Pod(
        uid=told.get("io.kubernetes.pod.uid"),
        name=told.get("io.kubernetes.pod.name"),
        namespace=told.get("io.kubernetes.pod.namespace"),
        sandbox_id=told.get("io.kubernetes.sandbox.id") or sandbox_id,
        labels=pod_labels(labels) if is_sandbox else (),
        ip=ip,
    )


def pod_labels(labels: Labels) -> Labels:
    """The labels of a pod among those of its sandbox: without the kubelet's and the annotations."""
    return tuple((k, v) for k, v in labels if not k.startswith((_KUBERNETES, "annotation.", "io.cri-containerd.")))


def kubernetes_probes(applied: str, container: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The liveness and readiness commands of one container in a pod's configuration as it was applied (JSON)."""
    try:
        spec = as_mapping(as_mapping(json.loads(applied)).get("spec"))
        containers = [as_mapping(c) for c in spec.get("containers") or ()]
    except (ValueError, RecursionError, TypeError, EngineError):
        return (), ()
    own = next((c for c in containers if c.get("name") == container), {})
    return _probe(own.get("livenessProbe")), _probe(own.get("readinessProbe"))


def _probe(told: object) -> tuple[str, ...]:
    command = told.get("exec") if isinstance(told, dict) else None
    argv = command.get("command") if isinstance(command, dict) else None
    return _texts(argv)


def _texts(told: object) -> tuple[str, ...]:
    return tuple(as_text(t) for t in told[:_PROBE_MAX]) if isinstance(told, list) else ()


def _healthcheck(told: object) -> tuple[str, ...]:
    """`["CMD", program, ...]` or `["CMD-SHELL", text]`; `["NONE"]` switches the image's off."""
    test = _texts(told.get("Test")) if isinstance(told, dict) else ()
    if test[:1] == ("CMD",):
        return test[1:]
    return ("/bin/sh", "-c", test[1]) if test[:1] == ("CMD-SHELL",) and len(test) > 1 else ()


def _address(told: object) -> str:
    """The first IPv4 address of a container; empty where it has none of its own."""
    settings = told if isinstance(told, dict) else {}
    if ip := as_text(settings.get("IPAddress")):
        return ip
    networks = settings.get("Networks")
    attached = networks.values() if isinstance(networks, dict) else ()
    found = [as_text(n.get("IPAddress")) for n in attached if isinstance(n, dict)]
    return next((ip for ip in found if ip), "")


def _time_ns(text: str) -> int | None:
    """RFC 3339 in nanoseconds since the epoch; None for the year 1, which says never."""
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    try:
        moment = datetime.fromisoformat((head + zone).replace("Z", "+00:00"))
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):  # of the year 9999 the end of a day is beyond what there is
        return None
    if moment.year < 1970:
        return None
    return seconds * 1_000_000_000 + int(f"{digits:0<9.9}" or 0)


def _mount(told: object) -> Mount:
    facts = as_mapping(told)
    return Mount(
        source=as_text(facts.get("Source")),
        dest=as_text(facts.get("Destination")),
        mode=as_text(facts.get("Mode")),
        rdwr=facts.get("RW") is True,
        propagation=as_text(facts.get("Propagation")),
    )
