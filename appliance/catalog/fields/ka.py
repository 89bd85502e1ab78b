"""Fields of the source `k8s_audit`: Kubernetes audit events (`audit.k8s.io/v1`), and JSON documents at large.

Names, types and arguments are those of Falco's plugins k8saudit and json.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind

_SOURCES = ("k8s_audit",)


def _one(name: str, doc: str, get: str) -> Field:
    return Field(name, T.TEXT, doc, get, sources=_SOURCES)


def _at(name: str, doc: str, *keys: str) -> Field:
    """The value below some keys of the document."""
    return _one(name, doc, f"json_text(e, {', '.join(map(repr, keys))})")


def _keyed(name: str, doc: str, get: str) -> Field:
    return Field(name, T.TEXT, doc, get, A.KEY, arg_required=True, sources=_SOURCES)


def _many(name: str, doc: str, get: str, arg: ArgKind = A.INDEX) -> Field:
    """Several values; with an argument the one at that place."""
    return Field(name, T.TEXT, doc, get, arg, is_list=True, sources=_SOURCES)


def _annotation(name: str, doc: str, key: str) -> Field:
    return _at(name, doc, "annotations", key)


_CONTAINERS = (
    ("containers", "containers"),
    ("initContainers", "init containers"),
    ("ephemeralContainers", "ephemeral containers"),
)
_OF_CONTAINERS = (
    ("name", "names", ("name",)),
    ("image", "images", ("image",)),
    ("command", "commands, each argument on its own", ("command",)),
    ("args", "arguments of the commands", ("args",)),
    ("privileged", "`privileged` flags", ("securityContext", "privileged")),
    ("allow_privilege_escalation", "`allowPrivilegeEscalation` flags", ("securityContext", "allowPrivilegeEscalation")),
    ("read_only_fs", "`readOnlyRootFilesystem` flags", ("securityContext", "readOnlyRootFilesystem")),
    ("run_as_user", "user ids", ("securityContext", "runAsUser")),
    ("run_as_group", "group ids", ("securityContext", "runAsGroup")),
    ("proc_mount", "kinds of `/proc`", ("securityContext", "procMount")),
    ("add_capabilities", "capabilities that are added", ("securityContext", "capabilities", "add")),
)


def _of_containers(which: str, title: str) -> Iterator[Field]:
    base = f"ka.req.pod.{which}"
    for name, doc, keys in _OF_CONTAINERS:
        path = ", ".join(map(repr, keys))
        yield _many(f"{base}.{name}", f"{doc} of a pod's {title}", f"containers(e, {which!r}, {{arg}}, {path})")
    yield _many(
        f"{base}.image.repository", f"images of a pod's {title}, without tag and digest",
        f"repositories(e, {which!r}, {{arg}})",
    )  # fmt: skip
    for name, key in (("eff_run_as_user", "runAsUser"), ("eff_run_as_group", "runAsGroup")):
        yield _many(
            f"{base}.{name}", f"`{key}` of a pod's {title}: its own, else the pod's, else 0",
            f"effective(e, {which!r}, {{arg}}, {key!r})",
        )  # fmt: skip
    yield _many(f"{base}.host_port", f"ports of the host, of a pod's {title}", f"host_ports(e, {which!r}, {{arg}})")


def _of_subjects(name: str, doc: str, kind: str, more: str = "") -> Field:
    return _many(f"ka.req.binding.subjects.{name}", doc, f"subjects(e, {kind!r}{more})", A.NONE)


_POD = ("requestObject", "spec")

ROWS = (
    _at("ka.auditid", "id of the audit event", "auditID"),
    _at("ka.stage", "stage of the request: RequestReceived, ResponseStarted, ResponseComplete, Panic", "stage"),
    _one("ka.cluster.name", "name of the cluster: an annotation's, else as `clusterName` of the plugin has it",
         "cluster_name(e)"),
    _annotation("ka.auth.decision", "`allow` or `forbid`", "authorization.k8s.io/decision"),
    _annotation("ka.auth.reason", "why it was decided so", "authorization.k8s.io/reason"),
    _annotation("ka.auth.openshift.decision", "OpenShift's decision", "authentication.openshift.io/decision"),
    _annotation("ka.auth.openshift.username", "OpenShift's name of the user", "authentication.openshift.io/username"),
    _annotation(
        "ka.validations.admission.policy.failure", "what a validating admission policy found",
        "validation.policy.admission.k8s.io/validation_failure",
    ),
    _annotation(
        "ka.security.pod.violations", "what pod security standards a pod offends",
        "pod-security.kubernetes.io/audit-violations",
    ),
    _at("ka.user.name", "user who makes the request", "user", "username"),
    _many("ka.user.groups", "groups of the user", "json_texts(e, None, 'user', 'groups')", A.NONE),
    _at("ka.impuser.name", "user whom the request impersonates", "impersonatedUser", "username"),
    _at("ka.verb", "what is asked for: get, list, create, update, patch, delete ...", "verb"),
    _at("ka.uri", "URI of the request", "requestURI"),
    _keyed("ka.uri.param", "first value of a parameter of the URI", "uri_param(e, {arg})"),
    _at("ka.target.name", "name of the object", "objectRef", "name"),
    _at("ka.target.namespace", "namespace of the object", "objectRef", "namespace"),
    _at("ka.target.resource", "kind of object: pods, services ...", "objectRef", "resource"),
    _at("ka.target.subresource", "part of the object: exec, attach, log ...", "objectRef", "subresource"),
    _one("ka.target.pod.name", "name of the pod that the request is about", "target_pod(e)"),
    _many(
        "ka.req.binding.subjects", "subjects of a role binding, as JSON",
        "json_texts(e, None, 'requestObject', 'subjects')", A.NONE,
    ),
    _of_subjects("user_names", "users that a role binding binds", "User"),
    _of_subjects("group_names", "groups that a role binding binds", "Group"),
    _of_subjects("serviceaccount_names", "service accounts that a role binding binds", "ServiceAccount"),
    _of_subjects(
        "serviceaccount_ns_names", "the same as `namespace:name`", "ServiceAccount", ", with_namespace=True"
    ),
    _at("ka.req.binding.role", "role of a role binding", "requestObject", "roleRef", "name"),
    _keyed("ka.req.binding.subject.has_name", "always `true`, as in Falco; deprecated", "'true'"),
    _at("ka.req.configmap.name", "name of a config map", "objectRef", "name"),
    _at("ka.req.configmap.obj", "data of a config map, as JSON", "requestObject", "data"),
    *(row for which, title in _CONTAINERS for row in _of_containers(which, title)),
    _one(
        "ka.req.container.image", "image of a pod's first container; deprecated",
        "first_of(containers(e, 'containers', 0, 'image'))",
    ),
    _one(
        "ka.req.container.image.repository", "the same without tag and digest; deprecated",
        "first_of(repositories(e, 'containers', 0))",
    ),
    _one("ka.req.container.privileged", "`true` if any container is privileged; deprecated", "any_privileged(e)"),
    _at("ka.req.pod.host_ipc", "a pod's `hostIPC`", *_POD, "hostIPC"),
    _at("ka.req.pod.host_network", "a pod's `hostNetwork`", *_POD, "hostNetwork"),
    _at("ka.req.container.host_network", "the same; deprecated", *_POD, "hostNetwork"),
    _at("ka.req.pod.host_pid", "a pod's `hostPID`", *_POD, "hostPID"),
    _at("ka.req.pod.run_as_user", "a pod's user id", *_POD, "securityContext", "runAsUser"),
    _at("ka.req.pod.run_as_group", "a pod's group id", *_POD, "securityContext", "runAsGroup"),
    _at("ka.req.pod.fs_group", "a pod's group id of volumes", *_POD, "securityContext", "fsGroup"),
    _many(
        "ka.req.pod.supplemental_groups", "a pod's further group ids",
        "json_texts(e, None, 'requestObject', 'spec', 'securityContext', 'supplementalGroups')", A.NONE,
    ),
    _many("ka.req.role.rules", "rules of a role, as JSON", "json_texts(e, None, 'requestObject', 'rules')", A.NONE),
    *(
        _many(f"ka.req.role.rules.{key}", f"`{key}` of a role's rules", f"role_rules(e, {{arg}}, {key!r})")
        for key in ("apiGroups", "nonResourceURLs", "verbs", "resources")
    ),
    _at("ka.req.service.type", "a service's type: ClusterIP, NodePort ...", *_POD, "type"),
    _many(
        "ka.req.service.ports", "a service's ports, as JSON", "json_texts(e, {arg}, 'requestObject', 'spec', 'ports')"
    ),
    _many("ka.req.pod.volumes.hostpath", "paths of the host in a pod", "volumes(e, {arg}, 'hostPath', 'path')"),
    _keyed(
        "ka.req.volume.hostpath", "`true` if a pod has that path of the host; deprecated", "mounts_path(e, {arg})"
    ),
    _many(
        "ka.req.pod.volumes.flexvolume_driver", "drivers of a pod's flex volumes",
        "volumes(e, {arg}, 'flexVolume', 'driver')",
    ),
    _many("ka.req.pod.volumes.volume_type", "types of a pod's volumes", "volume_types(e, {arg})"),
    _at("ka.resp.name", "name of the object that the response holds", "responseObject", "metadata", "name"),
    _at("ka.response.code", "HTTP status of the response", "responseStatus", "code"),
    _at("ka.response.reason", "reason of the response, mostly of failures", "responseStatus", "reason"),
    _at("ka.useragent", "program that makes the request", "userAgent"),
    _many("ka.sourceips", "addresses from which the request comes", "json_texts(e, {arg}, 'sourceIPs')"),
    *(
        field
        for class_ in ("jevt", "json")
        for field in (
            _keyed(f"{class_}.value", "what a JSON pointer leads to", "json_pointer(e, {arg})"),
            _one(f"{class_}.obj", "the whole document, indented", "json_whole(e)"),
            _one(f"{class_}.rawtime", "time of the event, nanoseconds since the epoch", "str(e.ts_ns)"),
        )
    ),
)  # fmt: skip
