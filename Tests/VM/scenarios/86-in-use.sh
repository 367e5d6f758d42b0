# a stop detaches what nothing uses, and leaves and names what is in use; the next start takes it over

start_daemon
image=$(disk_file image 64M)
start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"
start_server idle 10810 nbdkit -f -t 1 -p 10810 memory 16M
config used <<'YAML'
uri: nbd://127.0.0.1
YAML
config idle <<'YAML'
uri: nbd://127.0.0.1:10810
YAML
reload
wait_state used attached
wait_state idle attached
device=$(device_of used)
idle=$(device_of idle)
start_load "$device"

began=$SECONDS
systemctl stop "$daemon"
require "the stop took $((SECONDS - began)) s, less than 30" test $((SECONDS - began)) -lt 30
require "the journal names the mount" journal_says "mounted on $load_folder"
require "the idle device is gone" test ! -e "/sys/block/${idle#/dev/}/backend"
load_goes_on

start_daemon
wait_state used attached
equal "device" "$(device_of used)" "$device"
status_is 1 nbdattach stop used
require "the refusal names the mount" grep --quiet "mounted on" "$work/output"
end_load "daemon stopped and started" "$image"

nbdattach stop used
equal "size after the stop" "$(size_of "$device")" 0
nbdattach start used
equal "state" "$(status_of used .state)" attached
