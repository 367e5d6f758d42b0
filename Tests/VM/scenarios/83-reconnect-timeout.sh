# I/O fails only after the time that the operator chose, also what was under way, and succeeds again later

start_daemon
image=$(disk_file image 64M)
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"; }
serve
config data <<'YAML'
uri: nbd://127.0.0.1
reconnect-timeout: 5s
retry: { maximum: 1s }
YAML
reload
wait_state data attached
device=$(device_of data)
./writer append "$device" "$work/log" --direct --seconds 45 --go-on &
writer=$!
sleep 2
kill_server disk
wait_state data reconnecting
wait_state data waiting 30
failed() { awk '$5 != 0 { found = 1 } END { exit !found }' "$work/log"; }
eventually 20 "the writer sees an error" failed
require "the first error did not come before 4 s" awk '$5 != 0 { exit $4 < 4 }' "$work/log"
serve
wait_state data attached
equal "device" "$(device_of data)" "$device"
! wait "$writer" || fail "the writer saw no error"
require "the last record was written" awk '{ last = $5 } END { exit last != 0 }' "$work/log"
./writer verify "$image" "$work/log"

# With its timers as they were, the next outage is held, and now for ever.
config data <<'YAML'
uri: nbd://127.0.0.1
retry: { maximum: 1s }
YAML
reload
mark data
./writer append "$device" "$work/log2" --direct --seconds 10 &
writer=$!
sleep 1
kill_server disk
wait_state data reconnecting
sleep 1
serve
wait_state data attached
wait "$writer" || fail "the writer saw an error in the second, short outage"
