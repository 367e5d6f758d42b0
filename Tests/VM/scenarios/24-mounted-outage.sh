# classic interface, direct: a server that is lost under a mounted file system: the device comes back when the file system is unmounted

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
mkfs.ext4 -q "$device"
folder=$(mounted "$device")
./writer append "$folder/records" "$work/log" --count 20

kill_server disk
wait_state data waiting
serve
sleep 3
require "it is not attached while its device is in use" test "$(status_of data .state)" != attached
matches "why it is not attached" "$(status_of data .failure.message)" "$device"

umount "$folder"
wait_state data attached
equal "device" "$(device_of data)" "$device"
folder=$(mounted "$device")
./writer verify "$folder/records" "$work/log"
umount "$folder"
