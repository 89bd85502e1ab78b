"""Settings -> sinks.

Comes in: a checked `Config`. Goes out: the sinks that it enables, none of them connected yet. Never: an error for a
place that cannot be reached: that is told when an alert goes there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from typing import TextIO

from appliance.config.settings import Config
from appliance.model.wire import Format
from appliance.sinks.base import Sink
from appliance.sinks.file import FileSink
from appliance.sinks.program import ProgramSink
from appliance.sinks.stdout import StdoutSink
from appliance.sinks.syslog import SyslogSink


def build_sinks(config: Config, stream: TextIO) -> list[Sink]:
    """The enabled sinks; `stream` is standard output."""
    options = Format(
        json_output=config.json_output,
        include_output=config.json_include_output_property,
        include_output_fields=config.json_include_output_fields_property,
        include_tags=config.json_include_tags_property,
        iso_time=config.time_format_iso_8601,
    )
    timeout_s = config.output_timeout_ms / 1000
    sinks: list[Sink] = []
    if config.stdout_output.enabled:
        sinks.append(StdoutSink(stream, options, config.stdout_output.color))
    if (file := config.file_output).enabled:
        sinks.append(FileSink(file.filename, options, keep_alive=file.keep_alive))
    if config.journald_output.enabled:
        from appliance.sinks.journald import JournaldSink  # libsystemd, where it is asked for

        sinks.append(JournaldSink())
    if (syslog := config.syslog_output).enabled:
        sinks.append(SyslogSink(syslog.socket, syslog.facility, options, timeout_s=timeout_s))
    if config.http_output.enabled:
        from appliance.sinks.http import HttpSink  # 10 MiB of client, where it is asked for

        sinks.append(HttpSink(config.http_output, options))
    if (program := config.program_output).enabled:
        sinks.append(ProgramSink(program.program, options, keep_alive=program.keep_alive, timeout_s=timeout_s))
    return sinks


_NOT_OF_SINKS = frozenset({
    "path", "rules_files", "rules", "priority", "rule_matching", "log_level", "watch_config_files", "containers",
    "capture", "control_socket", "webserver", "metrics",
})  # fmt: skip
"""Keys that no sink reads. Whatever is not named here and changes makes all sinks anew: rather once too often."""


def sink_changes(old: Config, new: Config, stream: TextIO) -> tuple[Collection[str], list[Sink]]:
    """What a changed configuration means for the sinks: the names of those that leave, and those that come.

    A sink whose settings are the same is in neither; one whose settings have changed is in both.
    """
    names = [field.name for field in fields(Config) if field.name.endswith("_output") and field.name != "json_output"]
    shared = [field.name for field in fields(Config) if field.name not in _NOT_OF_SINKS and field.name not in names]
    same = all(getattr(old, name) == getattr(new, name) for name in shared)
    kept = [name for name in names if same and getattr(old, name) == getattr(new, name)]
    gone = {name for name in names if name not in kept and getattr(old, name).enabled}
    without_kept = replace(new, **{name: replace(getattr(new, name), enabled=False) for name in kept})
    return gone, build_sinks(without_kept, stream)
