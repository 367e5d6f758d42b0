# the daemon is killed while the server hangs with a write: nothing is sent again before the server is done with it
# Time limit: 120

start_daemon
image=$(disk_file image 64M)
# The first write while there is a file "hold" is carried out when there is none any more.
cat >"$work/pwrite" <<SHELL
cat >$work/payload.\$4.\$\$
if [ -e $work/hold ] && mkdir $work/held; then while [ -e $work/hold ]; do sleep 0.1; done; fi
dd if=$work/payload.\$4.\$\$ of=$image seek=\$4 oflag=seek_bytes conv=notrunc status=none
SHELL
start_server disk 10809 nbdkit -f -p 10809 eval thread_model='echo parallel' get_size="stat -Lc %s $image" \
  can_write='exit 0' pread="dd if=$image skip=\$4 count=\$3 iflag=skip_bytes,count_bytes status=none" \
  pwrite=". $work/pwrite"
config late <<'YAML'
uri: nbd://127.0.0.1
connections: 1
YAML
reload
wait_state late attached
device=$(device_of late)
equal "datapath" "$(status_of late .datapath)" relay

block() { printf '%-4096s' "$1"; }
write_block() { dd of="$device" bs=4096 count=1 iflag=fullblock oflag=direct conv=notrunc status=none; }
first_block() { dd if="$1" bs=4096 count=1 iflag="${2-fullblock}" status=none | sha256sum; }

touch "$work/hold"
block old | write_block &
writer=$!
at_end rm --force "$work/hold"
eventually 20 "the server holds the write" test -d "$work/held"
mark late
kill -KILL "$(daemon_pid)"
wait_state late attached
# It has requests then: the write, and perhaps what udev reads.
eventually 60 "the journal says why I/O waits" journal_says "has not closed the connections of the former process"
require "the write waits while the server has it" kill -0 "$writer"
equal "writes that the server was asked for" "$(find "$work" -name 'payload.*' | wc --lines)" 1

rm "$work/hold"
wait "$writer" || fail "the write failed"
block new | write_block
equal "the block" "$(first_block "$device" direct)" "$(block new | sha256sum)"
# What might come later has come.
kill_server disk TERM
equal "the block of the server's file" "$(first_block "$image")" "$(block new | sha256sum)"
