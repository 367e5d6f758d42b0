# a device that another program uses is never touched, neither by the search for a free one nor when it is named

start_daemon
theirs=$(disk_file theirs 32M)
ours=$(disk_file ours 16M)
start_server theirs 10809 nbdkit -f -t 1 -p 10809 file "$theirs"
start_server ours 10810 nbdkit -f -t 1 -p 10810 file "$ours"
take /dev/nbd0 10809
eventually 20 "nbd-client attaches" test -e /sys/block/nbd0/pid
holder=$(kernel_pid /dev/nbd0)
./writer append /dev/nbd0 "$work/log" --direct &
writer=$!

config searching <<'YAML'
uri: nbd://127.0.0.1:10810
YAML
config naming <<'YAML'
uri: nbd://127.0.0.1:10810
device: /dev/nbd0
YAML
reload
wait_state searching attached
require "another device was taken" test "$(device_of searching)" != /dev/nbd0
wait_state naming failed
matches "the failure" "$(status_of naming .failure.message)" '/dev/nbd0'

equal "the holder of the foreign device" "$(kernel_pid /dev/nbd0)" "$holder"
equal "size of the foreign device" "$(size_of /dev/nbd0)" $((32 << 20))
remove_config naming
reload
wait_state naming stopped
kill -TERM "$writer"
wait "$writer"
equal "the holder after all" "$(kernel_pid /dev/nbd0)" "$holder"
./writer verify "$theirs" "$work/log"
