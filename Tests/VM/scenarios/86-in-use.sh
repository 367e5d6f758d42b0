# a stop detaches what nothing uses, and leaves and names what is in use; the next start takes it over; by the relay, whose I/O waits meanwhile, and direct
# Time limit: 400

start_daemon
mkdir "$work/exports"
for name in relay direct; do truncate --size=64M "$work/exports/$name"; done
start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/exports"
start_server idle 10810 nbdkit -f -t 1 -p 10810 memory 16M
config_file use <<'YAML'
attachments:
  relay: { uri: "nbd://127.0.0.1/relay" }
  direct: { uri: "nbd://127.0.0.1/direct", datapath: direct }
  idle: { uri: "nbd://127.0.0.1:10810" }
YAML
reload
for name in relay direct idle; do wait_state $name attached; done
device=$(device_of relay)
idle=$(device_of idle)
start_load relay direct

began=$SECONDS
systemctl stop "$daemon"
require "the stop took $((SECONDS - began)) s, less than 30" test $((SECONDS - began)) -lt 30
for name in relay direct; do require "the journal names the mount" journal_says "mounted on ${load_folders[$name]}"; done
require "the idle device is gone" test ! -e "/sys/block/${idle#/dev/}/backend"
load_goes_on direct

returned "daemon stopped and started"
start_daemon
for name in relay direct; do wait_state $name attached; done
load_goes_on
equal "device" "$(device_of relay)" "$device"
status_is 1 nbdattach stop relay
require "the refusal names the mount" grep --quiet "mounted on" "$work/output"
for name in relay direct; do end_load "in use" $name "$work/exports/$name"; done

nbdattach stop relay
equal "size after the stop" "$(size_of "$device")" 0
nbdattach start relay
equal "state" "$(status_of relay .state)" attached
