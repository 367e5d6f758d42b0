# the relay, on both kernel interfaces: ext4, XFS, fio with verification, discard, zeroes, read-only; a server that is lost meanwhile
# Time limit: 400

start_daemon
mkdir "$work/exports"
names=(relay classic)
for name in "${names[@]}"; do truncate --size=320M "$work/exports/$name"; done
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/exports"; }
serve
# declare_them [KEYS]
declare_them() {
  config_file systems <<YAML
attachments:
  relay: { uri: "nbd://127.0.0.1/relay", datapath: relay, kernel-interface: netlink ${1-} }
  classic: { uri: "nbd://127.0.0.1/classic", datapath: relay, kernel-interface: ioctl ${1-} }
YAML
  reload
}
declare_them
declare -A devices pids
for name in "${names[@]}"; do
  wait_state "$name" attached
  devices[$name]=$(device_of "$name")
done

# both COMMAND...: runs for both attachments at once; NAME, DEVICE and FOLDER are replaced.
both() {
  local name command
  for name in "${names[@]}"; do
    command=("${@//NAME/$name}")
    command=("${command[@]//DEVICE/${devices[$name]}}")
    "${command[@]//FOLDER/$work/mount-$name}" >>"$work/$name.log" 2>&1 &
    pids[$name]=$!
  done
  for name in "${names[@]}"; do wait "${pids[$name]}" || fail "with $name: $* ($(tail --lines=3 "$work/$name.log"))"; done
}
# outage_during COMMAND...: as `both`, and the server is killed soon after the beginning, and comes back.
outage_during() {
  local under_way
  both "$@" &
  under_way=$!
  sleep 0.5
  kill_server disk
  sleep 1
  serve
  wait "$under_way" || fail "during an outage: $*"
}

both mkdir --parents FOLDER
for system in ext4 xfs; do
  case $system in ext4) options=(-q) ;; xfs) options=(-q -f) ;; esac
  outage_during mkfs.$system "${options[@]}" DEVICE
  both mount DEVICE FOLDER
  outage_during fio --name=random --filename=FOLDER/random --rw=randwrite --bsrange=4k-128k --size=12M --verify=crc32c --verify_fatal=1 \
    --direct=1 --ioengine=libaio --iodepth=8 --fsync=32 --do_verify=1 --minimal
  both umount FOLDER
  case $system in ext4) both fsck.ext4 -fn DEVICE ;; xfs) both xfs_repair -n DEVICE ;; esac
done

# A pattern, and holes in it: what the device shows is what the server has.
both dd if=/dev/urandom of=DEVICE bs=1M count=16 oflag=direct conv=notrunc
both blkdiscard --offset 1M --length 1M DEVICE
both blkdiscard --zeroout --offset 3M --length 1M DEVICE
# Holes are punched only where the kernel's driver knows WRITE_ZEROES.
queue=/sys/block/${devices[relay]#/dev/}/queue
hole=(blkdiscard --zeroout)
[[ $(cat "$queue/write_zeroes_max_bytes") == 0 ]] || hole=(fallocate --punch-hole)
both "${hole[@]}" --offset 5M --length 1M DEVICE
both fallocate --zero-range --keep-size --offset 7M --length 1M DEVICE
both sync DEVICE
for name in "${names[@]}"; do
  for place in 3 5 7; do
    require "zeroes at $place MiB of $name" cmp --ignore-initial=$((place << 20)):0 --bytes=$((1 << 20)) "$work/exports/$name" /dev/zero
  done
  blockdev --flushbufs "${devices[$name]}"
  require "the device $name shows what the server has" cmp --bytes=$((16 << 20)) "${devices[$name]}" "$work/exports/$name"
  equal "losses of $name" "$(status_of "$name" '.losses > 0')" true
done

declare_them ", read-only: true"
read_only() { [[ $(blockdev --getro "$(device_of relay)") == 1 && $(blockdev --getro "$(device_of classic)") == 1 ]]; }
eventually 30 "the devices are read-only" read_only
for name in "${names[@]}"; do
  devices[$name]=$(device_of "$name")
  status_is 1 dd if=/dev/zero of="${devices[$name]}" bs=4096 count=1 oflag=direct conv=notrunc
done
outage_during cmp --bytes=$((16 << 20)) DEVICE "$work/exports/NAME"
