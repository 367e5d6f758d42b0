# a server's block sizes hold: nothing smaller, nothing larger, nothing unaligned reaches it; direct, where they are the kernel's, and by the relay, which splits

start_daemon
names=(direct classic relay)
declare -A keys=([direct]="datapath: direct" [classic]="datapath: direct, kernel-interface: ioctl" [relay]="datapath: relay")
declare -A ports devices
port=10811
for name in "${names[@]}"; do
  ports[$name]=$port
  start_server $name $port nbdkit -f -t 1 -p $port --filter=blocksize-policy file "$(disk_file $name.image 16M)" \
    blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=65536 blocksize-error-policy=error
  port=$((port + 1))
done
start_server any 10810 nbdkit -f -t 1 -p 10810 file "$(disk_file any.image 16M)"
for name in "${names[@]}"; do config $name <<<"{ uri: \"nbd://127.0.0.1:${ports[$name]}\", ${keys[$name]} }"; done
reload
largest() { cat "/sys/block/${devices[$1]##*/}/queue/max_sectors_kb"; }
for name in "${names[@]}"; do
  wait_state $name attached
  devices[$name]=$(device_of $name)
  device=${devices[$name]}
  equal "logical block size of $name" "$(blockdev --getss "$device")" 4096
  [[ $name == relay ]] ||
    require "the largest request of $name is $(largest $name) KiB, not above 64" test "$(largest $name)" -le 64
  require "large requests are split on $name" dd if=/dev/zero of="$device" bs=4M count=2 oflag=direct status=none
  require "small ones are made larger on $name" dd if=/dev/urandom of="$device" bs=512 count=3 conv=notrunc,fsync status=none
  require "what the server of $name has is what was written" cmp "$device" "$work/$name.image"
done

# The next user of the number may have another server.
for name in "${names[@]}"; do remove_config $name; done
reload
for name in "${names[@]}"; do wait_state $name stopped; done
for name in "${names[@]}"; do
  config any-$name <<<"{ uri: \"nbd://127.0.0.1:10810\", device: ${devices[$name]}, ${keys[$name]} }"
done
reload
for name in "${names[@]}"; do
  wait_state any-$name attached
  equal "block size of the next user after $name" "$(blockdev --getss "${devices[$name]}")" 512
  require "the next user's requests are large again after $name" test "$(largest $name)" -gt 64
done
