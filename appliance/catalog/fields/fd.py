"""Fields of the descriptor the event is about: a file, a socket, a pipe."""

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind


def _either(name: str, type_: FieldType, doc: str, first: str, second: str) -> Field:
    """A row for "one side or the other": a check holds if either side matches."""
    return Field(
        name,
        type_,
        doc,
        f"either(e.fd.{first}, e.fd.{second})",
        get_all=f"either(e.fd.{first}, e.fd.{second})",
        both=True,
    )


ROWS = (
    Field("fd.num", T.INT, "number of the descriptor, -1 for an open that failed", "e.fd.num"),
    Field("fd.type", T.TEXT, "kind: file, directory, ipv4, ipv6, unix, pipe, event ...", "e.fd.type"),
    Field("fd.typechar", T.TEXT, "kind as one letter: f d 4 6 u p e ...", "e.fd.typechar"),
    Field("fd.name", T.PATH, "absolute path of a file, or `client:port->server:port` of a socket", "e.fd.name"),
    Field("fd.nameraw", T.PATH, "path as the caller gave it", "raw_name(e)"),
    Field("fd.directory", T.PATH, "folder of a file", "e.fd.directory"),
    Field("fd.filename", T.PATH, "last component of a file's path", "e.fd.filename"),
    Field("fd.sockfamily", T.TEXT, "`ip` or `unix`, of a socket", "socket_family(e)"),
    Field(
        "fd.l4proto",
        T.TEXT,
        "protocol of a socket: tcp, udp, icmp, raw; `<NA>` of other descriptors",
        "socket_protocol(e)",
    ),
    _either("fd.ip", T.ADDRESS, "address of either side", "cip", "sip"),
    _either("fd.port", T.PORT, "port of either side", "cport", "sport"),
    _either("fd.net", T.NET, "network of either side", "cip", "sip"),
    Field("fd.cip", T.ADDRESS, "client's address", "e.fd.cip"),
    Field("fd.sip", T.ADDRESS, "server's address", "e.fd.sip"),
    Field("fd.lip", T.ADDRESS, "local address", "e.fd.lip"),
    Field("fd.rip", T.ADDRESS, "remote address", "e.fd.rip"),
    Field("fd.cport", T.PORT, "client's port", "e.fd.cport"),
    Field("fd.sport", T.PORT, "server's port", "e.fd.sport"),
    Field("fd.lport", T.PORT, "local port", "e.fd.lport"),
    Field("fd.rport", T.PORT, "remote port", "e.fd.rport"),
    Field("fd.cnet", T.NET, "client's network", "e.fd.cip"),
    Field("fd.snet", T.NET, "server's network", "e.fd.sip"),
    Field("fd.lnet", T.NET, "local network", "e.fd.lip"),
    Field("fd.rnet", T.NET, "remote network", "e.fd.rip"),
    Field(
        "fd.is_server",
        T.BOOL,
        "true if the server of this socket is on this machine, by any of its addresses that the event shows",
        "fd_flag(e, e.fd.is_server)",
    ),
    Field("fd.connected", T.BOOL, "true if the socket is connected", "fd_flag(e, e.fd.connected)"),
    Field(
        "fd.name_changed",
        T.BOOL,
        "true if this event gave the descriptor another name: a message to another address, a connect",
        "fd_flag(e, e.fd.name_changed)",
    ),
    _either("fd.proto", T.PORT, "port of either side, as `fd.port`: Falco names no services", "cport", "sport"),
    Field("fd.cproto", T.TEXT, "client's port as text", "port_text(e.fd.cport)"),
    Field("fd.sproto", T.TEXT, "server's port as text", "port_text(e.fd.sport)"),
    Field("fd.lproto", T.TEXT, "local port as text", "port_text(e.fd.lport)"),
    Field("fd.rproto", T.TEXT, "remote port as text", "port_text(e.fd.rport)"),
    Field("fd.uid", T.TEXT, "thread and number of the descriptor, one behind the other", "fd_uid(e)"),
    Field(
        "fd.containername", T.TEXT, "container's id and name of the descriptor: `ID:NAME`", "in_container(e, e.fd.name)"
    ),
    Field(
        "fd.containerdirectory",
        T.TEXT,
        "container's id and folder of the file: `ID:FOLDER`",
        "in_container(e, e.fd.directory)",
    ),
    Field(
        "fd.dev",
        T.INT,
        "device that holds the file, as stat(2) tells it; shown in hexadecimal",
        "hexadecimal(e.fd.dev)",
    ),
    Field("fd.dev.major", T.INT, "its major number", "device_major(e.fd.dev)"),
    Field("fd.dev.minor", T.INT, "its minor number", "device_minor(e.fd.dev)"),
    Field(
        "fd.realpath",
        T.PATH,
        "where the file lies that an open gave, links followed, as the kernel knows it (not in Falco)",
        "e.fd.realpath",
    ),
    Field(
        "fd.is_elsewhere",
        T.BOOL,
        "true if it lies elsewhere than `fd.name` says: behind a symbolic link (not in Falco)",
        "None if e.fd.realpath is None else e.fd.realpath != e.fd.name",
    ),
    Field("fd.ino", T.INT, "number of the inode", "e.fd.ino"),
    Field(
        "fd.is_upper_layer",
        T.BOOL,
        "true for a file in the upper layer of an overlay: changed or made in the container",
        "fd_flag(e, e.fd.flags & 1)",
    ),
    Field(
        "fd.is_lower_layer",
        T.BOOL,
        "true for a file in a lower layer of an overlay: of the image",
        "fd_flag(e, e.fd.flags & 2)",
    ),
    *(
        Field(
            f"fd.{side}.name",
            T.TEXT,
            f"domain names of the {whose} address, among those that rules ask for; empty where it has none of them",
            f"domain_names(e.fd, e.fd.{side})",
            get_all=f"domain_names(e.fd, e.fd.{side})",
            both=True,
        )
        for side, whose in (("cip", "client's"), ("sip", "server's"), ("lip", "local"), ("rip", "remote"))
    ),
    Field(
        "fd.types",
        T.TEXT,
        "kind of a descriptor by number: of 0, 1, 2 and the event's own; without a number, of all these",
        "fd_type(e, {arg})",
        A.INDEX,
        is_list=True,
        get_all="fd_types(e)",
    ),
    *(
        Field(
            f"fdlist.{column}",
            T.TEXT,
            f"{what} of the descriptors that a poll waits for, joined by commas: of the first 8",
            f"polled(e, '{column}')",
        )
        for column, what in (
            ("nums", "numbers"),
            ("names", "names"),
            ("cips", "client's addresses"),
            ("sips", "server's addresses"),
            ("cports", "client's ports"),
            ("sports", "server's ports"),
        )
    ),
)
