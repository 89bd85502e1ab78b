"""Values of a Kubernetes audit event: the functions that `get` expressions of `fields/ka.py` call.

Comes in: an `Event` whose `document` is an audit event (`audit.k8s.io/v1`) as JSON gave it. Goes out: texts, None where
absent. Never: an error whatever the document holds; it was written by whoever talks to the cluster.

A value that is no text is shown as compact JSON: `true`, `80`, `{"a":1}`. `null` is absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qs

from appliance.model.event import Event

Texts = tuple[str, ...]

_MAX_PARAMS = 1000
_POD = ("requestObject", "spec")


def _within(value: object, keys: tuple[str, ...]) -> object:
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _chosen(values: list[object], index: int | str | None) -> list[object]:
    """The value at a place, all where no place was given."""
    if index is None:
        return values
    return [values[index]] if isinstance(index, int) and 0 <= index < len(values) else []


def _texts(values: list[object]) -> Texts:
    return tuple(text for text in map(_text, values) if text is not None)


def json_text(e: Event, *keys: str) -> str | None:
    """The value below these keys."""
    return _text(_within(e.document, keys))


def cluster_name(e: Event) -> str | None:
    """The name of the cluster: of the annotation that who forwards events puts there, else of the source's settings."""
    named = json_text(e, "annotations", "cluster_name")
    return json_text(e, "cluster_name") if named is None else named


def json_texts(e: Event, index: int | str | None, *keys: str) -> Texts:
    """The values of the array below these keys, or the one at a place."""
    return _texts(_chosen(_list(_within(e.document, keys)), index))


def json_pointer(e: Event, pointer: int | str) -> str | None:
    """What a JSON pointer (RFC 6901) leads to; None where it leads nowhere."""
    value: object = e.document
    text = str(pointer)
    if text and not text.startswith("/"):
        return None
    for part in text.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return _text(value)


def json_whole(e: Event) -> str | None:
    """The whole document, indented as Falco's plugin does it."""
    return None if e.document is None else json.dumps(e.document, ensure_ascii=False, indent=2)


def uri_param(e: Event, key: int | str) -> str | None:
    """The first value of a parameter of the request's URI: `command` of `/exec?command=sh&stdin=true`."""
    uri = json_text(e, "requestURI")
    if uri is None:
        return None
    try:
        query = uri.partition("#")[0].partition("?")[2]
        found = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_PARAMS)
    except ValueError:
        return None
    return found.get(str(key), [None])[0]


def target_pod(e: Event) -> str | None:
    """The name of the pod that a request is about; for one whose name the server made, that of the response."""
    if json_text(e, "objectRef", "resource") != "pods":
        return None
    return json_text(e, "objectRef", "name") or json_text(e, "responseObject", "metadata", "name")


def subjects(e: Event, kind: str, *, with_namespace: bool = False) -> Texts:
    """Names of the subjects of one kind (`User`, `Group`, `ServiceAccount`) that a role binding binds."""
    names = []
    for subject in _list(_within(e.document, ("requestObject", "subjects"))):
        name = _text(_within(subject, ("name",)))
        if _within(subject, ("kind",)) != kind or name is None:
            continue
        namespace = _text(_within(subject, ("namespace",)))
        names.append(f"{namespace or ''}:{name}" if with_namespace else name)
    return tuple(names)


def _containers(e: Event, which: str, index: int | str | None) -> list[object]:
    """The containers of a pod that a request creates; those that an `ephemeralcontainers` request adds stand likewise
    below `spec`, in the API of old at the top."""
    found = _within(e.document, (*_POD, which))
    if found is None:
        found = _within(e.document, ("requestObject", which))
    return _chosen(_list(found), index)


def containers(e: Event, which: str, index: int | str | None, *keys: str) -> Texts:
    """A value of each container (`which`: containers, initContainers, ephemeralContainers) that gives it; the values of
    an array one by one."""
    found: list[object] = []
    for container in _containers(e, which, index):
        value = _within(container, keys)
        found += value if isinstance(value, list) else [value]
    return _texts(found)


def repositories(e: Event, which: str, index: int | str | None) -> Texts:
    """The images without tag and digest: `registry:5000/team/app` of `registry:5000/team/app:1.2@sha256:...`."""
    return tuple(repository(image) for image in containers(e, which, index, "image"))


def repository(image: str) -> str:
    """An image's name without tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def effective(e: Event, which: str, index: int | str | None, key: str) -> Texts:
    """`runAsUser` or `runAsGroup` of each container: its own, else the pod's, else 0."""
    of_pod = json_text(e, *_POD, "securityContext", key) or "0"
    found = (_text(_within(c, ("securityContext", key))) for c in _containers(e, which, index))
    return tuple(of_pod if text is None else text for text in found)


def host_ports(e: Event, which: str, index: int | str | None) -> Texts:
    """Ports of the host that containers ask for; where a port names none, the container's, as with `hostNetwork`."""
    found: list[object] = []
    for container in _containers(e, which, index):
        for port in _list(_within(container, ("ports",))):
            of_host = _within(port, ("hostPort",))
            found.append(of_host if of_host is not None else _within(port, ("containerPort",)))
    return _texts(found)


def any_privileged(e: Event) -> str | None:
    """`true` if any container of the request's pod is privileged; None where it has no containers."""
    found = _containers(e, "containers", None)
    if not found:
        return None
    return "true" if any(_within(c, ("securityContext", "privileged")) is True for c in found) else "false"


def first_of(values: Texts) -> str | None:
    """The first value, None where there is none."""
    return values[0] if values else None


def volumes(e: Event, index: int | str | None, *keys: str) -> Texts:
    """A value of each of the pod's volumes that gives it."""
    return _texts([_within(v, keys) for v in _chosen(_list(_within(e.document, (*_POD, "volumes"))), index)])


def volume_types(e: Event, index: int | str | None) -> Texts:
    """What each of the pod's volumes is: `hostPath`, `configMap` ..."""
    found = _chosen(_list(_within(e.document, (*_POD, "volumes"))), index)
    return tuple(key for volume in found if isinstance(volume, dict) for key in volume if key != "name")


def mounts_path(e: Event, path: int | str) -> str | None:
    """`true` if a volume is that path of the host; a `*` at its end stands for any rest. None without volumes."""
    if not _list(_within(e.document, (*_POD, "volumes"))):
        return None
    wanted = str(path)
    for found in volumes(e, None, "hostPath", "path"):
        if found == wanted or (wanted.endswith("*") and found.startswith(wanted[:-1])):
            return "true"
    return "false"


def role_rules(e: Event, index: int | str | None, key: str) -> Texts:
    """`verbs`, `resources`, `apiGroups` or `nonResourceURLs` of all rules of a role, or of the one at a place."""
    rules = _chosen(_list(_within(e.document, ("requestObject", "rules"))), index)
    return tuple(text for rule in rules for text in _texts(_list(_within(rule, (key,)))))


NAMES: Mapping[str, object] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            json_text, cluster_name, json_texts, json_pointer, json_whole, uri_param, target_pod, subjects, containers,
            repositories, effective, host_ports, any_privileged, first_of, volumes, volume_types, mounts_path,
            role_rules,
        )
    }
)  # fmt: skip
"""What the rows' expressions may name."""
