"""containerd and CRI-O: the kubelet's API (CRI) on their sockets, and containerd's own where CRI does not know a
container.

Comes in: a container's id. Goes out: a `Container`, news of containers by their ids. Never: trust in an
answer.

Numbers of fields are those of `runtime.v1` (k8s.io/cri-api, api.proto) and of containerd's `containers.v1`,
`images.v1`, `namespaces.v1`, `events.v1`; they do not change between versions. What CRI tells only in words meant for
people (`verbose`), JSON of each engine's own, is read where it is as we know it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.model.event import WAITING, Container, Mount, Pod
from appliance.sources.docker_api import (
    EngineError,
    UnknownContainerError,
    as_text,
    kubernetes_probes,
    own_digest,
    parse_image,
    pod_labels,
    pod_of,
    read_labels,
)
from appliance.sources.grpc import NOT_FOUND, UNIMPLEMENTED, Call, GrpcError, ask
from appliance.sources.protobuf import Message, encode

_RUNTIME, _IMAGES = "/runtime.v1.RuntimeService", "/runtime.v1.ImageService"
_CONTAINERD = "/containerd.services"
_NODE = 2  # NamespaceMode: the host's
_PROPAGATIONS = ("private", "rslave", "rshared")
_LIST_MAX = 4096
_MOUNTS_MAX = 256
_NAMESPACES_MAX = 16
_CNI_MAX = 8192
_LOOK_S = 1.0
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_CREATED = 'topic=="/containers/create"', 'topic=="/tasks/create"', 'topic=="/tasks/start"'


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its word (`containerd`, `cri-o`) and where it answers."""

    runtime: str
    socket: Path
    owner: int | None = None

    def ask(self, method: str, request: bytes, timeout_s: float, namespace: str = "") -> Message:
        """One question. Raises `EngineError`, `UnknownContainerError`."""
        metadata = [("containerd-namespace", namespace)] if namespace else []
        try:
            return Message(ask(self.socket, method, request, timeout_s=timeout_s, owner=self.owner, metadata=metadata))
        except GrpcError as error:
            if error.code == NOT_FOUND or (error.code == 2 and "not found" in str(error)):  # 2: CRI-O of old
                raise UnknownContainerError from error
            raise
        except ValueError as error:
            raise EngineError(str(error)) from error

    def container(self, full_id: str, timeout_s: float) -> Container:
        """All facts of one container, or of a pod's sandbox. Raises `EngineError`, `UnknownContainerError`."""
        for look in (self._of_kubelet, self._sandbox, self._of_containerd):
            try:
                return look(full_id, timeout_s)
            except UnknownContainerError:
                continue
            except ValueError as error:
                raise EngineError(str(error)) from error
        raise UnknownContainerError

    def _of_kubelet(self, full_id: str, timeout_s: float) -> Container:
        request = encode((1, full_id), (2, 1))
        try:
            answer = self.ask(f"{_RUNTIME}/ContainerStatus", request, timeout_s)
        except GrpcError as error:
            if error.code == UNIMPLEMENTED:  # a containerd without CRI, as Docker brings it along
                raise UnknownContainerError from error
            raise
        status = answer.message(1)
        if status.text(1) != full_id:
            raise EngineError("an answer about another container")
        told = _json(answer.mapping(2).get("info"))
        image, image_ref, image_id = status.message(8).text(1), status.text(9), status.text(17)
        if image.startswith("sha256:"):
            image = status.message(8).text(18) or image
        container = self._with_image(_named(full_id, self.runtime, image), image, image_ref or image_id, timeout_s)
        labels = status.mapping(12)
        container = replace(
            container,
            owner=self.owner,
            name=status.message(2).text(1),
            privileged=_privileged(told),
            mounts=tuple(_mount(m) for m in status.messages(14)[:_MOUNTS_MAX]),
            labels=read_labels(labels),
            started_ns=status.number(5) or None,
        )
        sandbox_id = as_text(told.get("sandboxID")) or self._sandbox_of(full_id, timeout_s)
        return self._in_sandbox(container, sandbox_id, labels, timeout_s)

    def _sandbox_of(self, full_id: str, timeout_s: float) -> str:
        """Which sandbox a container is in: CRI tells it in lists only."""
        listed = self.ask(f"{_RUNTIME}/ListContainers", encode((1, encode((1, full_id)))), timeout_s)
        return next((c.text(2) for c in listed.messages(1) if c.text(1) == full_id), "")

    def _with_image(self, container: Container, image: str, ref: str, timeout_s: float) -> Container:
        """The image's id and digest, and its name where the container was made of an id."""
        try:
            request = encode((1, encode((1, ref or image))))
            told = self.ask(f"{_IMAGES}/ImageStatus", request, timeout_s).message(1)
        except (EngineError, UnknownContainerError):
            told = Message(b"")
        tags = told.texts(2)
        if image.startswith("sha256:") and tags:
            container = _named(container.full_id, self.runtime, tags[0])
        image_id = told.text(1) or (ref if ref.startswith("sha256:") else "")
        digest = (
            container.image_digest or ref.partition("@")[2] or own_digest(told.texts(3), container.image_repository)
        )
        return replace(container, image_id=image_id.removeprefix("sha256:"), image_digest=digest)

    def _in_sandbox(
        self, container: Container, sandbox_id: str, labels: Mapping[str, str], timeout_s: float
    ) -> Container:
        pod = Pod(
            uid=labels.get("io.kubernetes.pod.uid"),
            name=labels.get("io.kubernetes.pod.name"),
            namespace=labels.get("io.kubernetes.pod.namespace"),
            sandbox_id=sandbox_id or None,
        )
        try:
            answer = self._sandbox_status(sandbox_id, timeout_s)
        except UnknownContainerError:
            return replace(container, pod=pod)
        sandbox = self._read_sandbox(answer)
        applied = answer.message(1).mapping(8).get(_APPLIED, "")
        liveness, readiness = kubernetes_probes(applied, labels.get("io.kubernetes.container.name", ""))
        return replace(
            container, ip=sandbox.ip, pod=sandbox.pod, host_network=sandbox.host_network, host_pid=sandbox.host_pid,
            host_ipc=sandbox.host_ipc, liveness_probe=liveness, readiness_probe=readiness,
        )  # fmt: skip

    def _sandbox_status(self, sandbox_id: str, timeout_s: float) -> Message:
        if not sandbox_id:
            raise UnknownContainerError
        try:
            answer = self.ask(f"{_RUNTIME}/PodSandboxStatus", encode((1, sandbox_id), (2, 1)), timeout_s)
        except GrpcError as error:
            if error.code == UNIMPLEMENTED:
                raise UnknownContainerError from error
            raise
        if answer.message(1).text(1) != sandbox_id:
            raise EngineError("an answer about another sandbox")
        return answer

    def _sandbox(self, sandbox_id: str, timeout_s: float) -> Container:
        """A pod's sandbox as a container of its own: the one that holds the pod's namespaces."""
        return self._read_sandbox(self._sandbox_status(sandbox_id, timeout_s))

    def _read_sandbox(self, answer: Message) -> Container:
        status = answer.message(1)
        sandbox_id, told = status.text(1), _json(answer.mapping(2).get("info"))
        metadata, modes = status.message(2), status.message(6).message(1).message(2)
        host_network = modes.number(1) == _NODE
        address = status.message(5).text(1)
        ip = address if "." in address and not host_network else ""
        labels = read_labels(status.mapping(7))
        pod = Pod(
            uid=metadata.text(2) or None,
            name=metadata.text(1) or None,
            namespace=metadata.text(3) or None,
            sandbox_id=sandbox_id,
            labels=pod_labels(labels),
            ip=ip,
            cni=_cni(told),
        )
        return replace(
            _named(sandbox_id, self.runtime, as_text(told.get("image"))), owner=self.owner, name="POD", labels=labels,
            ip=ip, privileged=_privileged(told), started_ns=status.number(4) or None, host_network=host_network,
            host_pid=modes.number(2) == _NODE, host_ipc=modes.number(3) == _NODE, pod=pod,
        )  # fmt: skip

    def _of_containerd(self, full_id: str, timeout_s: float) -> Container:
        """A container that nobody made through CRI: by `ctr`, nerdctl, or a program of its own."""
        try:
            told = self.ask(f"{_CONTAINERD}.namespaces.v1.Namespaces/List", b"", timeout_s)
        except GrpcError as error:
            if error.code == UNIMPLEMENTED:  # CRI-O
                raise UnknownContainerError from error
            raise
        for namespace in [n.text(1) for n in told.messages(1)][:_NAMESPACES_MAX]:
            try:
                answer = self.ask(
                    f"{_CONTAINERD}.containers.v1.Containers/Get", encode((1, full_id)), timeout_s, namespace
                )
            except UnknownContainerError:
                continue
            return self._read_containerd(answer.message(1), full_id, namespace, timeout_s)
        raise UnknownContainerError

    def _read_containerd(self, facts: Message, full_id: str, namespace: str, timeout_s: float) -> Container:
        image, labels = facts.text(3), facts.mapping(2)
        kind = labels.get("io.cri-containerd.kind")
        if kind == "container":  # the kubelet's, and so new that CRI does not tell of it yet
            raise UnknownContainerError
        spec = _json(facts.message(5).text(2))
        process, linux = _object(spec.get("process")), _object(spec.get("linux"))
        capabilities = _object(process.get("capabilities")).get("bounding")
        kinds = {as_text(_object(n).get("type")) for n in linux.get("namespaces") or ()}
        try:
            told = self.ask(f"{_CONTAINERD}.images.v1.Images/Get", encode((1, image)), timeout_s, namespace)
            digest = told.message(1).message(3).text(2)
        except (EngineError, UnknownContainerError):
            digest = ""
        return replace(
            _named(full_id, self.runtime, image),
            owner=self.owner,
            name="POD" if kind == "sandbox" else labels.get("nerdctl/name") or full_id,
            image_digest=digest,
            labels=read_labels(labels),
            # nothing says `privileged` here: it is a container that keeps its kernel's every capability
            privileged=isinstance(capabilities, list)
            and "CAP_SYS_ADMIN" in capabilities
            and "CAP_SYS_MODULE" in capabilities,
            mounts=tuple(_spec_mount(_object(m)) for m in (spec.get("mounts") or ())[:_MOUNTS_MAX]),
            started_ns=_timestamp(facts.message(8)),
            host_network="network" not in kinds,
            host_pid="pid" not in kinds,
            host_ipc="ipc" not in kinds,
            pod=pod_of(read_labels(labels), None, sandbox_id=full_id),
        )

    def listen(self, timeout_s: float) -> CriEvents:
        """The engine's events, from now on. Raises `EngineError`."""
        return CriEvents(self, timeout_s)


