# two hundred attachments with their relays, made on demand, lost at once, and all back
# Time limit: 900

systemctl stop "$daemon"
modprobe --remove nbd
modprobe nbd nbds_max=0
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 1M; }
serve
{
  echo "attachments:"
  for number in {1..200}; do echo "  many$number: { uri: \"nbd://127.0.0.1\", connect-timeout: 120s }"; done
} | config_file many
all_are() { [[ $(nbdattach status --json | jq "[.attachments[] | select(.state == \"$1\")] | length") == 200 ]]; }
# become STATE SECONDS: the journal has said it 200 times since `from_now_on`, and it is so. Asking the daemon again and again
# would take the time that is measured.
become() {
  wait_entries 200 "$2" "NBD_STATE=$1"
  eventually "$2" "all are $1" all_are "$1"
}

from_now_on
began=${EPOCHREALTIME/./}
start_daemon
become attached 400
figure "200 by netlink: attached after" "$(since "$began")"
equal "devices" "$(nbdattach status --json | jq '[.attachments[].device] | unique | length')" 200
memory_figures "200 by netlink" idle

from_now_on
kill_server disk
become reconnecting 120
from_now_on
serve
began=${EPOCHREALTIME/./}
become attached 300
figure "200 by netlink: all back after the server's return" "$(since "$began")"

from_now_on
began=${EPOCHREALTIME/./}
systemctl restart "$daemon"
become attached 120
figure "200 by netlink: taken over after a restart" "$(since "$began")"
equal "losses" "$(nbdattach status --json | jq '[.attachments[].losses] | add')" 0

remove_config many
reload
none_left() { ! compgen -G '/sys/block/nbd*/backend' >/dev/null; }
eventually 120 "all are detached" none_left
systemctl stop "$daemon"
modprobe --remove nbd
modprobe nbd
start_daemon
