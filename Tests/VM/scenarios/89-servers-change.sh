# under load: fail-over to the second server, a move by the operator, a move by a reload; no error, nothing lost
# Time limit: 400

start_daemon
mkdir "$work/exports"
for name in relay classic; do truncate --size=128M "$work/exports/$name"; done
serve() { start_server "server$1" "$1" nbdkit -f -t 1 -p "$1" file dir="$work/exports"; }
for port in 10801 10802 10803; do serve $port; done
# declare_them PORT...
declare_them() {
  local name port
  {
    echo "attachments:"
    for name in relay classic; do
      echo "  $name:"
      [[ $name == relay ]] || echo "    kernel-interface: ioctl"
      echo "    uri:"
      for port in "$@"; do echo "    - nbd://127.0.0.1:$port/$name"; done
    done
  } | config_file change
  reload
}
declare_them 10801 10802
for name in relay classic; do wait_state $name attached; done
device=$(device_of relay)
on() { [[ $(status_of relay .server) == *:$1/* && $(status_of classic .server) == *:$1/* ]]; }
require "the first server of the list is used" on 10801
start_load relay classic

returned "first server killed, the second takes over"
kill_server server10801
eventually 30 "the second server has taken over" on 10802
load_goes_on

serve 10801
returned "moved by the operator"
for name in relay classic; do nbdattach move $name nbd://127.0.0.1:10801/$name; done
eventually 30 "the operator's server is used" on 10801
load_goes_on
kill_server server10802
load_goes_on
require "what is no longer used is not missed" on 10801

# Not to a server that has another export.
mkdir "$work/others"
for name in relay classic; do truncate --size=64M "$work/others/$name"; done
start_server other 10804 nbdkit -f -t 1 -p 10804 file dir="$work/others"
for name in relay classic; do status_is 1 nbdattach move $name nbd://127.0.0.1:10804/$name; done
# Not to one that is not there.
status_is 1 nbdattach move relay nbd://127.0.0.1:10802/relay
require "a move that was refused changes nothing" on 10801
load_goes_on

returned "moved by a reload"
declare_them 10803
eventually 30 "the server of the new configuration is used" on 10803
load_goes_on
kill_server server10801
load_goes_on
equal "device" "$(device_of relay)" "$device"
for name in relay classic; do
  equal "states of $name since the fail-over" "$(states_of $name | grep --invert-match -E 'degraded|reconnecting|attached' | xargs)" connecting
  end_load "change of servers" $name "$work/exports/$name"
done
