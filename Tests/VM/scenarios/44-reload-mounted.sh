# an attachment that is removed from the configuration while its device is mounted is kept until it is unmounted

start_daemon
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 64M
config data <<'YAML'
uri: nbd://127.0.0.1
YAML
reload
wait_state data attached
device=$(device_of data)
mkfs.ext4 -q "$device"
folder=$(mounted "$device")

remove_config data
reload
eventually 20 "the journal names the mount" journal_says "$folder"
equal "state while it is mounted" "$(status_of data .state)" attached
./writer append "$folder/records" "$work/log" --count 10
umount "$folder"
wait_state data stopped
equal "size after all" "$(size_of "$device")" 0
