# a server that is killed and back after 2 s, and after 20 s: no error, no record lost
# Time limit: 300

start_daemon
image=$(disk_file image 128M)
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"; }
serve
config data <<'YAML'
uri: nbd://127.0.0.1
YAML
reload
wait_state data attached
device=$(device_of data)
equal "kernel interface" "$(status_of data .kernelInterface)" netlink
equal "the device's identifier" "$(cat "/sys/block/${device#/dev/}/backend")" nbdattach:data

start_load "$device"
for outage in 2 20; do
  kill_server disk
  wait_state data reconnecting
  status_is 1 nbdattach status data
  sleep "$outage"
  serve
  wait_state data attached
  load_goes_on
done
equal "losses" "$(status_of data .losses)" 2
end_load "server away for 2 s and for 20 s" "$image"
