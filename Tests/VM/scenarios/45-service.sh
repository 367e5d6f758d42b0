# systemctl start, reload, restart and stop do what they say; start waits for the first tries

start_daemon
systemctl stop "$daemon"
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 16M
config first <<'YAML'
uri: nbd://127.0.0.1
device: /dev/nbd3
YAML
config absent <<'YAML'
uri: nbd://127.0.0.1:10999
YAML
start_daemon
equal "state once started" "$(status_of first .state)" attached
equal "the named device" "$(device_of first)" /dev/nbd3
matches "state of what has no server" "$(status_of absent .state)" '^(waiting|connecting)$'
matches "what failed" "$(status_of absent .failure.message)" '10999|refused'
equal "size" "$(size_of /dev/nbd3)" $((16 << 20))

holder=$(kernel_pid /dev/nbd3)
mark first
systemctl reload "$daemon"
sleep 2
equal "the holder after a reload" "$(kernel_pid /dev/nbd3)" "$holder"

process=$(daemon_pid)
systemctl restart "$daemon"
equal "state after a restart" "$(status_of first .state)" attached
require "it is another process" test "$(daemon_pid)" != "$process"
equal "the holder after a restart, which hands the device over" "$(kernel_pid /dev/nbd3)" "$holder"

systemctl stop "$daemon"
equal "size after the stop" "$(size_of /dev/nbd3)" 0
equal "the holder after the stop" "$(kernel_pid /dev/nbd3)" ""
equal "how the service ended" "$(systemctl show --property=Result --value "$daemon")" success
status_is 2 nbdattach status
