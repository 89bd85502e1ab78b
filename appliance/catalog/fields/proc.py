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
        get_all=f"above(e, '{attribute}')",
    )


def _leader(field: str, of: str) -> tuple[Field, ...]:
    """Rows about the leader of a session or a group: the process itself or an ancestor of it."""
    return tuple(
        Field(f"proc.{field}.{name}", type_, f"{doc} of the {of}'s leader", f"leader(e, '{field}').{name}")
        for name, type_, doc in (("exe", T.TEXT, "first argument"), ("exepath", T.PATH, "path of the running file"))
    )


ROWS = (
    Field("proc.pid", T.INT, "process id, in the host's namespace", "e.process.pid"),
    Field("proc.ppid", T.INT, "id of the parent process", "parent_pid(e)"),
    Field("proc.vpid", T.INT, "process id in its own pid namespace", "e.process.vpid"),
    Field("proc.name", T.TEXT, "name of the process, 15 bytes at most (comm)", "e.process.name"),
    Field("proc.exe", T.TEXT, "first argument (argv[0])", "e.process.exe"),
    Field("proc.exepath", T.PATH, "absolute path of the running file, from the kernel", "e.process.exepath"),
    Field(
        "proc.program",
        T.PATH,
        "the script that runs, where the running file is an interpreter of the system; absent where such a one runs no "
        "file by an absolute path; else the running file (not in Falco)",
        "program_of(e.process)",
    ),
    Field(
        "proc.has_own_name",
        T.BOOL,
        "true if `proc.name` is the name of `proc.program`, or of the applet in a busybox: it was not renamed, nor "
        "started through a symbolic link of another name (not in Falco)",
        "has_own_name(e.process)",
    ),
    Field(
        "proc.args",
        T.TEXT,
        "arguments behind the first, joined by blanks; [0] is the first of them alone",
        "joined_args(e.process, {arg})",
        A.INDEX,
        words="e.process.args",
    ),
    Field("proc.cmdline", T.TEXT, "name and arguments, joined by blanks", "e.process.cmdline"),
    Field("proc.exeline", T.TEXT, "first argument and the others, joined by blanks", "e.process.exeline"),
    Field("proc.cmdnargs", T.UINT, "number of arguments behind the first", "len(e.process.args)"),
    Field("proc.cwd", T.TEXT, "working directory, with a slash at its end", "e.process.cwd"),
    Field("proc.tty", T.UINT, "device number of the controlling terminal, 0 for none", "e.process.tty"),
    Field("proc.sid", T.INT, "session id", "e.process.sid"),
    Field("proc.pgid", T.INT, "process group id", "e.process.pgid"),
    Field("proc.pid.ts", T.RELTIME, "start of the process, nanoseconds since the epoch", "e.process.started_ns"),
    Field("proc.is_sid_leader", T.BOOL, "true for the leader of its session", "e.process.pid == e.process.sid"),
    Field("proc.is_pgid_leader", T.BOOL, "true for the leader of its process group", "e.process.pid == e.process.pgid"),
    *_leader("sid", "session"),
    Field(
        "proc.sname", T.TEXT, "name of the session's leader, else of the eldest ancestor in it", "leader(e, 'sid').name"
    ),
    *_leader("pgid", "process group"),
    Field(
        "proc.pgid.name",
        T.TEXT,
        "name of the group's leader, else of the eldest ancestor in it",
        "leader(e, 'pgid').name",
    ),
    Field("proc.vpgid", T.INT, "process group id in its own pid namespace", "e.process.vpgid"),
    Field("proc.vpgid.name", T.TEXT, "name of that group's leader", "leader(e, 'vpgid').name"),
    *_leader("vpgid", "group (as its pid namespace numbers it)"),
    Field(
        "proc.is_vpgid_leader",
        T.BOOL,
        "true for the leader of its group, by the pid namespace's own numbers",
        "e.process.vpid == e.process.vpgid",
    ),
    Field("proc.duration", T.RELTIME, "nanoseconds since the process started", "since(e.ts_ns, e.process.started_ns)"),
    Field(
        "proc.ppid.duration",
        T.RELTIME,
        "nanoseconds since the parent started",
        "since(e.ts_ns, e.ancestor(1).started_ns)",
    ),
    Field("proc.ppid.ts", T.RELTIME, "start of the parent, nanoseconds since the epoch", "e.ancestor(1).started_ns"),
    *(
        Field(f"proc.{name}", T.BOOL, doc, f"exe_is(e.process, '{flag}')")
        for name, flag, doc in (
            ("is_exe_writable", "EXE_WRITABLE", "true if the process may write to the file that it runs"),
            ("is_exe_upper_layer", "EXE_UPPER_LAYER", "true if the running file is in the upper layer of an overlay"),
            ("is_exe_lower_layer", "EXE_LOWER_LAYER", "true if the running file is in a lower layer of an overlay"),
            ("is_exe_from_memfd", "EXE_FROM_MEMFD", "true if the running file is memory (memfd_create)"),
        )
    ),
    Field(
        "proc.exe_sha256",
        T.TEXT,
        "SHA-256 of the running file, in hexadecimal; made where a rule asks (not in Falco)",
        "e.process.exe_sha256",
    ),
    Field("proc.exe_ino", T.INT, "inode of the running file", "e.process.exe_ino"),
    Field("proc.exe_ino.ctime", T.ABSTIME, "last change of the running file's inode", "e.process.exe_ctime_ns"),
    Field("proc.exe_ino.mtime", T.ABSTIME, "last change of the running file's content", "e.process.exe_mtime_ns"),
    Field(
        "proc.exe_ino.ctime_duration_proc_start",
        T.ABSTIME,
        "nanoseconds from the file's last change to the start of the process",
        "since(e.process.started_ns, e.process.exe_ctime_ns)",
    ),
    Field(
        "proc.exe_ino.ctime_duration_pidns_start",
        T.ABSTIME,
        "nanoseconds from the start of the pid namespace to the file's last change, where it was changed after it",
        "since(e.process.exe_ctime_ns, e.process.pidns_started_ns)",
    ),
    Field(
        "proc.pidns_init_start_ts",
        T.UINT,
        "start of the pid namespace, nanoseconds since the epoch",
        "e.process.pidns_started_ns",
    ),
    Field(
        "proc.env",
        T.TEXT,
        "environment the program was given, or one variable of it (empty where there is none of that name)",
        "environment(e.process, {arg})",
        A.KEY,
    ),
    Field(
        "proc.aenv",
        T.TEXT,
        "environment of an ancestor: [1] is the parent, [NAME] the nearest ancestor's variable; alone, of any ancestor",
        "ancestor_environment(e, {arg})",
        A.INDEX_OR_KEY,
        get_all="above_environments(e)",
    ),
    Field("proc.loginshellid", T.INT, "pid of the eldest shell among the ancestors", "login_shell(e)"),
    Field("proc.fdlimit", T.INT, "descriptors it may open, as it was when last told of", "e.process.fdlimit"),
    Field("proc.nthreads", T.UINT, "living threads, when a rule asks", "threads(WORLD, e)"),
    Field("proc.nchilds", T.UINT, "those of them that are not the first", "threads(WORLD, e, others=True)"),
    Field("proc.fdopencount", T.UINT, "open descriptors, when a rule asks", "WORLD.usage(e).fds"),
    Field(
        "proc.fdusage",
        T.DOUBLE,
        "open descriptors as a percentage of `proc.fdlimit`",
        "share(WORLD.usage(e).fds, e.process.fdlimit)",
    ),
    *(
        row
        for name, doc in (("vmsize", "all its memory"), ("vmrss", "its memory that is not swapped out"))
        for row in (
            Field(f"proc.{name}", T.UINT, f"{doc} in KiB, as it was when last told of", f"e.process.{name}"),
            Field(
                f"thread.{name}",
                T.UINT,
                "the same for the first thread, 0 for others",
                f"e.process.{name} if e.tid == e.process.pid else 0",
            ),
        )
    ),
    Field("proc.vmswap", T.UINT, "its memory that is swapped out, in KiB, likewise", "e.process.vmswap"),
    Field("thread.pfmajor", T.UINT, "page faults that read a disk, as it was when last told of", "e.process.pfmajor"),
    Field("thread.pfminor", T.UINT, "other page faults, likewise", "e.process.pfminor"),
    Field("proc.cgroup", T.PATH, "its cgroup's path (not in Falco)", "e.process.cgroup"),
    Field("proc.unit", T.TEXT, "its systemd unit: `ssh.service`, `session-3.scope` (not in Falco)", "e.process.unit"),
    Field("proc.user_unit", T.TEXT, "its unit in its user's own systemd (not in Falco)", "e.process.user_unit"),
    Field("proc.slice", T.TEXT, "its systemd slice: `system.slice` (not in Falco)", "e.process.slice"),
    Field("thread.cgroups", T.TEXT, "its cgroup, as `controller=path` for each controller", "cgroups_text(e.process)"),
    Field(
        "thread.cgroup",
        T.TEXT,
        "its cgroup for one controller: `thread.cgroup.cpu`",
        "cgroup_of(e.process, {arg})",
        A.KEY,
        arg_required=True,
    ),
    Field(
        "proc.aline",
        T.TEXT,
        "names of the process and its ancestors, eldest first, joined by ` > ` (not in Falco)",
        "names_line(e)",
    ),
    Field("proc.cmdlenargs", T.UINT, "bytes of the arguments behind the first", "arguments_length(e)"),
    Field("proc.pvpid", T.INT, "parent's process id in its own pid namespace", "e.ancestor(1).vpid"),
    Field("proc.pname", T.TEXT, "name of the parent", "e.ancestor(1).name"),
    Field("proc.pexe", T.TEXT, "first argument of the parent", "e.ancestor(1).exe"),
    Field("proc.pexepath", T.PATH, "path of the parent's running file", "e.ancestor(1).exepath"),
    Field("proc.pcmdline", T.TEXT, "name and arguments of the parent", "e.ancestor(1).cmdline"),
    _ancestor("proc.aname", T.TEXT, "name", "name"),
    _ancestor("proc.aexe", T.TEXT, "first argument", "exe"),
    _ancestor("proc.aexepath", T.PATH, "path of the running file", "exepath"),
    Field(
        "proc.aprogram",
        T.PATH,
        "`proc.program` of an ancestor: [1] is the parent; without a number, of any ancestor (not in Falco)",
        "program_of(e.ancestor({arg}))",
        A.INDEX,
        get_all="above_programs(e)",
    ),
    _ancestor("proc.acmdline", T.TEXT, "name and arguments", "cmdline"),
    Field(
        "proc.aargs",
        T.TEXT,
        "arguments of an ancestor: [1] is the parent; without a number, of any ancestor",
        "joined_args(e.ancestor({arg}))",
        A.INDEX,
        get_all="above_arguments(e)",
    ),
    *(
        Field(
            f"proc.b{name}",
            type_,
            f"{doc} of a forebear by birth, ended or not: [1] made the process; alone, of any (not in Falco)",
            f"WORLD.births(e)[{{arg}}].{attribute}",
            A.INDEX,
            get_all=f"by_birth(WORLD, e, '{attribute}')",
        )
        for name, type_, doc, attribute in (
            ("name", T.TEXT, "name", "name"),
            ("exe", T.TEXT, "first argument", "exe"),
            ("exepath", T.PATH, "path of the running file", "exepath"),
            ("cmdline", T.TEXT, "name and arguments", "cmdline"),
        )
    ),
    Field(
        "proc.apid",
        T.INT,
        "process id of an ancestor: [1] is the parent; without a number, of any ancestor",
        "ancestor_pid(e, {arg})",
        A.INDEX,
        get_all="above(e, 'pid')",
    ),
    Field("thread.tid", T.INT, "thread id, in the host's namespace", "e.tid"),
    Field(
        "thread.vtid",
        T.INT,
        "thread id in its own pid namespace; of the first thread only where that is not the host's",
        "e.process.vpid if e.tid == e.process.pid else e.tid if e.process.vpid == e.process.pid else None",
    ),
    Field("thread.exectime", T.RELTIME, "always 0, as in Falco, which does not hear the scheduler", "0"),
    Field("thread.totexectime", T.RELTIME, "always 0, likewise", "0"),
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
