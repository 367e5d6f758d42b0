# TLS by the relay and in the kernel, with certificates and with a pre-shared key: a server that is killed, a reset connection, links made anew, a daemon that is killed: no error, no record lost, and the kernel did its part of the encryption
# Time limit: 600

make_certificates
# One of the secrets is a credential of the service, which systemd reads for the unit as it is shipped.
mkdir --parents "/run/systemd/system/$daemon.d"
printf '[Service]\nLoadCredential=keys:%s\n' "$work/tls/keys.psk" >"/run/systemd/system/$daemon.d/credential.conf"
at_end "rm --recursive /run/systemd/system/$daemon.d; systemctl daemon-reload; systemctl restart $daemon"
systemctl daemon-reload
systemctl stop "$daemon"
start_daemon
mkdir "$work/exports"
names=(relay ktls psk)
for name in "${names[@]}"; do truncate --size=64M "$work/exports/$name"; done
serve() {
  start_server x509 10809 nbdkit -f -t 1 -p 10809 --tls=require --tls-certificates="$work/tls" file dir="$work/exports"
  start_server keys 10810 nbdkit -f -t 1 -p 10810 --tls=require --tls-psk="$work/tls/keys.psk" file dir="$work/exports"
}
serve
config_file tls <<YAML
attachments:
  relay: { uri: "nbds://127.0.0.1/relay", tls: { ca-file: $work/tls/ca-cert.pem } }
  ktls: { uri: "nbds://127.0.0.1/ktls", tls: { ca-file: $work/tls/ca-cert.pem }, datapath: ktls }
  psk: { uri: "nbds://127.0.0.1:10810/psk", tls: { psk-file: "credential:keys" }, datapath: ktls }
YAML
reload
attached() { for name in "${names[@]}"; do wait_state "$name" attached; done; }
attached
equal "relay's TLS" "$(status_of relay '"\(.datapath) \(.tls.place) \(.tls.serverVerified)"')" "relay relay true"
equal "ktls' TLS" "$(status_of ktls '"\(.datapath) \(.tls.place) \(.tls.version) \(.tls.cipher)"')" "ktls kernel TLS 1.3 AES-256-GCM"
equal "psk's TLS" "$(status_of psk '"\(.datapath) \(.tls.place) \(.tls.version) \(.tls.cipher)"')" "ktls kernel TLS 1.3 AES-128-GCM"
matches "what nbdattach status says" "$(nbdattach status ktls)" "protection: TLS 1.3, AES-256-GCM, in the kernel"
start_load "${names[@]}"

lost() { for name in "${names[@]}"; do wait_state "$name" reconnecting "$1"; done; }
back() { attached && load_goes_on; }
kill_server x509
kill_server keys
lost 20
sleep 2
returned "killed"
serve
back

at_end "iptables --flush INPUT"
reset=(INPUT --protocol tcp --dport 10809:10810 --jump REJECT --reject-with tcp-reset)
iptables --insert "${reset[@]}"
lost 20
returned "reset"
iptables --delete "${reset[@]}"
back

# The links are made anew under the load.
nbdattach reconnect "${names[@]}"
load_goes_on

mark "${names[@]}"
returned "daemon killed"
kill -KILL "$(daemon_pid)"
back
equal "psk's TLS, taken over" "$(status_of psk '"\(.datapath) \(.tls.place) \(.tls.cipher) \(.links)"')" "ktls kernel AES-128-GCM 1"

for name in "${names[@]}"; do end_load "TLS" "$name" "$work/exports/$name"; done
tls_count() { awk -v name="$1" '$1 == name { print $2 }' /proc/net/tls_stat; }
# Two devices, each with four links since.
require "the kernel sent" test "$(tls_count TlsTxSw)" -ge 8
require "the kernel received" test "$(tls_count TlsRxSw)" -ge 8
equal "what the kernel could not decrypt" "$(tls_count TlsDecryptError)" 0
