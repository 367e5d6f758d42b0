# a declared export becomes a device that takes a file system; what is written is in the server's file

start_daemon
image=$(disk_file image 64M)
start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"
config data <<'YAML'
uri: nbd://127.0.0.1:10809
YAML
reload
wait_state data attached

device=$(device_of data)
equal "size in the kernel" "$(size_of "$device")" $((64 << 20))
equal "size in the status" "$(status_of data .size)" $((64 << 20))
equal "read-only in the kernel" "$(blockdev --getro "$device")" 0
equal "block size in the kernel" "$(blockdev --getss "$device")" "$(status_of data .blockSize)"
equal "state" "$(status_of data .state)" attached
status_is 0 nbdattach status data

mkfs.ext4 -q "$device"
folder=$(mounted "$device")
./writer append "$folder/records" "$work/log" --count 100
umount "$folder"
fsck.ext4 -fn "$device"

remove_config data
reload
wait_state data stopped
equal "size after detaching" "$(size_of "$device")" 0
verify_file "$image" records "$work/log"
