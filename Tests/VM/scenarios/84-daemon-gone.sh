# the daemon is killed, restarted and upgraded under load: the device stays, no error, no record lost
# Time limit: 420

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
start_load "$device"

killed=$(daemon_pid)
kill -KILL "$killed"
wait_state data attached
require "it is another process" test "$(daemon_pid)" != "$killed"
require "the journal says that the device was taken over" journal_says "taken over"
load_goes_on

systemctl restart "$daemon"
wait_state data attached
equal "losses after the restart" "$(status_of data .losses)" 0
equal "links" "$(status_of data .links)" 1
require "the links' sockets were kept for the next process" test -z "$(entries NBD_ATTACHMENT=data | grep 'without their sockets')"
load_goes_on

# The server goes while nobody watches, and comes back after the daemon.
systemctl kill --signal=SIGSTOP "$daemon"
kill_server disk
systemctl kill --signal=SIGKILL "$daemon"
wait_state data reconnecting
serve
wait_state data attached
load_goes_on

apt-get install --yes --quiet=2 --reinstall ./nbdattach.deb >"$work/apt.log" 2>&1
wait_state data attached
load_goes_on
equal "device" "$(device_of data)" "$device"
end_load "daemon killed, restarted, upgraded" "$image"
