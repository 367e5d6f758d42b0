# after an outage another export answers: a smaller one is refused and said, a larger one makes the device grow
# Time limit: 240

start_daemon
image=$(disk_file image 128M)
other=$(disk_file other 64M)
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$1"; }
serve "$image"
config data <<'YAML'
uri: nbd://127.0.0.1
YAML
reload
wait_state data attached
device=$(device_of data)
start_load "$device"

kill_server disk
wait_state data reconnecting
serve "$other"
wait_state data failed
matches "the failure" "$(status_of data .failure.message)" 'shrank from 134217728 to 67108864'
kill_server disk
truncate --size=160M "$image"
serve "$image"
wait_state data attached
load_goes_on
equal "size after growing" "$(size_of "$device")" $((160 << 20))

# It grows while the server runs: seen when asked for.
truncate --size=192M "$image"
nbdattach refresh data
equal "size once refreshed" "$(size_of "$device")" $((192 << 20))
load_goes_on

# Or at a reload.
truncate --size=224M "$image"
reload
grown() { [[ $(size_of "$device") == $((224 << 20)) ]]; }
eventually 20 "the device has grown after a reload" grown
load_goes_on
equal "losses" "$(status_of data .losses)" 1
end_load "another export, then a larger one" "$image"
