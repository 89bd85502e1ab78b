"""Fields of the container in which the event happened."""

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind

ROWS = (
    Field("container.id", T.TEXT, "first 12 characters of the container's id, `host` on the host", "e.container.id"),
    Field("container.full_id", T.TEXT, "the whole id", "e.container.full_id"),
    Field("container.name", T.TEXT, "name of the container", "e.container.name"),
    Field(
        "container.type",
        T.TEXT,
        "runtime: docker, podman, containerd, cri-o, lxc, systemd-nspawn",
        "e.container.runtime",
    ),
    Field("container.image", T.TEXT, "image as it was asked for: `nginx:1.25`", "e.container.image"),
    Field("container.image.id", T.TEXT, "id of the image, without `sha256:`", "e.container.image_id"),
    Field("container.image.repository", T.TEXT, "image without its tag", "e.container.image_repository"),
    Field("container.image.tag", T.TEXT, "tag of the image", "e.container.image_tag"),
    Field("container.image.digest", T.TEXT, "digest of the image", "e.container.image_digest"),
    Field("container.privileged", T.BOOL, "true if started as privileged", "e.container.privileged"),
    Field(
        "container.mounts",
        T.TEXT,
        "all mounts, `source:dest:mode:rdwr:propagation` each, joined by blanks",
        "mounts_text(e.container.mounts)",
    ),
    *(
        Field(
            f"container.mount{suffix}",
            T.TEXT,
            f"{what} of one mount, by place or by {'destination' if part == 'source' else 'source'} (a `*` may end it)",
            f"mount_part(e.container.mounts, {{arg}}, '{part}', by_source={part != 'source'})",
            A.INDEX_OR_KEY,
            arg_required=True,
        )
        for suffix, part, what in (
            ("", "all", "all parts"),
            (".source", "source", "source"),
            (".dest", "dest", "destination"),
            (".mode", "mode", "mode"),
            (".rdwr", "rdwr", "`true` if writable"),
            (".propagation", "propagation", "propagation"),
        )
    ),
    Field(
        "container.labels",
        T.TEXT,
        "all labels, `name:value` each, joined by commas",
        "labels_text(e, e.container.labels)",
    ),
    Field(
        "container.label", T.TEXT, "value of one label", "label(e.container.labels, {arg})", A.KEY, arg_required=True
    ),
    Field(
        "container.ip",
        T.TEXT,
        "first IPv4 address of the container; empty where it has none of its own",
        "e.container.ip",
    ),
    Field("container.cni.json", T.TEXT, "what the network plugin said, as JSON", "pod_text(e, pod(e).cni)"),
    Field("container.start_ts", T.ABSTIME, "when the container was started", "e.container.started_ns"),
    Field("container.duration", T.RELTIME, "time since the container was started", "container_age(e)"),
    Field("container.host_pid", T.BOOL, "true if it sees the host's processes", "e.container.host_pid"),
    Field("container.host_network", T.BOOL, "true if it has the host's network", "e.container.host_network"),
    Field("container.host_ipc", T.BOOL, "true if it shares the host's IPC", "e.container.host_ipc"),
    *(
        Field(
            f"container.{name}",
            T.TEXT,
            f"{doc}; absent where the container has no such probe",
            f"probe_text(e.container.{name})",
        )
        for name, doc in (
            ("healthcheck", "command of the health check"),
            ("liveness_probe", "command by which Kubernetes asks whether it lives"),
            ("readiness_probe", "command by which Kubernetes asks whether it is ready"),
        )
    ),
    *(
        Field(
            f"proc.is_container_{name}",
            T.BOOL,
            f"true if the process, or an ancestor in its container, is the container's {doc}",
            f"is_probe(e, e.container.{name})",
        )
        for name, doc in (
            ("healthcheck", "health check"),
            ("liveness_probe", "liveness probe"),
            ("readiness_probe", "readiness probe"),
        )
    ),
    Field(
        "container.owner", T.INT, "user whose engine started it, absent for root's (not in Falco)", "e.container.owner"
    ),
    Field("container.missing", T.TEXT, "why the facts of a container are absent", "e.container.missing"),
)
