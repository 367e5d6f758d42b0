# the journal has one entry for each change of state, with its fields; systemd shows the sentence

start_daemon
mkdir "$work/exports"
truncate --size=1M "$work/exports/here"
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 16M
start_server named 10810 nbdkit -f -t 1 -p 10810 file dir="$work/exports"
config first <<'YAML'
uri: nbd://127.0.0.1
YAML
config second <<'YAML'
uri: nbd://127.0.0.1:10810/here
YAML
config absent <<'YAML'
uri: nbd://127.0.0.1:10810/gone
YAML
reload
wait_state first attached
wait_state absent failed
wait_state second attached

field() { jq --raw-output --arg name "$1" '.[$name]' <<<"$entry"; }
equal NBD_ATTACHMENT "$(field NBD_ATTACHMENT)" second
equal NBD_STATE "$(field NBD_STATE)" attached
equal NBD_PREVIOUS_STATE "$(field NBD_PREVIOUS_STATE)" connecting
equal NBD_DEVICE "$(field NBD_DEVICE)" "$(device_of second)"
equal NBD_SERVER "$(field NBD_SERVER)" "$(status_of second .server)"
equal NBD_EXPORT "$(field NBD_EXPORT)" here
matches MESSAGE_ID "$(field MESSAGE_ID)" '^[0-9a-f]{32}$'
equal _SYSTEMD_UNIT "$(field _SYSTEMD_UNIT)" "$daemon"
matches MESSAGE "$(field MESSAGE)" second

previous=stopped
while read -r was is; do
  equal "the state before '$is'" "$was" "$previous"
  require "'$is' is another state than '$was'" test "$is" != "$was"
  previous=$is
done < <(entries NBD_ATTACHMENT=first | jq --raw-output 'select(.NBD_STATE) | "\(.NBD_PREVIOUS_STATE) \(.NBD_STATE)"')
equal "the last state" "$previous" attached

eventually 20 "the sentence comes" \
  bash -c '[[ $(systemctl show --property=StatusText --value nbdattachd) == "2 attached, 1 failed (absent)" ]]'
require "systemctl status shows the sentence" grep --quiet '2 attached, 1 failed (absent)' <(systemctl status "$daemon")

alien=$(journalctl --boot --output=cat "_SYSTEMD_UNIT=$daemon" _TRANSPORT=stdout _TRANSPORT=syslog)
equal "what libraries write into the journal" "$alien" ""
