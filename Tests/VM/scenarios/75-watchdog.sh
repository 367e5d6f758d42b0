# a daemon that hangs is ended by systemd's watchdog and started again

drop_in=/run/systemd/system/$daemon.d
at_end rm --recursive --force "$drop_in"
at_end systemctl daemon-reload
mkdir --parents "$drop_in"
printf '[Service]\nWatchdogSec=4s\nTimeoutAbortSec=3s\n' >"$drop_in/short-watchdog.conf"
systemctl daemon-reload
start_daemon
systemctl restart "$daemon"
start_server disk 10809 nbdkit -f -t 1 -p 10809 memory 16M
config data <<'YAML'
uri: nbd://127.0.0.1
YAML
reload
wait_state data attached
hung=$(daemon_pid)
sleep 9
equal "process after two watchdog times" "$(daemon_pid)" "$hung"

mark data
kill -STOP "$hung"
wait_state data attached 90
require "it is another process" test "$(daemon_pid)" != "$hung"
require "systemd says why" grep --quiet --ignore-case watchdog <(entries _PID=1 "UNIT=$daemon" | jq --raw-output .MESSAGE)
