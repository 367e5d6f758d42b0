# a server that hangs for a while is waited for; with a request-timeout the link is given up and made anew
# Time limit: 240

start_daemon
image=$(disk_file image 128M)
start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"
config data <<'YAML'
uri: nbd://127.0.0.1
YAML
reload
wait_state data attached
start_load "$(device_of data)"
hang() { kill "-$1" -- "-${servers[disk]}"; }
hang STOP
sleep 8
hang CONT
load_goes_on
equal "losses, with patience" "$(status_of data .losses)" 0
end_load "server hangs for 8 s" "$image"

config data <<'YAML'
uri: nbd://127.0.0.1
request-timeout: 2s
YAML
reload
# A changed time limit means new links and no new device.
equal "state after the change" "$(status_of data .state)" attached
start_load "$(device_of data)"
hang STOP
wait_state data reconnecting
hang CONT
wait_state data attached 60
load_goes_on
end_load "server hangs beyond the request-timeout" "$image"
