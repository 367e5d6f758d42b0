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

began=${EPOCHREALTIME/./}
start_daemon
eventually 400 "all are attached" all_are attached
figure "200 by netlink: attached after" "$(((${EPOCHREALTIME/./} - began) / 1000)) ms"
equal "devices" "$(nbdattach status --json | jq '[.attachments[].device] | unique | length')" 200
memory_figures "200 by netlink" idle

kill_server disk
eventually 60 "all are reconnecting" all_are reconnecting
serve
began=${EPOCHREALTIME/./}
eventually 300 "all are back" all_are attached
figure "200 by netlink: all back after the server's return" "$(((${EPOCHREALTIME/./} - began) / 1000)) ms"

began=${EPOCHREALTIME/./}
systemctl restart "$daemon"
eventually 120 "all were taken over" all_are attached
figure "200 by netlink: taken over after a restart" "$(((${EPOCHREALTIME/./} - began) / 1000)) ms"
equal "losses" "$(nbdattach status --json | jq '[.attachments[].losses] | add')" 0

remove_config many
reload
none_left() { ! compgen -G '/sys/block/nbd*/backend' >/dev/null; }
eventually 120 "all are detached" none_left
systemctl stop "$daemon"
modprobe --remove nbd
modprobe nbd
start_daemon
