"""Kubernetes audit events as an API server writes them (`audit.k8s.io/v1`), made by hand."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def audit(verb: str, resource: str, **more: Any) -> Json:
    """A request of a user that was answered; `name`, `namespace`, `subresource`, `user` and keys of the event."""
    ref = {key: more.pop(key) for key in ("name", "namespace", "subresource") if key in more}
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": "5c1ef0b1-9ef4-4f0e-9d3b-6a3a2b0f7a11",
        "stage": "ResponseComplete",
        "requestURI": more.pop("uri", f"/api/v1/namespaces/{ref.get('namespace', 'default')}/{resource}"),
        "verb": verb,
        "user": {"username": more.pop("user", "jane"), "groups": ["developers", "system:authenticated"]},
        "sourceIPs": ["10.0.0.7", "10.0.0.1"],
        "userAgent": "kubectl/v1.31.0 (linux/amd64)",
        "objectRef": {"resource": resource, "apiVersion": "v1", **ref},
        "responseStatus": {"metadata": {}, "code": 201},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.000000Z",
        "stageTimestamp": "2026-01-02T03:04:05.123456Z",
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
        **more,
    }


POD = audit(
    "create", "pods", name="web", namespace="shop",
    requestObject={
        "kind": "Pod",
        "spec": {
            "hostNetwork": True,
            "securityContext": {"runAsUser": 1000},
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "sock", "hostPath": {"path": "/var/run/docker.sock", "type": ""}},
            ],
            "containers": [
                {"name": "a", "image": "registry:5000/team/app:1.2@sha256:00ff", "args": ["-v", "x"]},
                {
                    "name": "b", "image": "nginx", "ports": [{"containerPort": 80}, {"hostPort": 8443}],
                    "securityContext": {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}},
                },
            ],
        },
    },
    responseObject={"metadata": {"name": "web"}},
)  # fmt: skip
EXEC = audit(
    "create", "pods", name="web", namespace="shop", subresource="exec", stage="ResponseStarted",
    uri="/api/v1/namespaces/shop/pods/web/exec?command=sh&command=-c&stdin=true",
)  # fmt: skip
ROLE = audit(
    "create", "clusterroles", name="all",
    requestObject={"rules": [{"verbs": ["*"], "resources": ["pods"]}, {"verbs": ["get"], "resources": ["pods/exec"]}]},
)  # fmt: skip
BINDING = audit(
    "create", "clusterrolebindings", name="boss",
    requestObject={
        "roleRef": {"name": "cluster-admin"},
        "subjects": [
            {"kind": "User", "name": "eve"},
            {"kind": "ServiceAccount", "name": "robot", "namespace": "ci"},
        ],
    },
)  # fmt: skip
QUIET = audit("get", "pods", name="web", namespace="shop", user="system:kube-scheduler")
