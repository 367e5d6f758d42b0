# I/O fails only after the time that the operator chose, also what was under way, and succeeds again later; by the relay on both kernel interfaces, and direct
# Time limit: 400

start_daemon
mkdir "$work/exports"
for name in relay classic direct; do truncate --size=64M "$work/exports/$name"; done
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/exports"; }
serve
# declare_them [KEYS]
declare_them() {
  config_file timeouts <<YAML
attachments:
  relay: { uri: "nbd://127.0.0.1/relay", retry: { maximum: 1s } ${1-} }
  classic: { uri: "nbd://127.0.0.1/classic", kernel-interface: ioctl, retry: { maximum: 1s } ${1-} }
  direct: { uri: "nbd://127.0.0.1/direct", datapath: direct, retry: { maximum: 1s } ${1-} }
YAML
  reload
}
names=(relay classic direct)
declare_them ", reconnect-timeout: 5s"
for name in "${names[@]}"; do wait_state "$name" attached; done
declare -A devices pids
for name in "${names[@]}"; do
  devices[$name]=$(device_of "$name")
  ./writer append "${devices[$name]}" "$work/$name" --direct --pause 0.02 --go-on &
  pids[$name]=$!
done
sleep 2
kill_server disk
for name in "${names[@]}"; do wait_state "$name" reconnecting; done
for name in "${names[@]}"; do wait_state "$name" waiting 30; done
failed() { awk '$5 != 0 { found = 1 } END { exit !found }' "$work/$1"; }
for name in "${names[@]}"; do
  eventually 20 "the writer of $name sees an error" failed "$name"
  require "the first error of $name did not come before 4 s" awk '$5 != 0 { exit $4 < 4 }' "$work/$name"
done
serve
for name in "${names[@]}"; do wait_state "$name" attached; done
sleep 2
for name in "${names[@]}"; do kill -TERM "${pids[$name]}"; done
for name in "${names[@]}"; do
  equal "device of $name" "$(device_of "$name")" "${devices[$name]}"
  ! wait "${pids[$name]}" || fail "the writer of $name saw no error"
  require "the last record of $name was written" awk '{ last = $5 } END { exit last != 0 }' "$work/$name"
  ./writer verify "$work/exports/$name" "$work/$name"
done

# With its timers as they were, the next outage is held, and now for ever.
declare_them
mark "${names[@]}"
for name in "${names[@]}"; do
  ./writer append "${devices[$name]}" "$work/$name" --direct --pause 0.02 &
  pids[$name]=$!
done
sleep 1
kill_server disk
for name in "${names[@]}"; do wait_state "$name" reconnecting; done
sleep 6
serve
for name in "${names[@]}"; do wait_state "$name" attached; done
sleep 1
for name in "${names[@]}"; do
  kill -TERM "${pids[$name]}"
  wait "${pids[$name]}" || fail "the writer of $name saw an error in the second outage"
  ./writer verify "$work/exports/$name" "$work/$name"
done
