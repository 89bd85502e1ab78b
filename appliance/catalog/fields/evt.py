"""Fields of the event itself."""

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind

ROWS = (
    Field("evt.num", T.UINT, "number of the event since the daemon started", "e.num"),
    Field("evt.time", T.TEXT, "local time of day with nanoseconds", "clock_time(e.ts_ns)"),
    Field("evt.time.iso8601", T.TEXT, "time in UTC with nanoseconds, ISO 8601", "iso_time(e.ts_ns) + '+0000'"),
    Field("evt.time.s", T.TEXT, "local time of day, seconds", "clock_time(e.ts_ns)[:8]"),
    Field("evt.datetime", T.TEXT, "local date and time with nanoseconds", "date_time(e.ts_ns)"),
    Field("evt.datetime.s", T.TEXT, "local date and time, seconds", "date_time(e.ts_ns)[:19]"),
    Field("evt.rawtime.s", T.ABSTIME, "whole seconds since the epoch", "e.ts_ns // 1000000000"),
    Field("evt.rawtime.ns", T.ABSTIME, "nanoseconds of the second", "e.ts_ns % 1000000000"),
    *(
        row
        for name, attribute, doc in (
            ("reltime", "elapsed_ns", "time since the first event that was heard"),
            ("deltatime", "delta_ns", "time since the event before, of those that are heard"),
        )
        for row in (
            Field(f"evt.{name}", T.RELTIME, f"{doc}, nanoseconds", f"e.{attribute}"),
            Field(f"evt.{name}.s", T.RELTIME, f"{doc}, whole seconds", f"seconds(e.{attribute})"),
            Field(f"evt.{name}.ns", T.RELTIME, "nanoseconds behind these seconds", f"fraction(e.{attribute})"),
        )
    ),
    Field(
        "evt.around",
        T.UINT,
        "`evt.around[T]=D`: true within D milliseconds of T, nanoseconds since the epoch; its value is that distance",
        "distance_ms(e, {arg})",
        A.KEY,
        arg_required=True,
    ),
    Field("evt.hostname", T.TEXT, "this host's name, or FALCO_HOSTNAME", "WORLD.hostname"),
    Field("evt.pluginname", T.TEXT, "Falco's plugin for such events: `k8saudit`", "plugin(e)"),
    Field("evt.plugininfo", T.TEXT, "an event of such a source as it came, as JSON", "document_text(e)"),
    Field("evt.source", T.TEXT, "where the event comes from: `syscall`, `k8s_audit`", "EVENTS[e.type].source"),
    Field("evt.is_async", T.BOOL, "true for an event without a cause; never so here", "False"),
    Field("evt.count", T.UINT, "always 1", "1"),
    Field(
        "evt.abspath", T.PATH, "absolute path of the file an event is about; of two, of the old one", "absolute_path(e)"
    ),
    Field("syscall.type", T.TEXT, "name of the system call", "e.type.value if is_call(e) else None"),
    Field("evt.rawtime", T.ABSTIME, "time in nanoseconds since the epoch", "e.ts_ns"),
    Field("evt.type", T.TEXT, "name of the event's type", "e.type.value"),
    Field("evt.dir", T.TEXT, "direction; all our events are exits: `<`", "'<'"),
    Field("evt.category", T.TEXT, "what the event is about: file, net, process, user ...", "category_of(e)"),
    Field("evt.cpu", T.INT, "number of the CPU on which it happened", "e.cpu"),
    Field("evt.args", T.TEXT, "all arguments as `name=value(meaning)`; for outputs only", "arguments(e, WORLD)"),
    Field(
        "evt.arg",
        T.TEXT,
        "one argument by name or place, as text: flags by name, modes in octal",
        "argument(e, {arg}, WORLD)",
        A.INDEX_OR_KEY,
        arg_required=True,
    ),
    Field(
        "evt.rawarg",
        T.INT,
        "one argument by name, as the number it is",
        "raw_argument(e, {arg})",
        A.INDEX_OR_KEY,
        arg_required=True,
    ),
    Field(
        "evt.via",
        T.TEXT,
        "how the process asked: `syscall`, `ia32` (a 32-bit program, or `int 0x80`), `x32`, `io_uring` (not in Falco)",
        "e.via",
    ),
    Field("evt.latency", T.RELTIME, "always 0, as in Falco since it hears the ends of calls only", "0"),
    Field("evt.res", T.TEXT, "`SUCCESS`, or the name of the error: `ENOENT`", "result_name(e) if is_call(e) else None"),
    Field("evt.rawres", T.INT, "result as the number it is, negative for errors", "result(e)"),
    Field("evt.failed", T.BOOL, "true if the call returned an error", "e.res < 0 if is_call(e) else None"),
    Field("evt.info", T.TEXT, "the same as `evt.args`", "arguments(e, WORLD)"),
    Field(
        "evt.type.is",
        T.UINT,
        "1 for events of the type that is named, 0 for others",
        "is_type(e, {arg})",
        A.KEY,
        arg_required=True,
    ),
    Field("evt.is_io", T.BOOL, "true for a call that reads or writes: read, sendto, recvmsg ...", "io_way(e) != ''"),
    Field("evt.is_io_read", T.BOOL, "true for a call that reads", "io_way(e) == 'r'"),
    Field("evt.is_io_write", T.BOOL, "true for a call that writes", "io_way(e) == 'w'"),
    Field("evt.io_dir", T.TEXT, "`read` for a call that reads, `write` for one that writes", "io_word(e)"),
    Field("evt.is_wait", T.BOOL, "true for a call that waits: poll, select, nanosleep ...", "is_wait(e)"),
    Field("evt.is_syslog", T.BOOL, "true for a call that writes to /dev/log", "is_syslog(e)"),
    Field("evt.buffer", T.BYTES, "the first bytes that were read or written, 80 at most", "io_buffer(e)"),
    Field("evt.buflen", T.UINT, "how many bytes were read or written", "io_length(e)"),
    Field("evt.count.exit", T.UINT, "1 for each call", "1 if is_call(e) else None"),
    Field(
        "evt.count.error",
        T.UINT,
        "1 for a call that failed, 0 for one that did not",
        "int(e.res < 0) if is_call(e) else None",
    ),
    *(
        Field(
            f"evt.count.error.{name}",
            T.UINT,
            f"1 for a call about {about} that failed, 0 for one that did not",
            f"failed_about(e, {name!r})",
        )
        for name, about in (("file", "files"), ("net", "sockets"), ("memory", "memory"), ("other", "none of these"))
    ),
    Field("evt.is_open_read", T.BOOL, "true for an open that asks to read", "is_open_read(e)"),
    Field("evt.is_open_write", T.BOOL, "true for an open that asks to write", "is_open_write(e)"),
    Field("evt.is_open_create", T.BOOL, "true for an open that created the file", "is_open_create(e)"),
    Field("evt.is_open_exec", T.BOOL, "true for an open that creates a file which may be executed", "is_open_exec(e)"),
)
