# apt installs the package without a network; its unit is sound, its service runs, its configuration is valid

status_is 0 apt-get install --yes ./nbdattach.deb
equal "the package's state" "$(dpkg-query --show --showformat='${db:Status-Status}' nbdattach)" installed
status_is 0 dpkg --verify nbdattach
status_is 0 systemd-analyze verify --man=no "$daemon"
equal "what systemd-analyze says of the unit" "$(cat "$work/output")" ""

equal "the service after installation" "$(systemctl is-enabled "$daemon")" enabled
eventually 60 "the service runs after installation" systemctl is-active --quiet "$daemon"
status_is 0 nbdattach check
figure "RSS with no attachment" "$(awk '/VmRSS/ { print $2 " " $3 }' "/proc/$(daemon_pid)/status")"
