# a file with errors changes nothing: what runs goes on, the journal cites the place, `nbdattach check` ends with 1

start_daemon
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 16M
config good <<'YAML'
uri: nbd://127.0.0.1
YAML
reload
wait_state good attached
holder=$(kernel_pid "$(device_of good)")
status_is 0 nbdattach check

config_file broken <<'YAML'
attachments:
  broken:
    uri: nbd://127.0.0.1
    connect-timeuot: 5s
YAML
remove_config good
status_is 1 nbdattach check
matches "what check says" "$(cat "$work/output")" 'broken\.yaml:4:5.*connect-timeuot'
matches "its hint" "$(cat "$work/output")" 'connect-timeout'

reload || true # systemd may or may not be told
eventually 30 "the journal cites the error" journal_says broken.yaml:4:5 PRIORITY=3
equal "state of what was there" "$(status_of good .state)" attached
equal "its holder in the kernel" "$(kernel_pid "$(device_of good)")" "$holder"
equal "the service" "$(systemctl is-active "$daemon")" active

remove_config broken
reload
wait_state good stopped
