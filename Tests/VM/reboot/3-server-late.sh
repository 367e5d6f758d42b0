# the boot does without the server; once it comes, the file system is mounted, with everything that was synced
# Power-off: 30

cleanup() { :; } # the shutdown is as it is with a mounted file system

# ---- How the boot before was shut down

journalctl --boot=-1 --output=short-monotonic >/out/former-boot.txt
for name in data classic; do
  require "the daemon said that it ended the wait for the server of $name" \
    grep --quiet "$name: its server is gone, and I/O that waits for it fails now" /out/former-boot.txt
done
equal "what systemd had to end" "$(grep --ignore-case -E 'systemd\[1\]: .*(timed out|sigkill)' /out/former-boot.txt || true)" ""

# ---- The boot

eventually 90 "the boot is done without the server" systemctl is-active --quiet multi-user.target
status_is 3 systemctl is-active srv-data.mount
equal "failed units" "$(systemctl list-units --failed --plain --no-legend)" ""
matches "state of the attachment" "$(status_of data .state)" '^(waiting|connecting)$'

echo start >/dev/virtio-ports/vm.request
wait_state data attached
for name in data classic; do eventually 60 "the file system $name is mounted" systemctl is-active --quiet srv-$name.mount; done
(cd /srv/data && sha256sum --check --quiet /root/checksums)
(cd /srv/classic && sha256sum --check --quiet <(grep file /root/checksums))