class CriEvents:
    """An engine's events as they come: containerd's own, which every version has; CRI's where there are none such, and
    where these are switched off, as CRI-O has them by default, a look at the list every second."""

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._is_containerd = engine.runtime == "containerd"
        if self._is_containerd:
            method, request = f"{_CONTAINERD}.events.v1.Events/Subscribe", encode(*((1, f) for f in _CREATED))
        else:
            method, request = f"{_RUNTIME}/GetContainerEvents", b""
        self._shut = threading.Event()
        self._call = Call(engine.socket, method, request, timeout_s=timeout_s, owner=engine.owner)

    def news(self) -> Iterator[Container]:
        """Those that run already, then those of which something is new, by their ids. Raises `EngineError`."""
        waiting = f"{WAITING}{self._engine.runtime}"
        for full_id in self._ids():
            yield Container(full_id[:12], full_id, self._engine.runtime, owner=self._engine.owner, missing=waiting)

    def _ids(self) -> Iterator[str]:
        """Those that run already, then those of which something is new. Raises `EngineError`."""
        known = set[str]()
        for full_id in self._listed():
            known.add(full_id)
            yield full_id
        try:
            for data in self._call.messages(patience_s=None):
                message = Message(data)
                if self._is_containerd:
                    yield message.message(4).message(2).text(1)  # an envelope, an Any, the event: its first field
                else:
                    yield message.text(1)
        except GrpcError as error:
            if error.code != UNIMPLEMENTED:
                raise
            yield from self._polled(known)
        except ValueError as error:
            raise EngineError(str(error)) from error

    def _polled(self, known: set[str]) -> Iterator[str]:
        """Those that appear in the engine's list."""
        while not self._shut.wait(_LOOK_S):
            listed = list(self._listed())
            yield from (full_id for full_id in listed if full_id not in known)
            known = set(listed)

    def _listed(self) -> Iterator[str]:
        for method, place in (("ListContainers", 1), ("ListPodSandbox", 1)):
            try:
                told = self._engine.ask(f"{_RUNTIME}/{method}", b"", self._timeout_s)
            except GrpcError as error:
                if error.code != UNIMPLEMENTED:
                    raise
                return
            for entry in told.messages(place)[:_LIST_MAX]:
                yield entry.text(1)

    def shut(self) -> None:
        """End `news`, wherever it waits."""
        self._shut.set()
        self._call.shut()

    def close(self) -> None:
        """Give the connection back."""
        self._call.close()


