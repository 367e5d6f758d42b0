# a server that forgets, when it is killed, what it had not yet been told to flush: the relay sends it again; without, it is lost
# Time limit: 500

start_daemon
names=(relay classic keeping-nothing direct)
declare -A ports devices image
port=10811
for name in "${names[@]}"; do
  ports[$name]=$port
  image[$name]=$(disk_file "$name.image" 64M)
  # What is zeroed later, from 32 MiB on, and has long been written.
  dd if=/dev/urandom of="${image[$name]}" bs=1M seek=32 count=4 conv=notrunc status=none
  port=$((port + 1))
done
serve() {
  local name
  for name in "${names[@]}"; do
    start_server "$name" "${ports[$name]}" nbdkit -f -t 1 -p "${ports[$name]}" --filter=cache file "${image[$name]}" cache=writeback
  done
}
serve
config_file forgetful <<'YAML'
attachments:
  relay: { uri: "nbd://127.0.0.1:10811" }
  classic: { uri: "nbd://127.0.0.1:10812", kernel-interface: ioctl }
  keeping-nothing: { uri: "nbd://127.0.0.1:10813", unflushed-limit: 0 }
  direct: { uri: "nbd://127.0.0.1:10814", datapath: direct }
YAML
reload
for name in "${names[@]}"; do
  wait_state "$name" attached
  devices[$name]=$(device_of "$name")
done

# Nothing of this is flushed: records that are written once, and 64 places that are written again and again.
declare -A pids
for name in "${names[@]}"; do
  ./writer append "${devices[$name]}" "$work/$name.once" --direct --unsynced --pause 0.01 &
  pids[$name]=$!
  ./writer append "${devices[$name]}" "$work/$name.again" --direct --unsynced --pause 0.01 --start 4096 --places 64 &
  pids[$name]+=" $!"
done
for round in 1 2 3; do
  sleep 2
  for name in "${names[@]}"; do blkdiscard --zeroout --offset $(((31 + round) << 20)) --length $((1 << 20)) "${devices[$name]}"; done
  for name in "${names[@]}"; do kill_server "$name"; done
  for name in "${names[@]}"; do wait_state "$name" reconnecting; done
  returned "$round"
  serve
  for name in "${names[@]}"; do wait_state "$name" attached; done
done
sleep 1
for name in "${names[@]}"; do
  for pid in ${pids[$name]}; do kill -TERM "$pid"; done
  for pid in ${pids[$name]}; do wait "$pid" || fail "a writer of $name saw an error"; done
  sync "${devices[$name]}"
done

is_zero() { cmp --ignore-initial=$((32 << 20)):0 --bytes=$((3 << 20)) "${image[$1]}" /dev/zero; }
for name in relay classic; do
  ./writer verify "${image[$name]}" "$work/$name.once" --unsynced
  ./writer verify "${image[$name]}" "$work/$name.again" --unsynced --start 4096 --places 64
  require "what was zeroed on $name is zero" is_zero $name
  require "writes of $name were sent again" test "$(status_of $name .statistics.replayed)" -gt 0
  mapfile -t stalls < <(./writer stalls "$work/$name".{once,again} --after "${returns[@]%% *}")
  for round in 1 2 3; do figure "forgetful server: $name: loss $round: I/O goes on after" "${stalls[$round]} s"; done
done
# That the server really forgets.
for name in keeping-nothing direct; do
  status_is 1 ./writer verify "${image[$name]}" "$work/$name.once" --unsynced
  figure "forgetful server: $name" "$(cat "$work/output")"
  ! is_zero $name 2>/dev/null || fail "the server did not forget what was zeroed on $name"
done

# A daemon that hands its devices over has all flushed before: the next one has nothing to send again.
sed --in-place '/^  [ckd]/d' "$attachments/forgetful.yaml"
reload
./writer append "${devices[relay]}" "$work/handed-over" --direct --unsynced --pause 0.01 --start 1024 &
writer=$!
sleep 2
systemctl restart "$daemon"
kill_server relay
names=(relay)
serve
eventually 60 "the writer goes on" longer_than "$work/handed-over" $(($(wc --lines <"$work/handed-over") + 20))
kill -TERM "$writer"
wait "$writer" || fail "the writer saw an error"
sync "${devices[relay]}"
./writer verify "${image[relay]}" "$work/handed-over" --unsynced --start 1024

# In the middle of an outage nothing can be flushed: what was acknowledged goes on in the next daemon, also in one that
# comes after a second hand-over, and after one that was killed before any server was there.
./writer append "${devices[relay]}" "$work/outage" --direct --unsynced --pause 0.01 --start 2048 &
writer=$!
sleep 2
mark relay
kill_server relay
wait_state relay reconnecting
systemctl restart "$daemon"
wait_state relay reconnecting
require "the journal says what the server will get again" journal_says "of acknowledged writes again"
systemctl restart "$daemon"
wait_state relay reconnecting
systemctl kill --signal=SIGKILL "$daemon"
wait_state relay reconnecting
serve
wait_state relay attached
require "what a former daemon had acknowledged was sent again" test "$(status_of relay .statistics.replayed)" -gt 0
eventually 60 "the writer goes on" longer_than "$work/outage" $(($(wc --lines <"$work/outage") + 20))
kill -TERM "$writer"
wait "$writer" || fail "the writer saw an error"
sync "${devices[relay]}"
./writer verify "${image[relay]}" "$work/outage" --unsynced --start 2048
