# a reset connection, and a network that swallows everything: no error, no record lost
# Time limit: 400

start_daemon
image=$(disk_file image 128M)
start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"
config data <<'YAML'
uri: nbd://127.0.0.1
YAML
reload
wait_state data attached
start_load "$(device_of data)"

block() { iptables --insert INPUT --protocol tcp --dport 10809 "$@"; }
unblock() { iptables --delete INPUT --protocol tcp --dport 10809 "$@"; }
at_end "iptables --flush INPUT"

reset=(--jump REJECT --reject-with tcp-reset)
block "${reset[@]}"
wait_state data reconnecting
unblock "${reset[@]}"
wait_state data attached
load_goes_on

block --jump DROP
wait_state data reconnecting 90
unblock --jump DROP
wait_state data attached 60
load_goes_on
end_load "reset, and a black hole until TCP_USER_TIMEOUT" "$image"
