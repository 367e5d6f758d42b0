# classic interface, direct: a server that is killed again and again with requests in flight: every time the device comes back, nothing is lost

start_daemon
image=$(disk_file image 64M)
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file "$image"; }
serve
config data <<'YAML'
kernel-interface: ioctl
datapath: direct
uri: nbd://127.0.0.1
device: /dev/nbd5
retry: { initial: 100ms, maximum: 500ms }
YAML
reload
wait_state data attached

writers=()
for start in 0 4000 8000 12000; do
  ./writer append /dev/nbd5 "$work/log$start" --start "$start" --places 4000 --direct --go-on &
  writers+=($!)
done
# writing: each has written five records since its last error, which is what the classic interface answers meanwhile.
writing() {
  local start
  for start in 0 4000 8000 12000; do
    awk '$5 != 0 { since = 0 } $5 == 0 && $2 == "fsync" { since += 1 } END { exit since < 5 }' "$work/log$start" || return 1
  done
}
for loss in {1..4}; do
  eventually 20 "all writers write before loss $loss" writing
  kill_server disk
  serve
  wait_state data attached
  equal "size after loss $loss" "$(size_of /dev/nbd5)" $((64 << 20))
done
eventually 20 "all writers go on" writing
kill -TERM "${writers[@]}"
wait "${writers[@]}" || true

equal "losses" "$(status_of data .losses)" 4
for start in 0 4000 8000 12000; do ./writer verify "$image" "$work/log$start" --start "$start" --places 4000; done
