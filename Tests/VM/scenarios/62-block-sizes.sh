# a server's block sizes are the kernel's: nothing smaller, nothing larger, nothing unaligned reaches the server

start_daemon
image=$(disk_file image 16M)
start_server strict 10809 nbdkit -f -t 1 -p 10809 --filter=blocksize-policy file "$image" \
  blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=65536 blocksize-error-policy=error
start_server any 10810 nbdkit -f -t 1 -p 10810 file "$image"
config strict <<'YAML'
uri: nbd://127.0.0.1:10809
YAML
reload
wait_state strict attached
device=$(device_of strict)
queue=/sys/block/${device##*/}/queue
equal "logical block size" "$(blockdev --getss "$device")" 4096
require "the largest request is $(cat "$queue/max_sectors_kb") KiB, not above 64" test "$(cat "$queue/max_sectors_kb")" -le 64
require "large requests are split" dd if=/dev/zero of="$device" bs=4M count=2 oflag=direct status=none
require "small ones are made larger" dd if=/dev/urandom of="$device" bs=512 count=3 conv=notrunc,fsync status=none
require "what the server has is what was written" cmp "$device" "$image"

# The next user of the number may have another server.
remove_config strict
reload
wait_state strict stopped
config any <<YAML
uri: nbd://127.0.0.1:10810
device: $device
YAML
reload
wait_state any attached
equal "block size of the next user" "$(blockdev --getss "$device")" 512
require "the next user's requests are large again" test "$(cat "$queue/max_sectors_kb")" -gt 64
