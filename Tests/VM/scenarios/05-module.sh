# the daemon brings the nbd module itself when it is not loaded

systemctl stop "$daemon"
modprobe --remove nbd
require "the module is not loaded" test ! -e /dev/nbd0
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 16M
config first <<'YAML'
uri: nbd://127.0.0.1
YAML
start_daemon
wait_state first attached
equal "size" "$(size_of "$(device_of first)")" $((16 << 20))
