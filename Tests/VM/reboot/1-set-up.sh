# file systems in fstab, by their stable names, are mounted; what is written to them is there after a reboot
# Power-off: 30

cleanup() { :; } # the next boot needs it all
port=$(<port)

cat >/etc/systemd/network/eth0.network <<'INI'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
LinkLocalAddressing=no
INI
systemctl enable --now systemd-networkd.service
eventually 60 "the network is up" ip route get 10.0.2.2

status_is 0 apt-get install --yes ./nbdattach.deb
eventually 60 "the service runs after installation" systemctl is-active --quiet "$daemon"
for name in data parts; do
  config "$name" <<YAML
uri: nbd://10.0.2.2:$port/$name
retry: { initial: 500ms, maximum: 2s }
YAML
done
config classic <<YAML
uri: nbd://10.0.2.2:$port/classic
kernel-interface: ioctl
device: /dev/nbd9
retry: { initial: 500ms, maximum: 2s }
YAML
reload
for name in data parts classic; do wait_state $name attached; done

# The line as the manual page has it.
line=$(zcat /usr/share/man/man5/nbdattach.yaml.5.gz | grep '^/dev/disk/by-nbd/data')
equal "lines for fstab in nbdattach.yaml(5)" "$(wc --lines <<<"$line")" 1
echo "$line" >>/etc/fstab
read -r device folder _ <<<"$line"
mkfs.ext4 -q "$device"
mkdir --parents "$folder"
systemctl daemon-reload
status_is 0 systemctl start "$(systemd-escape --path --suffix=mount "$folder")"
equal "the unit that the mount requires" "$(systemctl is-active nbdattach@data.service)" active

# The same for a device of the classic interface, which has no other name.
line=${line//data/classic}
echo "${line/\/dev\/disk\/by-nbd\/classic/\/dev\/nbd9}" >>/etc/fstab
mkfs.ext4 -q /dev/nbd9
mkdir --parents "${folder/data/classic}"
systemctl daemon-reload
status_is 0 systemctl start "$(systemd-escape --path --suffix=mount "${folder/data/classic}")"

for number in 1 2 3 4; do head --bytes=2M /dev/urandom >"$folder/file$number"; done
(cd "$folder" && sha256sum file* >/root/checksums)
cp "$folder"/file* "${folder/data/classic}"
