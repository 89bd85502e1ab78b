# Completion of tercel for bash: made by `tercel completion bash`.
_tercel() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" words="" files="" verb="" w
    for w in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$w" in -*) ;; *) verb="$w"; break;; esac
    done
    case "$verb" in
        run) words='-h --help -c --config -r --rules -o --option -V --validate -L -l --list -N --list-events --markdown --format --config-schema --support --page-size --dry-run --disable-source --enable-source -t -T -D -p --print -M -P --pidfile -v' files='-c --config -r --rules -V --validate -P --pidfile';;
        reload) words='-h --help -c --config --socket' files='-c --config --socket';;
        status) words='-h --help -c --config --socket --json' files='-c --config --socket';;
        top) words='-h --help -c --config --socket -d --interval' files='-c --config --socket';;
        doctor) words='-h --help -c --config -r --rules -o --option --json' files='-c --config -r --rules';;
        check) words='-h --help -c --config -o --option --json --falco-json --falco --all' files='-c --config';;
        list) words='-h --help -c --config -r --rules -o --option --json fields events operators transformers rules' files='-c --config -r --rules';;
        show) words='-h --help -c --config -r --rules -o --option --events --json' files='-c --config -r --rules --events';;
        explain) words='-h --help -c --config -r --rules -o --option --json' files='-c --config -r --rules';;
        replay) words='-h --help -c --config -r --rules -o --option --json' files='-c --config -r --rules';;
        test) words='-h --help -c --config -r --rules -o --option --json --junit --coverage' files='-c --config -r --rules --junit';;
        hub) words='-h --help run check status send-test replay-dead export user tune reindex demo --role --one-time --fields -c --config -o --option --sidekick --json --after --limit' files='-c --config';;
        version) words='-h --help --json' files='';;
        completion) words='-h --help bash zsh fish' files='';;
        *) words='-h --help --version run reload status top doctor check list show explain replay test hub version completion';;
    esac
    case "$prev" in
        -o|--option) compopt -o nospace; COMPREPLY=($(compgen -S = -W 'config_files rules_files rules rules_unknown_keys priority json_output json_include_output_property json_include_output_fields_property json_include_tags_property time_format_iso_8601 rule_matching rules_profile log_level output_timeout_ms outputs_queue.capacity outputs.rate outputs.max_burst outputs.express_priority outputs.grouping.enabled outputs.grouping.interval_ms outputs.grouping.fields outputs.grouping.max_groups spool.enabled spool.path spool.max_mib spool.max_age_hours spool.min_free_mib spool.retry_max_ms stdout_output.enabled stdout_output.color syslog_output.enabled syslog_output.socket syslog_output.facility syslog_output.url syslog_output.enterprise syslog_output.insecure syslog_output.ca_cert syslog_output.client_cert syslog_output.client_key file_output.enabled file_output.keep_alive file_output.filename file_output.rotate_mib file_output.rotate_hours file_output.rotate_keep file_output.sync program_output.enabled program_output.keep_alive program_output.program http_output.enabled http_output.url http_output.token http_output.user_agent http_output.insecure http_output.ca_cert http_output.ca_bundle http_output.ca_path http_output.mtls http_output.client_cert http_output.client_key http_output.echo http_output.compress_uploads http_output.keep_alive http_output.max_consecutive_timeouts http_output.timeout_ms http_output.batch http_output.batch_wait_ms http_output.batch_format hub.url hub.token hub.group hub.interval_ms journald_output.enabled control_socket watch_config_files webserver.enabled webserver.threadiness webserver.listen_port webserver.listen_address webserver.k8s_healthz_endpoint webserver.prometheus_metrics_enabled webserver.ssl_enabled webserver.ssl_certificate webserver.token_file metrics.enabled metrics.interval metrics.output_rule metrics.output_file metrics.rules_counters_enabled metrics.resource_utilization_enabled metrics.state_counters_enabled metrics.kernel_event_counters_enabled metrics.kernel_event_counters_per_cpu_enabled metrics.libbpf_stats_enabled metrics.convert_memory_to_mb metrics.include_empty_values metrics.plugins_metrics_enabled metrics.kernel_iter_event_counters_enabled metrics.jemalloc_stats_enabled guard.interval_ms guard.state_file containers.docker_sockets containers.podman_sockets containers.containerd_sockets containers.crio_sockets containers.user_engines containers.wait_ms capture.ring_mib capture.state_ring_mib capture.cpus_per_ring capture.hooks capture.drain_ms capture.filter capture.drop_failed capture.programs capture.enabled capture.path_prefix capture.mode capture.default_duration capture.max_file_size_mb capture.before_ms capture.max_events capture.max_files syscall_event_drops.threshold syscall_event_drops.actions syscall_event_drops.rate syscall_event_drops.max_burst syscall_event_drops.simulate_drops canary.enabled canary.interval_s canary.patience_s json_include_message_property log_stderr log_syslog append_output rules_file rule_files output_timeout engine.kind engine.kmod.buf_size_preset engine.kmod.drop_failed_exit engine.modern_ebpf.cpus_for_each_buffer engine.modern_ebpf.buf_size_preset engine.modern_ebpf.drop_failed_exit engine.modern_ebpf.disable_iterators engine.replay.capture_file load_plugins plugins plugins_hostinfo container_engines.docker.enabled container_engines.podman.enabled container_engines.cri.enabled container_engines.cri.sockets container_engines.cri.disable_async container_engines.lxc.enabled container_engines.libvirt_lxc.enabled container_engines.bpm.enabled buffer_format_base64 buffered_outputs libs_logger.enabled libs_logger.severity syscall_event_timeouts.max_consecutives base_syscalls.custom_set base_syscalls.repair base_syscalls.all falco_libs.thread_table_size falco_libs.thread_table_auto_purging_interval_s falco_libs.thread_table_auto_purging_thread_timeout_s falco_libs.snaplen' -- "$cur")); return;;
    esac
    case " $files " in
        *" $prev "*) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [ -n "$verb" ] && [ "${cur#-}" = "$cur" ]; then
        compopt -o filenames
        COMPREPLY+=($(compgen -f -- "$cur"))
    fi
}
complete -F _tercel tercel
