# classic interface, direct: a server that is killed and comes back: the device comes back under the same number, and no acknowledged write is lost

start_daemon
image=$(disk_file image 64M)
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"; }
serve
config data <<'YAML'
uri: nbd://127.0.0.1
kernel-interface: ioctl
datapath: direct
retry: { initial: 100ms, maximum: 1s }
YAML
reload
wait_state data attached
device=$(device_of data)

./writer append "$device" "$work/log" --direct --go-on &
writer=$!
sleep 2
kill_server disk
wait_state data waiting
status_is 1 nbdattach status data
require "the failure is in the status" test "$(status_of data .failure.message)" != null
sleep 2
serve
began=${EPOCHREALTIME/./}
wait_state data attached
figure "device back after the server listens" "$(((${EPOCHREALTIME/./} - began) / 1000)) ms"

equal "device after the outage" "$(device_of data)" "$device"
equal "size after the outage" "$(size_of "$device")" $((64 << 20))
equal "losses" "$(status_of data .losses)" 1
status_is 0 nbdattach status data
# The classic interface answers errors while there is no server.
writes_again() { awk '$5 != 0 { errors += 1; since = 0 } $5 == 0 { since += 1 } END { exit !(errors && since > 20) }' "$work/log"; }
eventually 20 "the writer goes on after the outage" writes_again
kill -TERM "$writer"
wait "$writer" || true
./writer verify "$image" "$work/log"
