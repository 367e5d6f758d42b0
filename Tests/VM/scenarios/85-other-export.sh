# after an outage another export answers: a smaller one is refused and said, a larger one makes the device grow; by the relay on both kernel interfaces, and direct
# Time limit: 400

start_daemon
mkdir "$work/exports" "$work/others"
names=(relay classic direct)
sized() { for name in "${names[@]}"; do truncate --size="$2" "$work/$1/$name"; done; }
sized exports 128M
sized others 64M
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/$1"; }
serve exports
config_file other <<'YAML'
attachments:
  relay: { uri: "nbd://127.0.0.1/relay" }
  classic: { uri: "nbd://127.0.0.1/classic", kernel-interface: ioctl }
  direct: { uri: "nbd://127.0.0.1/direct", datapath: direct }
YAML
reload
become() { for name in "${names[@]}"; do wait_state "$name" "$1"; done; }
become attached
declare -A devices
for name in "${names[@]}"; do devices[$name]=$(device_of "$name"); done
have() { for name in "${names[@]}"; do [[ $(size_of "${devices[$name]}") == $(($1 << 20)) ]] || return 1; done; }
start_load "${names[@]}"

kill_server disk
become reconnecting
serve others
become failed
for name in "${names[@]}"; do
  matches "the failure of $name" "$(status_of "$name" .failure.message)" 'shrank from 134217728 to 67108864'
done
kill_server disk
sized exports 160M
serve exports
become attached
load_goes_on
eventually 20 "the devices have grown after the outage" have 160

# They grow while the server runs: seen when asked for.
sized exports 192M
for name in "${names[@]}"; do nbdattach refresh "$name"; done
eventually 20 "the devices have grown once refreshed" have 192
load_goes_on

# Or at a reload.
sized exports 224M
reload
eventually 20 "the devices have grown after a reload" have 224
load_goes_on
for name in "${names[@]}"; do end_load "another export, then a larger one" "$name" "$work/exports/$name"; done
