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
    Field("container.image.id", T.TEXT, "first 12 characters of the image's id", "e.container.image_id"),
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
    Field("container.missing", T.TEXT, "why the facts of a container are absent", "e.container.missing"),
)
