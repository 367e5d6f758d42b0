# TLS in the kernel: both versions, every cipher and both kernel interfaces; what can't be had is said, and is never exchanged for less
# Time limit: 600

make_certificates
systemctl stop "$daemon"
eventually 20 "nothing uses the module" modprobe --remove tls
mkdir --parents /run/modprobe.d
echo "install tls /bin/false" >/run/modprobe.d/no-tls.conf
at_end "rm --force /run/modprobe.d/no-tls.conf; systemctl restart modprobe@tls.service"
truncate --size=16M "$work/image"
start_server disk 10809 nbdkit -f -p 10809 --tls=require --tls-certificates="$work/tls" file "$work/image"
# declared NAME KEY TLS-KEY: an attachment.
declared() { printf '  %s: { uri: "nbds://127.0.0.1", datapath: ktls, connect-timeout: 60s, %s, tls: { ca-file: %s, %s } }\n' "$1" "$2" "$work/tls/ca-cert.pem" "$3"; }
# copied NAME: 4 MiB of noise come to the server and back as they were.
copied() {
  dd if=/dev/urandom of="$work/noise" bs=1M count=4 status=none
  dd if="$work/noise" of="$(device_of "$1")" bs=1M oflag=direct status=none
  cmp --bytes=4M "$work/noise" "$work/image"
  cmp --bytes=4M "$work/noise" <(dd if="$(device_of "$1")" bs=1M count=4 iflag=direct status=none)
}
{ echo "attachments:" && declared first "kernel-interface: auto" "verify: full"; } | config_file ktls
start_daemon
wait_state first failed
equal "why there is no TLS in the kernel" "$(status_of first .failure.message)" \
  "this kernel has no TLS: its module tls is not loaded, or it was made without"
matches "what to do" "$(status_of first .failure.hint)" "modprobe tls"
equal "the device" "$(status_of first .device)" null
status_is 1 nbdattach status first

rm /run/modprobe.d/no-tls.conf
modprobe tls
nbdattach retry first
wait_state first attached

{
  echo "attachments:"
  for version in 1.2 1.3; do
    for cipher in AES-128-GCM AES-256-GCM CHACHA20-POLY1305; do
      declared "v$version-$cipher" "kernel-interface: netlink" \
        "priority: \"NORMAL:-VERS-ALL:+VERS-TLS$version:-CIPHER-ALL:+$cipher\""
    done
  done
  declared classic "kernel-interface: ioctl" "verify: full"
  declared ccm "kernel-interface: auto" "priority: \"NORMAL:-CIPHER-ALL:+AES-128-CCM\""
} | config_file ktls
reload
for version in 1.2 1.3; do
  for cipher in AES-128-GCM AES-256-GCM CHACHA20-POLY1305; do
    name=v$version-$cipher
    wait_state "$name" attached
    equal "$name" "$(status_of "$name" '"\(.tls.version) \(.tls.cipher) \(.tls.place)"')" "TLS $version $cipher kernel"
    copied "$name"
  done
done
wait_state classic attached
equal "classic" "$(status_of classic '"\(.kernelInterface) \(.datapath) \(.tls.place)"')" "ioctl ktls kernel"
copied classic
wait_state ccm failed
equal "what the kernel can't do" "$(status_of ccm .failure.message)" "the kernel has no TLS with AES-128-CCM"
