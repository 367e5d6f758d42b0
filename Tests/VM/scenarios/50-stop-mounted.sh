# classic interface: a stop while a file system is mounted does not hang, names the mount, and loses nothing that was synced

start_daemon
image=$(disk_file image 64M)
start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"
config data <<'YAML'
uri: nbd://127.0.0.1
kernel-interface: ioctl
YAML
reload
wait_state data attached
mkfs.ext4 -q "$(device_of data)"
folder=$(mounted "$(device_of data)")
./writer append "$folder/records" "$work/log" --count 20
sync --file-system "$folder"

began=$SECONDS
systemctl stop "$daemon"
require "the stop took $((SECONDS - began)) s, not longer than 45" test $((SECONDS - began)) -lt 45
require "the journal names the mount" journal_says "$folder"
umount "$folder" || umount --lazy "$folder"

start_daemon
wait_state data attached
folder=$(mounted "$(device_of data)")
./writer verify "$folder/records" "$work/log"
umount "$folder"
