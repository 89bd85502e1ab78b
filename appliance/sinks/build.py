"""Settings -> sinks, and what stands before them.

Comes in: a checked `Config`. Goes out: the sinks that it enables, none of them connected yet, and their dispatcher.
Never: an error for a place that cannot be reached: that is reported when an alert goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import fields, replace
from typing import TextIO

from appliance.config.settings import Config
from appliance.model.wire import Format
from appliance.sinks.base import Sink
from appliance.sinks.dispatch import AlertMaker, Dispatcher, SpoolMaker
from appliance.sinks.file import FileSink
from appliance.sinks.program import ProgramSink
from appliance.sinks.spool import Limits, Spool
from appliance.sinks.stdout import StdoutSink
from appliance.sinks.syslog import SyslogSink


def format_of(config: Config) -> Format:
    """How the configuration wants alerts to be written."""
    return Format(
        json_output=config.json_output,
        include_message=config.json_include_message_property,
        include_output=config.json_include_output_property,
        include_output_fields=config.json_include_output_fields_property,
        include_tags=config.json_include_tags_property,
        iso_time=config.time_format_iso_8601,
    )


def build_sinks(config: Config, stream: TextIO) -> list[Sink]:
    """The enabled sinks; `stream` is standard output."""
    options = format_of(config)
    timeout_s = config.output_timeout_ms / 1000
    sinks: list[Sink] = []
    if config.stdout_output.enabled:
        sinks.append(StdoutSink(stream, options, config.stdout_output.color))
    if (file := config.file_output).enabled:
        sinks.append(FileSink.of(file, options))
    if config.journald_output.enabled:
        from appliance.sinks.journald import JournaldSink  # libsystemd, where it is asked for

        sinks.append(JournaldSink())
    if (syslog := config.syslog_output).enabled:
        if syslog.url:
            from appliance.sinks.remote_syslog import RemoteSyslogSink  # TLS, where it is asked for

            sinks.append(RemoteSyslogSink(syslog, options, timeout_s=timeout_s))
        else:
            sinks.append(SyslogSink(syslog.socket, syslog.facility, options, timeout_s=timeout_s))
    if config.http_output.enabled:
        from appliance.sinks.http import HttpSink  # 10 MiB of client, where it is asked for

        sinks.append(HttpSink(config.http_output, options))
    if (program := config.program_output).enabled:
        sinks.append(ProgramSink(program.program, options, keep_alive=program.keep_alive, timeout_s=timeout_s))
    return sinks


_NOT_OF_SINKS = frozenset({
    "path", "rules_files", "rules", "priority", "rule_matching", "log_level", "log_stderr",
    "log_syslog", "append_output", "included", "folders", "notes", "watch_config_files", "containers", "capture",
    "syscall_event_drops", "base_syscalls", "canary", "control_socket", "webserver", "metrics", "guard",
})  # fmt: skip
"""Keys that no sink reads. Whatever is not named here and changes makes all sinks anew: rather once too often."""


def sink_changes(old: Config, new: Config, stream: TextIO) -> tuple[Collection[str], list[Sink]]:
    """What a changed configuration means for the sinks: the names of those that leave, and those that come.

    A sink whose settings are the same is in neither; one whose settings have changed is in both.
    """
    names = [field.name for field in fields(Config) if hasattr(getattr(new, field.name), "enabled")]
    names = [name for name in names if name.endswith("_output")]  # json_output and append_output are no sinks
    shared = [field.name for field in fields(Config) if field.name not in _NOT_OF_SINKS and field.name not in names]
    same = all(getattr(old, name) == getattr(new, name) for name in shared)
    kept = [name for name in names if same and getattr(old, name) == getattr(new, name)]
    gone = {name for name in names if name not in kept and getattr(old, name).enabled}
    without_kept = replace(new, **{name: replace(getattr(new, name), enabled=False) for name in kept})
    return gone, build_sinks(without_kept, stream)


def spool_maker(config: Config) -> SpoolMaker | None:
    """What makes the queue on disk before a sink whose other end is another machine; None where it is switched off."""
    spool, express = config.spool, config.outputs.express_priority
    limits = Limits(
        max_bytes=spool.max_mib << 20,
        max_age_ms=spool.max_age_hours * 3_600_000,
        min_free_bytes=spool.min_free_mib << 20,
        retry_max_s=spool.retry_max_ms / 1000,
    )

    def make(sink: Sink, after: Callable[[], None] | None) -> Spool:
        capacity = config.outputs_queue.capacity
        return Spool(sink, spool.path / sink.name, limits, capacity=capacity, express=express, after=after)

    return make if spool.enabled else None


def build_dispatcher(config: Config, sinks: list[Sink], make_alert: AlertMaker) -> Dispatcher:
    """The dispatcher before these sinks, with a spool before each of those whose other end is another machine.

    Raises `ConfigError` for a folder of the spool that is not safe, or that another process uses.
    """
    return Dispatcher(
        sinks,
        capacity=config.outputs_queue.capacity,
        outputs=config.outputs,
        spool=spool_maker(config),
        make_alert=make_alert,
    )
