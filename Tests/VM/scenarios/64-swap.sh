# swap on a device of the relay: a program larger than its memory goes on through an outage, and its memory is right
# Time limit: 400

start_daemon
image=$(disk_file image 192M)
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"; }
serve
config swap <<'YAML'
uri: nbd://127.0.0.1
datapath: relay
YAML
reload
wait_state swap attached
device=$(device_of swap)
mkswap "$device" >/dev/null
swapon "$device"
at_end swapoff "$device"

cat >"$work/hungry" <<'PYTHON'
import hashlib, sys, time
pages = int(sys.argv[1]) << 8
memory = bytearray(pages << 12)
def content(page, round): return hashlib.shake_128(b"%d %d" % (page, round)).digest(64) * 64
worst = 0
for round in range(2):
    for page in range(pages):
        began = time.monotonic()
        if round and memory[page << 12:page + 1 << 12] != content(page, round - 1):
            sys.exit(f"page {page} is wrong in round {round}")
        memory[page << 12:page + 1 << 12] = content(page, round)
        worst = max(worst, time.monotonic() - began)
    print(f"round {round} done", flush=True)
print(f"longest {worst:.1f}", flush=True)
PYTHON
systemd-run --quiet --scope --property=MemoryMax=24M python3 "$work/hungry" 64 >"$work/hungry.log" 2>&1 &
hungry=$!
eventually 180 "the first round is done" grep --quiet "round 0" "$work/hungry.log"
require "swap is used" awk '/^\/dev\/nbd/ { exit !($4 > 8192) }' /proc/swaps
kill_server disk
wait_state swap reconnecting
sleep 3
serve
wait_state swap attached
wait "$hungry" || fail "the program: $(tail --lines=2 "$work/hungry.log")"
figure "swap: longest access, an outage of 3 s in it" "$(sed -n 's/^longest //p' "$work/hungry.log") s"
locked=$(awk '/VmLck/ { print $2 }' "/proc/$(daemon_pid)/status")
require "the daemon's memory is locked" test "$locked" -gt 0
figure "swap: locked memory of the daemon" "$locked kB"
# PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE (include/linux/sched.h), which PR_SET_IO_FLUSHER sets: in the ninth field of stat,
# the seventh behind the thread's name.
flusher=$((0x00080000 | 0x00100000)) relays=0
for task in "/proc/$(daemon_pid)"/task/*; do
  # Other threads come and go.
  [[ $(cat "$task/comm" 2>/dev/null || true) == "nbd relay"* ]] || continue
  read -r _ _ _ _ _ _ flags _ < <(sed 's/.*) //' "$task/stat")
  equal "flags of the relay's thread for a flusher of I/O" "$((flags & flusher))" "$flusher"
  relays=$((relays + 1))
done
equal "threads of relays" "$relays" 1
swapoff "$device"
