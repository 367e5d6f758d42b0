# nbdkit, qemu-nbd and nbd-server are stopped in an orderly way, under load, and started again: the kernel sees no error
# Time limit: 400

start_daemon
mkdir "$work/exports"
servers_of=(nbdkit qemu nbd-server)
for name in relay classic; do
  for server in "${servers_of[@]}"; do truncate --size=24M "$work/exports/$name-$server"; done
done
cat >"$work/nbd-server.conf" <<CONF
[generic]
  port = 10805
  listenaddr = 127.0.0.1
[relay]
  exportname = $work/exports/relay-nbd-server
  flush = true
  trim = true
[classic]
  exportname = $work/exports/classic-nbd-server
  flush = true
  trim = true
CONF
serve() {
  start_server nbdkit 10803 nbdkit -f -t 1 -p 10803 file dir="$work/exports"
  for name in relay classic; do
    start_server qemu-$name "$work/qemu-$name" \
      qemu-nbd --persistent --shared=0 --format=raw --socket="$work/qemu-$name" "$work/exports/$name-qemu"
  done
  # In the foreground nbd-server would serve one client only; it closes every descriptor that it might have.
  (ulimit -n 1024 && nbd-server -C "$work/nbd-server.conf" -p "$work/nbd-server.pid")
  eventually 20 "nbd-server listens" listens 10805
}
serve
at_end pkill -KILL nbd-server
{
  echo "attachments:"
  for name in relay classic; do
    case $name in relay) interface=netlink ;; classic) interface=ioctl ;; esac
    echo "  $name-nbdkit: { uri: \"nbd://127.0.0.1:10803/$name-nbdkit\", kernel-interface: $interface, retry: { maximum: 2s } }"
    echo "  $name-qemu: { uri: \"nbd+unix:///?socket=$work/qemu-$name\", kernel-interface: $interface, retry: { maximum: 2s } }"
    echo "  $name-nbd-server: { uri: \"nbd://127.0.0.1:10805/$name\", kernel-interface: $interface, retry: { maximum: 2s } }"
  done
} | config_file graceful
mapfile -t names < <(for name in relay classic; do printf "$name-%s\n" "${servers_of[@]}"; done)
reload
for name in "${names[@]}"; do wait_state "$name" attached; done
for name in "${names[@]}"; do writers "$name" raw1 "$(device_of "$name")" "--direct --places 4096"; done
eventually 60 "all writers write" load_flows

# nbdkit answers every request with ESHUTDOWN until its clients have gone; the others close.
kill -TERM "$(cat "$work/nbd-server.pid")"
for server in nbdkit qemu-relay qemu-classic; do kill_server $server TERM; done
for name in "${names[@]}"; do wait_state "$name" reconnecting; done
rm --force "$work"/qemu-{relay,classic}
returned "stopped"
serve
for name in "${names[@]}"; do wait_state "$name" attached; done
load_goes_on
for name in "${names[@]}"; do end_load "graceful stop" "$name" "$work/exports/$name"; done