def _named(full_id: str, runtime: str, image: str) -> Container:
    name = parse_image(image) if image else parse_image("sha256:")
    return Container(
        id=full_id[:12], full_id=full_id, runtime=runtime, name="", image=image, image_id="",
        image_repository=name.repository, image_tag=name.tag, image_digest=name.digest, ip="",
    )  # fmt: skip


def _json(text: str | None) -> Mapping[str, Any]:
    """An engine's own words; none where they are not as we know them."""
    try:
        return _object(json.loads(text)) if text else {}
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _privileged(told: Mapping[str, Any]) -> bool | None:
    """containerd tells the kubelet's configuration, CRI-O a word of its own; None where neither stands there."""
    if isinstance(told.get("privileged"), bool):
        return bool(told["privileged"])
    linux = _object(_object(told.get("config")).get("linux"))
    if not linux:
        return None
    return _object(linux.get("security_context")).get("privileged") is True


def _cni(told: Mapping[str, Any]) -> str | None:
    """What the network plugin said: containerd's interfaces, or CRI-O's annotation."""
    interfaces = _object(told.get("cniResult")).get("Interfaces")
    if isinstance(interfaces, dict):
        text = json.dumps({name: value for name, value in interfaces.items() if name != "lo"}, separators=(",", ":"))
    else:
        annotations = _object(_object(told.get("runtimeSpec")).get("annotations"))
        text = as_text(annotations.get("io.kubernetes.cri-o.CNIResult"))
    return text if text and len(text) <= _CNI_MAX else None


def _mount(told: Message) -> Mount:
    propagation = told.number(5)
    return Mount(
        source=told.text(2),
        dest=told.text(1),
        mode="",
        rdwr=not told.number(3),
        propagation=_PROPAGATIONS[propagation] if propagation < len(_PROPAGATIONS) else "",
    )


def _spec_mount(told: Mapping[str, Any]) -> Mount:
    options = [as_text(option) for option in told.get("options") or ()]
    propagation = next((o for o in options if o.lstrip("r") in ("private", "slave", "shared")), "")
    return Mount(
        source=as_text(told.get("source")), dest=as_text(told.get("destination")), mode="", rdwr="ro" not in options,
        propagation=propagation,
    )  # fmt: skip


def _timestamp(told: Message) -> int | None:
    """google.protobuf.Timestamp in nanoseconds since the epoch."""
    return told.number(1) * 1_000_000_000 + told.number(2) or None
