# every kind of server attaches, over TCP, Unix sockets and vsock: nbdkit (oldstyle, newstyle, several exports), qemu-nbd, nbd-server

start_daemon
image=$(disk_file image 4M)
dd if=/dev/urandom of="$image" bs=1M count=4 conv=notrunc status=none
mkdir "$work/exports"
ln "$image" "$work/exports/one"

start_server oldstyle 10801 nbdkit -f -t 1 --oldstyle -p 10801 file "$image"
start_server oldstyle-unix "$work/oldstyle" nbdkit -f -t 1 --oldstyle -U "$work/oldstyle" file "$image"
start_server plain-newstyle 10802 nbdkit -f -t 1 --mask-handshake=0 -p 10802 file "$image"
start_server no-structured 10803 nbdkit -f -t 1 --no-sr -p 10803 file "$image"
start_server several "$work/several" nbdkit -f -t 1 -U "$work/several" file dir="$work/exports"
modprobe vsock_loopback
make_certificates
start_server vsock vsock:10806 nbdkit -f -t 1 --vsock -p 10806 file "$image"
start_server vsock-tls vsock:10807 nbdkit -f -t 1 --vsock -p 10807 --tls=require --tls-psk="$work/tls/keys.psk" file "$image"
start_server qemu 10804 qemu-nbd --persistent --shared=0 --format=raw --port=10804 --export-name=one "$image"
start_server qemu-unix "$work/qemu" qemu-nbd --persistent --shared=0 --format=raw --socket="$work/qemu" "$image"
cat >"$work/nbd-server.conf" <<CONF
[generic]
  port = 10805
  listenaddr = 127.0.0.1
[one]
  exportname = $image
CONF
# In the foreground nbd-server would serve one client only; it closes every descriptor that it might have.
(ulimit -n 1024 && nbd-server -C "$work/nbd-server.conf" -p "$work/nbd-server.pid")
eventually 20 "nbd-server listens" test -s "$work/nbd-server.pid"
at_end kill -KILL -- "-$(cat "$work/nbd-server.pid")"
eventually 20 "nbd-server listens" listens 10805

config_file servers <<YAML
attachments:
  oldstyle: { uri: "nbd://127.0.0.1:10801" }
  oldstyle-unix: { uri: "nbd+unix:///?socket=$work/oldstyle" }
  plain-newstyle: { uri: "nbd://127.0.0.1:10802" }
  no-structured: { uri: "nbd://localhost:10803" }
  several: { uri: "nbd+unix:///one?socket=$work/several" }
  vsock: { uri: "nbd+vsock://1:10806" }
  vsock-tls: { uri: "nbds+vsock://1:10807", tls: { psk-file: $work/tls/keys.psk } }
  qemu: { uri: "nbd://127.0.0.1:10804/one" }
  qemu-unix: { uri: "nbd+unix:///?socket=$work/qemu" }
  nbd-server: { uri: "nbd://127.0.0.1:10805/one" }
YAML
reload
for name in oldstyle oldstyle-unix plain-newstyle no-structured several vsock vsock-tls qemu qemu-unix nbd-server; do
  wait_state "$name" attached
  device=$(device_of "$name")
  equal "size from $name" "$(size_of "$device")" $((4 << 20))
  require "$name shows what the server has" cmp "$device" "$image"
done

mkfs.ext4 -q "$(device_of nbd-server)"
blockdev --flushbufs "$(device_of oldstyle)"
require "one device's writes are seen by another" cmp "$(device_of oldstyle)" "$image"
