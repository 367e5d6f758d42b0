# a server that is killed (back after 2 s, after 20 s), a reset connection, a network that swallows everything: no error, no record lost; by the relay on both kernel interfaces, and direct
# Time limit: 600

start_daemon
mkdir "$work/exports"
for name in relay classic direct; do truncate --size=128M "$work/exports/$name"; done
# One thread for each connection: with more, this nbdkit can abort when a client vanishes (raw_send_socket).
serve() { start_server disk 10809 nbdkit -f -t 1 -p 10809 file dir="$work/exports"; }
serve
config_file outage <<'YAML'
attachments:
  relay: { uri: "nbd://127.0.0.1/relay" }
  classic: { uri: "nbd://127.0.0.1/classic", kernel-interface: ioctl }
  direct: { uri: "nbd://127.0.0.1/direct", datapath: direct }
YAML
reload
for name in relay classic direct; do wait_state $name attached; done
equal "kernel interface and datapath" "$(status_of relay '"\(.kernelInterface) \(.datapath)"')" "netlink relay"
equal "kernel interface and datapath" "$(status_of classic '"\(.kernelInterface) \(.datapath)"')" "ioctl relay"
equal "kernel interface and datapath" "$(status_of direct '"\(.kernelInterface) \(.datapath)"')" "netlink direct"
device=$(device_of relay)
equal "the device's identifier" "$(cat "/sys/block/${device#/dev/}/backend")" nbdattach:relay

lost() {
  for name in relay classic direct; do wait_state $name reconnecting "$1"; done
  status_is 1 nbdattach status relay
}
back() {
  for name in relay classic direct; do wait_state $name attached; done
  load_goes_on
}

start_load relay classic direct
for outage in 2 20; do
  kill_server disk
  lost 20
  sleep "$outage"
  returned "killed, away for $outage s"
  serve
  back
done

block() { iptables --insert INPUT --protocol tcp --dport 10809 "$@"; }
unblock() { iptables --delete INPUT --protocol tcp --dport 10809 "$@"; }
at_end "iptables --flush INPUT"

reset=(--jump REJECT --reject-with tcp-reset)
block "${reset[@]}"
lost 20
returned "reset"
unblock "${reset[@]}"
back

block --jump DROP
lost 90
returned "network swallowed all"
unblock --jump DROP
back

equal "device" "$(device_of relay)" "$device"
for name in relay classic direct; do end_load "outages" $name "$work/exports/$name"; done
