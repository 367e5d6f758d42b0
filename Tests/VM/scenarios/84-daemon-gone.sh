# the daemon is killed, restarted and upgraded under load: the devices stay, no error, no record lost; by the relay, and direct
# Time limit: 600

start_daemon
mkdir "$work/exports"
for name in relay direct; do truncate --size=128M "$work/exports/$name"; done
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/exports"; }
serve
config_file gone <<'YAML'
attachments:
  relay: { uri: "nbd://127.0.0.1/relay" }
  direct: { uri: "nbd://127.0.0.1/direct", datapath: direct }
YAML
reload
attached() { for name in relay direct; do wait_state $name attached; done; }
attached
device=$(device_of relay)
start_load relay direct
# What has died with the daemon is sent again soon after the next one is there. Without the timer that the daemon sets for
# that, the block layer's own would send it, after 30 s.
limit=25

killed=$(daemon_pid)
returned "daemon killed"
kill -KILL "$killed"
attached
require "it is another process" test "$(daemon_pid)" != "$killed"
require "the journal says that the devices were taken over" journal_says "taken over"
load_goes_on
stood_less_than $limit relay direct

returned "daemon restarted"
systemctl restart "$daemon"
attached
for name in relay direct; do equal "losses of $name after the restart" "$(status_of $name .losses)" 0; done
equal "links" "$(status_of direct .links)" 1
require "the links' sockets were kept for the next process" test -z "$(entries NBD_ATTACHMENT=direct | grep 'without their sockets')"
load_goes_on
stood_less_than $limit relay direct

# The server goes while nobody watches, and comes back after the daemon.
systemctl kill --signal=SIGSTOP "$daemon"
kill_server disk
systemctl kill --signal=SIGKILL "$daemon"
wait_state direct reconnecting
has_no_server() { [[ $(status_of relay .links) == 0 ]]; }
eventually 20 "relay has no server" has_no_server
mark relay
returned "daemon and server killed"
serve
attached
load_goes_on

returned "package installed again"
apt-get install --yes --quiet=2 --reinstall ./nbdattach.deb >"$work/apt.log" 2>&1
attached
load_goes_on
stood_less_than $limit relay direct
equal "device" "$(device_of relay)" "$device"
for name in relay direct; do end_load "daemon gone" $name "$work/exports/$name"; done
