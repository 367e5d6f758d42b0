# a reload adds, removes and changes what differs, and never touches what does not

start_daemon
mkdir "$work/exports"
for size in 1 2 3 4; do truncate --size="${size}M" "$work/exports/size$size"; done
start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/exports"
declare_export() { config "$1" <<<"uri: nbd://127.0.0.1/$2"; }
declare_export same size1
declare_export removed size2
declare_export changed size3
reload
for name in same removed changed; do wait_state "$name" attached; done
same=$(device_of same)
removed=$(device_of removed)
holder=$(kernel_pid "$same")
exec {held}<"$same" # in use: a device that is set up again would fail this reader
mark same removed changed added

remove_config removed
declare_export changed size4
declare_export added size2
touch "$attachments/same.yaml"
reload
wait_state removed stopped
wait_state added attached
wait_state changed attached
equal "size of the changed one" "$(size_of "$(device_of changed)")" $((4 << 20))
equal "names in the status" "$(nbdattach status --json | jq --raw-output '[.attachments[].name] | sort | join(" ")')" "added changed same"
[[ $(device_of added) == "$removed" || $(device_of changed) == "$removed" ]] || equal "size of the removed one" "$(size_of "$removed")" 0

equal "device of the unchanged one" "$(device_of same)" "$same"
equal "its holder in the kernel" "$(kernel_pid "$same")" "$holder"
equal "its states in all" "$(states_of same | xargs)" "connecting attached"
require "its reader goes on" dd bs=4096 count=1 iflag=direct status=none of=/dev/null <&"$held"
exec {held}<&-
