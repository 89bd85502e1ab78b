"""Fields of the process that caused the event, of its thread and of its ancestors."""

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind


def _ancestor(name: str, type_: FieldType, doc: str, attribute: str) -> Field:
    """A row that walks the tree: `[0]` is the process, `[1]` its parent; without a number, any of them."""
    return Field(
        name,
        type_,
        f"{doc} of an ancestor: [1] is the parent; without a number, of any ancestor",
        f"e.ancestor({{arg}}).{attribute}",
        A.INDEX,
        get_all=f"[p.{attribute} for p in ancestors(e)[1:] if p.{attribute} is not None]",
    )


def _leader(field: str, of: str) -> tuple[Field, ...]:
    """Rows about the leader of a session or a group: the process itself or an ancestor of it."""
    return tuple(
        Field(f"proc.{field}.{name}", type_, f"{doc} of the {of}'s leader", f"relative(e, e.process.{field}).{name}")
        for name, type_, doc in (("exe", T.TEXT, "first argument"), ("exepath", T.PATH, "path of the running file"))
    )


ROWS = (
    Field("proc.pid", T.INT, "process id, in the host's namespace", "e.process.pid"),
    Field("proc.ppid", T.INT, "id of the parent process", "e.process.ppid"),
    Field("proc.vpid", T.INT, "process id in its own pid namespace", "e.process.vpid"),
    Field("proc.name", T.TEXT, "name of the process, 15 bytes at most (comm)", "e.process.name"),
    Field("proc.exe", T.TEXT, "first argument (argv[0])", "e.process.exe"),
    Field("proc.exepath", T.PATH, "absolute path of the running file, from the kernel", "e.process.exepath"),
    Field("proc.args", T.TEXT, "arguments behind the first, joined by blanks", "' '.join(e.process.args)"),
    Field("proc.cmdline", T.TEXT, "name and arguments, joined by blanks", "e.process.cmdline"),
    Field("proc.exeline", T.TEXT, "first argument and the others, joined by blanks", "e.process.exeline"),
    Field("proc.cmdnargs", T.UINT, "number of arguments behind the first", "len(e.process.args)"),
    Field("proc.cwd", T.TEXT, "working directory, with a slash at its end", "e.process.cwd"),
    Field("proc.tty", T.UINT, "device number of the controlling terminal, 0 for none", "e.process.tty"),
    Field("proc.sid", T.INT, "session id", "e.process.sid"),
    Field("proc.pgid", T.INT, "process group id", "e.process.pgid"),
    Field("proc.pid.ts", T.ABSTIME, "start of the process, nanoseconds since boot", "e.process.start_ns"),
    Field("proc.is_sid_leader", T.BOOL, "true for the leader of its session", "e.process.pid == e.process.sid"),
    Field("proc.is_pgid_leader", T.BOOL, "true for the leader of its process group", "e.process.pid == e.process.pgid"),
    *_leader("sid", "session"),
    Field("proc.sname", T.TEXT, "name of the session's leader, while it lives", "relative(e, e.process.sid).name"),
    *_leader("pgid", "process group"),
    Field("proc.pgid.name", T.TEXT, "name of the group's leader, while it lives", "relative(e, e.process.pgid).name"),
    Field("proc.cmdlenargs", T.UINT, "bytes of the arguments behind the first", "arguments_length(e)"),
    Field("proc.pvpid", T.INT, "parent's process id in its own pid namespace", "e.ancestor(1).vpid"),
    Field("proc.pname", T.TEXT, "name of the parent", "e.ancestor(1).name"),
    Field("proc.pexe", T.TEXT, "first argument of the parent", "e.ancestor(1).exe"),
    Field("proc.pexepath", T.PATH, "path of the parent's running file", "e.ancestor(1).exepath"),
    Field("proc.pcmdline", T.TEXT, "name and arguments of the parent", "e.ancestor(1).cmdline"),
    _ancestor("proc.aname", T.TEXT, "name", "name"),
    _ancestor("proc.aexe", T.TEXT, "first argument", "exe"),
    _ancestor("proc.aexepath", T.PATH, "path of the running file", "exepath"),
    _ancestor("proc.acmdline", T.TEXT, "name and arguments", "cmdline"),
    Field(
        "proc.aargs",
        T.TEXT,
        "arguments of an ancestor: [1] is the parent; without a number, of any ancestor",
        "joined_args(e.ancestor({arg}))",
        A.INDEX,
        get_all="[joined_args(p) for p in ancestors(e)[1:]]",
    ),
    _ancestor("proc.apid", T.INT, "process id", "pid"),
    Field("thread.tid", T.INT, "thread id, in the host's namespace", "e.tid"),
    Field("thread.ismain", T.BOOL, "true for the first thread of a process", "e.tid == e.process.pid"),
    Field("thread.cap_effective", T.TEXT, "effective capabilities by name", "capabilities(e.process.cap_effective)"),
    Field("thread.cap_permitted", T.TEXT, "permitted capabilities by name", "capabilities(e.process.cap_permitted)"),
    Field(
        "thread.cap_inheritable", T.TEXT, "inheritable capabilities by name", "capabilities(e.process.cap_inheritable)"
    ),
    *(
        Field(f"proc.{name}.{part}", T.TEXT, f"{what} of descriptor {num}, {doc}", f"stream(e.process, {place})")
        for num, (name, doc) in enumerate(
            (("stdin", "what it reads"), ("stdout", "what it writes"), ("stderr", "where it writes errors"))
        )
        for place, part, what in ((2 * num, "type", "kind"), (2 * num + 1, "name", "name"))
    ),
)
