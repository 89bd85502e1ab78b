"""Fields of the Kubernetes pod of the container in which the event happened."""

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind

ROWS = (
    Field("k8s.pod.name", T.TEXT, "name of the pod", "pod(e).name"),
    Field("k8s.ns.name", T.TEXT, "namespace of the pod", "pod(e).namespace"),
    Field("k8s.pod.uid", T.TEXT, "uid of the pod, known from its cgroup", "pod(e).uid"),
    Field("k8s.pod.id", T.TEXT, "the same as `k8s.pod.uid`", "pod(e).uid"),
    Field(
        "k8s.pod.sandbox_id",
        T.TEXT,
        "first 12 characters of the pod's sandbox's id",
        "pod_text(e, short_id(pod(e).sandbox_id))",
    ),
    Field("k8s.pod.full_sandbox_id", T.TEXT, "the whole id of the pod's sandbox", "pod_text(e, pod(e).sandbox_id)"),
    Field("k8s.pod.labels", T.TEXT, "all labels, `name:value` each, joined by commas", "pod_labels_text(e)"),
    Field("k8s.pod.label", T.TEXT, "value of one label", "label(pod(e).labels, {arg})", A.KEY, arg_required=True),
    Field("k8s.pod.ip", T.TEXT, "IPv4 address of the pod", "pod_text(e, pod(e).ip)"),
    Field("k8s.pod.cni.json", T.TEXT, "what the network plugin said, as JSON", "pod_text(e, pod(e).cni)"),
    Field(
        "k8s.pod.qos",
        T.TEXT,
        "quality of service, known from its cgroup: guaranteed, burstable, besteffort (not in Falco)",
        "pod(e).qos",
    ),
)
