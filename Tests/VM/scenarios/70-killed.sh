# classic interface: the daemon is killed: systemd starts it again, and the devices come back

start_daemon
image=$(disk_file image 64M)
start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"
config data <<'YAML'
uri: nbd://127.0.0.1
kernel-interface: ioctl
device: /dev/nbd2
YAML
reload
wait_state data attached
./writer append /dev/nbd2 "$work/log" --direct --count 50

killed=$(daemon_pid)
kill -KILL "$killed"
wait_state data attached
require "it is another process" test "$(daemon_pid)" != "$killed"
equal "device" "$(device_of data)" /dev/nbd2
equal "size" "$(size_of /dev/nbd2)" $((64 << 20))
equal "restarts" "$(systemctl show --property=NRestarts --value "$daemon")" 1
./writer verify /dev/nbd2 "$work/log"
