"""Where the effect of each implemented key of Falco's is shown: a test that fails if the key is read and ignored.

`test_keys.py` holds this table against the table of keys and against what pytest collects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_FILES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "tests/config/test_files.py": {
        "test_lists_are_joined_and_sections_replaced": ["config_files", "config_files[].path"],
        "test_strategies": ["config_files[].strategy"],
    },
    "tests/config/test_effects.py": {
        "test_rules_come_from_the_files_and_folders_that_are_named": ["rules_files", "rules_file", "rule_files"],
        "test_rules_are_chosen": [
            "priority", "rules", "rules[].enable.rule", "rules[].enable.tag", "rules[].disable.rule",
            "rules[].disable.tag",
        ],
        "test_rule_matching": ["rule_matching"],
        "test_rules_are_chosen_by_their_noise": ["rules_profile"],
        "test_append_output": [
            "append_output[].match.rule", "append_output[].match.source", "append_output[].match.tags",
            "append_output[].extra_output", "append_output[].extra_fields", "append_output[].suggested_output",
        ],
        "test_engines_are_asked_or_not": [
            "container_engines.docker.enabled", "container_engines.podman.enabled", "container_engines.cri.enabled",
            "container_engines.cri.sockets",
        ],
        "test_keys_of_json_alerts": [
            "json_output", "json_include_output_property", "json_include_message_property",
            "json_include_output_fields_property", "json_include_tags_property",
        ],
        "test_iso_times": ["time_format_iso_8601"],
        "test_a_queue_holds_as_many_as_it_may": ["outputs_queue.capacity"],
        "test_an_output_has_as_much_time_as_it_is_given": ["output_timeout"],
        "test_outputs_are_made": [
            "stdout_output.enabled", "syslog_output.enabled", "file_output.enabled", "http_output.enabled",
            "program_output.enabled",
        ],
        "test_logs_go_where_they_should": ["log_stderr", "log_level"],
        "test_logs_go_to_syslog": ["log_syslog"],
        "test_the_page_of_health_has_the_name_it_is_given": ["webserver.k8s_healthz_endpoint"],
        "test_groups_of_metrics": [
            "metrics.rules_counters_enabled", "metrics.resource_utilization_enabled", "metrics.state_counters_enabled",
            "metrics.libbpf_stats_enabled", "metrics.kernel_event_counters_enabled", "metrics.convert_memory_to_mb",
            "metrics.include_empty_values", "metrics.kernel_event_counters_per_cpu_enabled",
        ],
        "test_metrics_as_an_alert": ["metrics.output_rule"],
    },
    "tests/daemon/test_guard.py": {
        "test_blinded_stopped_edited_and_killed_all_are_told": ["watch_config_files"],
    },
    "tests/daemon/test_engine_keys.py": {
        "test_rings_and_calls_that_fail": [
            "engine.modern_ebpf.buf_size_preset", "engine.modern_ebpf.cpus_for_each_buffer",
            "engine.modern_ebpf.drop_failed_exit",
        ],
    },
    "tests/daemon/test_recorder.py": {
        "test_a_replay_gives_the_same_alerts_byte_for_byte": ["capture.enabled", "capture.path_prefix"],
        "test_modes": ["capture.mode"],
        "test_what_was_before_and_what_comes_after": ["capture.default_duration"],
        "test_bounds_hold_and_are_said": ["capture.max_file_size_mb"],
    },
    "tests/daemon/test_audit.py": {
        "test_posted_audit_events_raise_alerts": [
            "load_plugins", "plugins[].name", "plugins[].init_config", "plugins[].open_params",
        ],
    },
    "tests/daemon/test_run.py": {
        "test_every_output_tells_the_same": ["file_output.filename", "http_output.url", "program_output.program"],
    },
    "tests/sinks/test_sinks.py": {
        "test_a_file_stays_open_or_does_not": ["file_output.keep_alive"],
        "test_http_posts_json_over_one_connection": ["http_output.user_agent"],
        "test_https": [
            "http_output.insecure", "http_output.ca_cert", "http_output.ca_bundle", "http_output.ca_path",
            "http_output.mtls", "http_output.client_cert", "http_output.client_key",
        ],
        "test_http_answers_are_logged_where_that_is_wanted": ["http_output.echo"],
        "test_http_compressed": ["http_output.compress_uploads"],
        "test_http_keeps_its_connection_or_does_not": ["http_output.keep_alive"],
        "test_http_that_does_not_answer": ["http_output.max_consecutive_timeouts"],
        "test_a_program_for_each_alert": ["program_output.keep_alive"],
    },
    "tests/daemon/test_web.py": {
        "test_health_versions_and_both_forms_of_metrics": ["webserver.enabled"],
        "test_clients_that_say_nothing_take_no_more_than_their_room": ["webserver.threadiness"],
        "test_it_listens_where_it_is_told_and_nowhere_else": ["webserver.listen_address", "webserver.listen_port"],
        "test_a_sink_that_hangs_turns_the_health_red_and_green_again": ["webserver.prometheus_metrics_enabled"],
        "test_tls_and_a_client_that_does_not_speak_it": ["webserver.ssl_enabled", "webserver.ssl_certificate"],
        "test_metrics_are_switched_off_as_a_whole": ["metrics.enabled"],
        "test_snapshots_as_alerts_and_as_lines": ["metrics.interval", "metrics.output_file"],
    },
    "tests/daemon/test_ledger.py": {
        "test_below_the_threshold_it_waits_until_the_end": ["syscall_event_drops.threshold"],
        "test_actions": ["syscall_event_drops.actions"],
        "test_what_finds_no_token_waits_and_is_told_with_the_next": [
            "syscall_event_drops.rate", "syscall_event_drops.max_burst",
        ],
        "test_a_simulated_loss_is_told_and_can_end_the_appliance": ["syscall_event_drops.simulate_drops"],
    },
    "tests/cli/test_flags.py": {
        "test_a_run_ends_by_itself_and_had_a_pidfile": ["base_syscalls.custom_set"],
    },
}  # fmt: skip

PROOFS: Mapping[str, str] = {
    key: f"{file}::{test}" for file, tests in _FILES.items() for test, keys in tests.items() for key in keys
}
"""Key -> the test, as pytest names it without parameters."""

KEYS_WRITTEN = sum(len(keys) for tests in _FILES.values() for keys in tests.values())
