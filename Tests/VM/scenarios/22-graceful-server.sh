# classic interface, direct: a server that is stopped in an orderly way, and a file system that is unmounted before: nothing is lost

start_daemon
image=$(disk_file image 64M)
socket=$work/socket
serve() { start_server disk "$socket" qemu-nbd --persistent --shared=0 --format=raw --socket="$socket" "$image"; }
serve
config data <<YAML
uri: nbd+unix:///?socket=$socket
kernel-interface: ioctl
datapath: direct
retry: { initial: 100ms, maximum: 1s }
YAML
reload
wait_state data attached
device=$(device_of data)
mkfs.xfs -q -m crc=1 -f -d size=60m "$device" 2>/dev/null || mkfs.ext4 -q "$device"
folder=$(mounted "$device")
./writer append "$folder/records" "$work/log" --count 50
umount "$folder"

kill_server disk TERM
rm --force "$socket"
wait_state data waiting
serve
wait_state data attached
equal "device" "$(device_of data)" "$device"
folder=$(mounted "$device")
./writer verify "$folder/records" "$work/log"
umount "$folder"
