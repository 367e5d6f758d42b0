# several connections: losing one after the other is no outage; by the relay on both kernel interfaces, and direct
# Time limit: 400

start_daemon
mkdir "$work/exports"
for name in relay classic direct; do truncate --size=64M "$work/exports/$name"; done
# One thread for each connection: with more, this nbdkit can abort when a client vanishes (raw_send_socket).
# A server for each, so that each connection's attachment is known by its port.
port=10811
{
  echo "attachments:"
  for name in relay classic direct; do
    start_server $name $port nbdkit -f -t 1 -p $port file "$work/exports/$name" >&2
    case $name in
      relay) keys="connections: 4" ;;
      classic) keys="connections: 4, kernel-interface: ioctl" ;;
      direct) keys="connections: 3, datapath: direct" ;;
    esac
    echo "  $name: { uri: \"nbd://127.0.0.1:$port\", $keys }"
    port=$((port + 1))
  done
} >"$work/links.yaml"
config_file links <"$work/links.yaml"
reload
for name in relay classic direct; do wait_state $name attached; done
links_are() { [[ $(status_of relay .links) == "$1" && $(status_of classic .links) == "$1" && $(status_of direct .links) == "$2" ]]; }
eventually 20 "all have their links" links_are 4 3
start_raw_load relay classic direct

connections() { ss --no-header --tcp --numeric state established "dport = :$1" | awk '{ split($3, a, ":"); print a[length(a)] }'; }
# cut PORT LOCAL: ends the connection with that local port to the server on PORT.
cut_off() { ss --kill --tcp state established sport = ":$2" >/dev/null || skip "the kernel can't end a connection (ss --kill)"; }
mapfile -t relay < <(connections 10811)
mapfile -t classic < <(connections 10812)
mapfile -t direct < <(connections 10813)
for number in 0 1 2 3; do
  cut_off 10811 "${relay[$number]}"
  cut_off 10812 "${classic[$number]}"
  ((number)) || cut_off 10813 "${direct[0]}"
  wait_state relay degraded
  wait_state classic degraded
  ((number)) || wait_state direct degraded
  returned "link $((number + 1)) lost"
  wait_state relay attached
  wait_state classic attached
  ((number)) || wait_state direct attached
  eventually 20 "all have their links again" links_are 4 3
  load_goes_on
done
for name in relay classic; do
  equal "outages of $name" "$(states_of $name | grep --count reconnecting || true)" 0
done
for name in relay classic direct; do end_load "link by link" $name "$work/exports/$name"; done
