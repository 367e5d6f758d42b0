# classic interface: twenty and two hundred attachments, with their relays, in one process
# Time limit: 600

systemctl stop "$daemon"
modprobe --remove nbd
modprobe nbd nbds_max=256
udevadm settle --timeout=120
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 1M
# declare_them COUNT
declare_them() {
  {
    echo "attachments:"
    for ((number = 1; number <= $1; number++)); do
      echo "  many$number: { uri: \"nbd://127.0.0.1\", kernel-interface: ioctl, connect-timeout: 120s }"
    done
  } | config_file many
}
all_are_attached() { [[ $(nbdattach status --json | jq '[.attachments[] | select(.state == "attached")] | length') == "$1" ]]; }

declare_them 20
start_daemon
eventually 60 "20 are attached" all_are_attached 20
memory_figures "20 attachments"
systemctl stop "$daemon"
declare_them 200
from_now_on

began=${EPOCHREALTIME/./}
start_daemon
figure "200 attachments: systemctl start returns after" "$(((${EPOCHREALTIME/./} - began) / 1000)) ms"
wait_entries 200 400 NBD_STATE=attached
figure "200 attachments: all attached after" "$(since "$began")"

equal "attached" "$(nbdattach status --json | jq '[.attachments[] | select(.state == "attached")] | length')" 200
equal "devices" "$(nbdattach status --json | jq '[.attachments[].device] | unique | length')" 200
equal "processes" "$(pgrep --count --exact nbdattachd)" 1
memory_figures "200 attachments"
began=${EPOCHREALTIME/./}
nbdattach status >"$work/status"
figure "200 attachments: status takes" "$(((${EPOCHREALTIME/./} - began) / 1000)) ms"

began=${EPOCHREALTIME/./}
systemctl stop "$daemon"
figure "200 attachments: stop takes" "$(((${EPOCHREALTIME/./} - began) / 1000)) ms"
equal "devices still held" "$(find /sys/block/nbd*/pid 2>/dev/null | wc --lines)" 0
remove_config many
start_daemon
