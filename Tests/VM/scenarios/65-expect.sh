# an export of another size than expected is refused, with both sizes in the message

start_daemon
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 16M
config other <<'YAML'
uri: nbd://127.0.0.1
expect: { size: 32MiB }
YAML
config right <<'YAML'
uri: nbd://127.0.0.1
expect: { size: 16MiB }
YAML
reload
wait_state right attached
wait_state other failed
matches "the failure" "$(status_of other .failure.message)" '(16|32)'
equal "its phase" "$(status_of other .failure.phase)" comparing
equal "its device" "$(status_of other .device)" null
