# several connections: losing one of them is no outage

start_daemon
# One thread for each connection: with more, this nbdkit can abort when a client vanishes (raw_send_socket).
image=$(disk_file image 64M)
start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"
config data <<'YAML'
uri: nbd://127.0.0.1
connections: 3
YAML
reload
wait_state data attached
equal "links" "$(status_of data .links)" 3
device=$(device_of data)
./writer append "$device" "$work/log" --direct --seconds 40 &
writer=$!
sleep 1
port=$(ss --no-header --tcp --numeric state established dport = :10809 | awk 'NR == 1 { split($3, a, ":"); print a[length(a)] }')
ss --kill --tcp state established sport = ":$port" >/dev/null || skip "the kernel can't end a connection (ss --kill)"
wait_state data degraded
wait_state data attached
equal "links" "$(status_of data .links)" 3
wait "$writer"
./writer verify "$image" "$work/log"
