# an export that is not there fails with its name in the message, and nothing else suffers

start_daemon
mkdir "$work/exports"
truncate --size=1M "$work/exports/right"
start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/exports"
config right <<'YAML'
uri: nbd://127.0.0.1/right
YAML
config wrong <<'YAML'
uri: nbd://127.0.0.1/wrogn
YAML
reload
wait_state right attached
wait_state wrong failed
matches "the failure" "$(status_of wrong .failure.message)" wrogn
matches "the journal's message" "$(jq --raw-output .MESSAGE <<<"$entry")" wrogn
equal "device of the failed one" "$(status_of wrong .device)" null
status_is 1 nbdattach status
status_is 1 nbdattach status wrong
status_is 0 nbdattach status right
equal "states of the right one" "$(states_of right | xargs)" "connecting attached"
