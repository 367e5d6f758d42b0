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
config classic <<'YAML'
uri: nbd://127.0.0.1:10809
kernel-interface: ioctl
YAML
reload
for name in server-says we-say classic; do
  wait_state "$name" attached
  device=$(device_of "$name")
  equal "read-only of $name in the kernel" "$(blockdev --getro "$device")" 1
  equal "read-only of $name in the status" "$(status_of "$name" .readOnly)" true
  status_is 1 dd if=/dev/zero of="$device" bs=4096 count=1 oflag=direct conv=notrunc
done

# A device that was read-only is writable for its next user, whatever the interface of either.
declare -A devices
for name in we-say classic; do devices[$name]=$(device_of $name); done
for name in server-says we-say classic; do remove_config $name; done
reload
for name in server-says we-say classic; do wait_state $name stopped; done
for name in we-say classic; do
  config after-$name <<YAML
uri: nbd://127.0.0.1:10810
device: ${devices[$name]}
YAML
done
reload
for name in we-say classic; do
  wait_state after-$name attached
  equal "read-only of the next user" "$(blockdev --getro "${devices[$name]}")" 0
  status_is 0 dd if=/dev/zero of="${devices[$name]}" bs=4096 count=1 oflag=direct conv=notrunc
done
