# what the server exports read-only, and what is configured read-only, is read-only in the kernel

start_daemon
image=$(disk_file image 16M)
start_server read-only 10809 nbdkit -f -t 1 -r -p 10809 file "$image"
start_server writable 10810 nbdkit -f -t 1 -p 10810 file "$image"
config server-says <<'YAML'
uri: nbd://127.0.0.1:10809
YAML
config we-say <<'YAML'
uri: nbd://127.0.0.1:10810
read-only: true
YAML
reload
for name in server-says we-say; do
  wait_state "$name" attached
  device=$(device_of "$name")
  equal "read-only of $name in the kernel" "$(blockdev --getro "$device")" 1
  equal "read-only of $name in the status" "$(status_of "$name" .readOnly)" true
  status_is 1 dd if=/dev/zero of="$device" bs=4096 count=1 oflag=direct conv=notrunc
done

# A device that was read-only is writable for its next user.
remove_config server-says
remove_config we-say
reload
wait_state server-says stopped
wait_state we-say stopped
config again <<YAML
uri: nbd://127.0.0.1:10810
device: $device
YAML
reload
wait_state again attached
equal "read-only of the next user" "$(blockdev --getro "$device")" 0
status_is 0 dd if=/dev/zero of="$device" bs=4096 count=1 oflag=direct conv=notrunc
