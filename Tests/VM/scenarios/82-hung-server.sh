# a server that hangs for a while is waited for; with a request-timeout its link is given up: direct made anew, by the relay for one to the next server, which is made first
# Time limit: 400

start_daemon
mkdir "$work/exports"
for name in relay classic direct; do truncate --size=128M "$work/exports/$name"; done
serve() { start_server "$1" "$2" nbdkit -f -t 1 -p "$2" file dir="$work/exports"; }
serve first 10801
serve second 10802
hang() { kill "-$2" -- "-${servers[$1]}"; }
# declare_them [KEYS]
declare_them() {
  local both='[ "nbd://127.0.0.1:10801/NAME", "nbd://127.0.0.1:10802/NAME" ]'
  config_file hung <<YAML
attachments:
  relay: { uri: ${both//NAME/relay}, kernel-interface: netlink ${1-} }
  classic: { uri: ${both//NAME/classic}, kernel-interface: ioctl ${1-} }
  direct: { uri: "nbd://127.0.0.1:10801/direct", datapath: direct ${1+, request-timeout: 2s} }
YAML
  reload
}
declare_them
for name in relay classic direct; do wait_state $name attached; done
start_load relay classic direct

hang first STOP
sleep 8
returned "hung for 8 s, with patience"
hang first CONT
load_goes_on
for name in relay classic direct; do equal "losses of $name, with patience" "$(status_of $name .losses)" 0; done

# Changed time limits mean new links at most, and no new device.
device=$(device_of classic)
declare_them ", request-timeout: 2s, fence-timeout: 6s"
for name in relay classic direct; do equal "state of $name after the change" "$(status_of $name .state)" attached; done
load_goes_on
on() { [[ $(status_of relay .server) == *:$1/* && $(status_of classic .server) == *:$1/* ]]; }

# It closes what was given up once it has answered what it held: so nothing is written twice.
mark relay classic direct
hang first STOP
eventually 20 "the relays have a link to the second server" on 10802
wait_state direct reconnecting
returned "hung beyond the request-timeout, then went on"
hang first CONT
wait_state direct attached
load_goes_on

# It never goes on: the operator's bound for that passes.
returned "hung for ever, with a request-timeout of 2 s and a fence-timeout of 6 s"
hang second STOP
eventually 20 "the relays have a link to the first server" on 10801
load_goes_on
kill_server second
sleep 1
load_goes_on
equal "device of classic" "$(device_of classic)" "$device"
for name in relay classic direct; do end_load "hung server" $name "$work/exports/$name"; done
