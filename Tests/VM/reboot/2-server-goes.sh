# after a boot the file systems are mounted and right, and stay mounted while the server returns, one also while the daemon restarts
# Power-off: 60

cleanup() { :; } # the shutdown finds a mounted file system, and no server
mount_unit=srv-data.mount
holder=nbdattach@data.service
device_unit=$(systemd-escape --path --suffix=device /dev/disk/by-nbd/data)

# ---- How the boot before was shut down

# place TEXT: the number of the first line of that boot's shutdown with the text in it.
journalctl --boot=-1 --output=cat >"$work/before"
place() { grep --line-number --fixed-strings --max-count=1 -- "$1" "$work/shutdown" | cut --delimiter=: --fields=1; }
journalctl --boot=-1 --output=short-monotonic >/out/former-boot.txt
sed -n '/Unmounting srv-data.mount/,$p' "$work/before" >"$work/shutdown"
unmounted=$(place "Unmounted srv-data.mount")
let_go=$(place "data: stopped")
instance=$(place "Stopped nbdattach@data.service")
service=$(place "Stopped nbdattachd.service")
require "unmounted ($unmounted), detached ($let_go), instance stopped ($instance), daemon stopped ($service)" \
  test "$unmounted" -lt "$let_go" -a "$let_go" -lt "$instance" -a "$instance" -lt "$service"
equal "errors in the kernel log of the boot before" \
  "$(journalctl --boot=-1 --dmesg --output=cat | grep --ignore-case -E 'I/O error|EXT4-fs (error|warning)' || true)" ""

# ---- The boot

eventually 90 "the file system is mounted at boot" systemctl is-active --quiet "$mount_unit"
eventually 90 "that of the classic interface too" systemctl is-active --quiet srv-classic.mount
for folder in /srv/data /srv/classic; do (cd $folder && sha256sum --check --quiet /root/checksums); done
eventually 60 "there is a link for the partition" test -b /dev/disk/by-nbd/parts-part1
equal "the link" "$(readlink --canonicalize /dev/disk/by-nbd/data)" "$(device_of data)"
equal "the partition's link" "$(readlink --canonicalize /dev/disk/by-nbd/parts-part1)" "$(device_of parts)p1"
equal "size of the partition" "$(size_of /dev/disk/by-nbd/parts-part1)" $((8192 * 512))
eventually 60 "the boot is done" systemctl is-active --quiet multi-user.target
equal "failed units" "$(systemctl list-units --failed --plain --no-legend)" ""

# ---- Return of the server, and restart of the daemon

# Each is made anew when a unit stops, however shortly.
spells() { systemctl show --property=Id,ActiveState,ActiveEnterTimestampMonotonic "$@"; }
units=("$mount_unit" "$holder" "$device_unit")
classic_units=(srv-classic.mount nbdattach@classic.service dev-nbd9.device)
before=$(spells "${units[@]}" "${classic_units[@]}")
equal "active units" "$(grep --count ActiveState=active <<<"$before")" 6

mark data classic
echo kill >/dev/virtio-ports/vm.request
for name in data classic; do wait_state $name reconnecting; done
writers=()
for folder in /srv/data /srv/classic; do
  dd if=/dev/zero of=$folder/held bs=4k count=8 oflag=direct status=none &
  writers+=($!)
done
sleep 3
for writer in "${writers[@]}"; do require "the write waits" kill -0 "$writer"; done
require "the link is there meanwhile" test -b /dev/disk/by-nbd/data
echo start >/dev/virtio-ports/vm.request
for name in data classic; do wait_state $name attached; done
for writer in "${writers[@]}"; do wait "$writer"; done
udevadm settle
equal "the units after the server's return" "$(spells "${units[@]}" "${classic_units[@]}")" "$before"

before=$(spells "${units[@]}")
umount /srv/classic # the classic interface has nothing that outlives the daemon
systemctl restart "$daemon"
wait_state data attached
equal "losses after the restart" "$(status_of data .losses)" 0
dd if=/dev/urandom of=/srv/data/more bs=4k count=32 oflag=direct status=none
equal "the units after the restart" "$(spells "${units[@]}")" "$before"
(cd /srv/data && sha256sum more >>/root/checksums && sync && sha256sum --check --quiet /root/checksums)
wait_state classic attached
systemctl start srv-classic.mount

# ---- Shutdown without the server, with something yet to be written

# In files that are there, so that nothing has to be read for it.
for folder in /srv/data /srv/classic; do dd if=/dev/zero of=$folder/lost bs=64k count=16 conv=fsync status=none; done
# No older block is on its way when the server goes: the next write would wait for one that it has to change.
sync
mark data classic
echo kill >/dev/virtio-ports/vm.request
for name in data classic; do wait_state $name reconnecting; done
for folder in /srv/data /srv/classic; do dd if=/dev/zero of=$folder/lost bs=64k count=16 conv=notrunc status=none; done
