# What scenarios are written with. Loaded by run-scenarios (as BASH_ENV), which sets:
#   work     the scenario's own folder, empty at the start
#   cursor   the journal's end when the scenario began
# shellcheck shell=bash disable=SC2154
set -Eeuo pipefail
unset BASH_ENV # for this shell, not for those that it starts

readonly attachments=/etc/nbdattach/attachments.d
readonly daemon=nbdattachd.service
declare -A servers=()  # label -> pid, also the process group
declare -A cursors=()  # attachment -> cursor of the last entry that wait_state saw
declare -a endings=()  # commands that at_end was given

PS4='+ ${EPOCHREALTIME:6:8} ${BASH_SOURCE[0]##*/}:$LINENO: '
trap 'fail "${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR
trap 'exit 143' TERM
trap 'ended=$?; set +x; cleanup || ended=1; exit $ended' EXIT
set -x

# The same language; the original takes ten times as long to start, a third of a second in here.
jq() { gojq "$@"; }

# ---- Outcome

fail() {
  trap - ERR
  [[ -e $work/why ]] || echo "$*" >"$work/why"
  exit 1
}

skip() {
  echo "$*" >"$work/why"
  exit 77
}

# require CLAIM COMMAND...: the command must succeed.
require() {
  local claim=$1
  shift
  "$@" || fail "not so: $claim"
}

# equal WHAT ACTUAL EXPECTED
equal() { [[ $2 == "$3" ]] || fail "$1 is '$2', not '$3'"; }

# matches WHAT ACTUAL PATTERN (extended regular expression)
matches() { [[ $2 =~ $3 ]] || fail "$1 is '$2', which does not match '$3'"; }

# status_is EXPECTED COMMAND...: the command must end with that exit status; its output goes to $work/output.
status_is() {
  local expected=$1 actual=0
  shift
  "$@" >"$work/output" 2>&1 || actual=$?
  [[ $actual == "$expected" ]] || fail "'$*' ended with $actual, not $expected: $(tail --lines=3 "$work/output")"
}

# eventually SECONDS CLAIM COMMAND...: for what has no event to wait for; the command must succeed within that time.
eventually() {
  local limit=$1 claim=$2 deadline=$((SECONDS + $1))
  shift 2
  until "$@" 2>/dev/null; do
    ((SECONDS < deadline)) || fail "not so within $limit s: $claim"
    read -rt 0.1 -u "$nothing" || true # a wait that starts no process
  done
}
exec {nothing}<> <(:)

# figure WHAT VALUE: something measured, for the report.
figure() { echo "$(uname -r | cut -d. -f1,2): $1: $2" >>/out/figures.txt; }

# ---- Servers

# start_server LABEL ADDRESS COMMAND...: starts a server in the foreground of its own process group and waits until it
# listens on ADDRESS, a TCP port or a socket's path.
start_server() {
  local label=$1 address=$2
  shift 2
  setsid "$@" >>"$work/$label.log" 2>&1 &
  servers[$label]=$!
  eventually 20 "$label listens on $address (its output is in $label.log)" listens "$address"
}

# listens ADDRESS: a path, a TCP port, or vsock:PORT.
listens() {
  case $1 in
    /*) [[ -S $1 ]] ;;
    vsock:*) ss --no-header --listening --vsock --numeric | grep --quiet ":${1#*:} " ;;
    *) [[ -n $(ss --no-header --listening --tcp --numeric "sport = :$1") ]] ;;
  esac
}

# kill_server LABEL [SIGNAL]: KILL when none is named. Returns when the server is gone.
kill_server() {
  local pid=${servers[$1]}
  unset "servers[$1]"
  kill "-${2:-KILL}" -- "-$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}

# disk_file NAME SIZE: a sparse file that a server can export; prints its path.
disk_file() {
  truncate --size="$2" "$work/$1"
  echo "$work/$1"
}

# make_certificates: in $work/tls an authority, a server's certificate for 127.0.0.1 (nbdkit's names) and a pre-shared key.
make_certificates() {
  mkdir "$work/tls"
  (
    cd "$work/tls"
    printf '%s\n' 'cn = "authority of the tests"' ca cert_signing_key 'expiration_days = 2' >ca.cfg
    printf '%s\n' 'cn = "server of the tests"' 'ip_address = 127.0.0.1' tls_www_server signing_key 'expiration_days = 2' >server.cfg
    for name in ca server; do certtool --generate-privkey --key-type=ecdsa --outfile=$name-key.pem; done
    certtool --generate-self-signed --load-privkey=ca-key.pem --template=ca.cfg --outfile=ca-cert.pem
    certtool --generate-certificate --load-ca-certificate=ca-cert.pem --load-ca-privkey=ca-key.pem \
      --load-privkey=server-key.pem --template=server.cfg --outfile=server-cert.pem
    echo "alice:$(od --address-radix=n --format=x1 --read-bytes=32 /dev/urandom | tr --delete ' \n')" >keys.psk
    chmod 600 ./*.pem keys.psk
  ) >>"$work/certtool.log" 2>&1
}

# ---- Configuration and daemon

# config NAME: writes the attachment NAME, whose keys are read from standard input, into a file of its own.
config() { { printf 'attachments:\n  %s:\n' "$1" && sed 's/^/    /'; } >"$attachments/$1.yaml"; }

# config_file NAME: writes standard input as it is.
config_file() { cat >"$attachments/$1.yaml"; }

remove_config() { rm --force "$attachments/$1.yaml"; }

reload() { systemctl reload "$daemon"; }

# The daemon runs with what is configured now, whatever happened to it before.
start_daemon() {
  systemctl reset-failed "$daemon" 2>/dev/null || true
  systemctl start "$daemon"
}

daemon_pid() { systemctl show --property=MainPID --value "$daemon"; }

# status_of NAME [FILTER]: what the daemon says of an attachment, as JSON, or a jq filter's result from it.
status_of() {
  { nbdattach status "$1" --json || (($? == 1)); } | jq --raw-output ".attachments[0] | ${2:-.}"
}

device_of() { status_of "$1" .device; }

# kernel_pid DEVICE: the task that the kernel says holds the device, or nothing.
kernel_pid() { cat "/sys/block/${1##*/}/pid" 2>/dev/null || true; }

size_of() { blockdev --getsize64 "$1"; }

# ---- Journal

# With a match, `--after-cursor` of systemd 252 leaves out the first entry after the cursor too; hence `--cursor`, and the
# cursor's own entry is left out here.

# entries MATCH...: journal entries since the scenario began, one JSON object a line.
entries() {
  journalctl --sync
  journalctl --quiet --cursor="$cursor" --output=json --all "$@" | grep --invert-match --fixed-strings "$cursor" || true
}

# journal_says TEXT MATCH...: whether a message of the daemon since the scenario began has the text in it.
journal_says() {
  local text=$1
  shift
  entries "_SYSTEMD_UNIT=$daemon" "$@" | jq --raw-output .MESSAGE | grep --fixed-strings --count "$text" >/dev/null
}

# wait_entry SECONDS CURSOR MATCH...: the first entry after a cursor, as it comes.
#
# A `journalctl --follow` of systemd 252 that looks while an entry is being written can miss it until the next one comes: it
# has been counted, and is not yet among those that match. So there is one every two seconds.
wait_entry() {
  local limit=$1 after=$2 line='' part journal pid ended
  shift 2
  exec {journal}< <(exec timeout "$limit" journalctl --follow --no-tail --output=json --cursor="$after" "$@")
  pid=$!
  while :; do
    ended=0
    IFS= read -r -t 2 part <&"$journal" || ended=$?
    line+=$part
    if ((ended > 128)); then
      echo "<7>tests: still waiting for $*" >/dev/kmsg
    elif ((ended)); then
      break
    elif [[ $line == *"$after"* ]]; then
      line=''
    else
      printf '%s\n' "$line"
      break
    fi
  done
  exec {journal}<&-
  kill "$pid" 2>/dev/null || true
  ((ended == 0))
}

# wait_entries COUNT SECONDS MATCH...: the first COUNT entries of the daemon since $cursor, time stamps and cursors only, in
# $work/entries. For many: the shell reads byte by byte.
wait_entries() {
  local count=$1 deadline=$((SECONDS + $2))
  shift 2
  while :; do
    journalctl --quiet --cursor="$cursor" --output=json --output-fields=NBD_STATE "_SYSTEMD_UNIT=$daemon" "$@" |
      { grep --invert-match --fixed-strings "$cursor" || true; } | head --lines="$count" >"$work/entries" || true
    (($(wc --lines <"$work/entries") < count)) || return 0
    ((SECONDS < deadline)) || fail "$(wc --lines <"$work/entries") of $count entries $* have come in time"
    sleep 1
  done
}

# from_now_on: the scenario begins here, as far as the journal is concerned.
from_now_on() {
  journalctl --sync
  cursor=$(journalctl --lines=0 --show-cursor | sed -n 's/^-- cursor: //p')
}

# since BEGAN: milliseconds from there until the last of $work/entries.
since() { echo "$((($(tail --lines=1 "$work/entries" | jq --raw-output .__REALTIME_TIMESTAMP) - $1) / 1000)) ms"; }

# wait_state NAME STATE [SECONDS]: until the journal says that the attachment went to the state, after what the last
# wait_state for this attachment saw. The entry is left in $entry.
wait_state() {
  local name=$1 state=$2 limit=${3:-60}
  entry=$(wait_entry "$limit" "${cursors[$name]:-$cursor}" "NBD_ATTACHMENT=$name" "NBD_STATE=$state") ||
    fail "$name did not become $state within $limit s; it is $(status_of "$name" '"\(.state): \(.failure.message)"' || true)"
  cursors[$name]=$(jq --raw-output .__CURSOR <<<"$entry")
}

# mark NAME...: the next wait_state looks only at what happens from now on.
mark() {
  local now name
  journalctl --sync
  now=$(journalctl --lines=0 --show-cursor | sed -n 's/^-- cursor: //p')
  for name in "$@"; do cursors[$name]=$now; done
}

# states_of NAME: the states it went through since the scenario began, in order, one a line.
states_of() { entries "NBD_ATTACHMENT=$1" | jq --raw-output 'select(.NBD_STATE) | .NBD_STATE'; }

# ---- Other users of devices

# take DEVICE PORT: nbd-client attaches the default export of a server on this machine.
take() {
  nbd-client 127.0.0.1 "$2" "$1" -b 512
  at_end nbd-client -d "$1"
}

# mounted DEVICE [NAME]: mounts it on a folder of its own; prints the folder.
mounted() {
  local folder=$work/mount${2+-$2}
  mkdir --parents "$folder"
  mount "$1" "$folder"
  echo "$folder"
}

# verify_file IMAGE [PATH LOG]...: what the writer noted as written is in the file PATH of the file system in a server's
# IMAGE.
verify_file() {
  mkdir --parents "$work/server-side"
  mount -o loop,ro "$1" "$work/server-side"
  shift
  while (($#)); do
    ./writer verify "$work/server-side/$1" "$2"
    shift 2
  done
  umount "$work/server-side"
}

# ---- Load

declare -A loads=()        # attachment -> pids of its writers
declare -A load_folders=() # attachment -> where its file system is mounted
declare -a returns=()      # `TIME WHAT`: from when on I/O could go on

# start_load NAME...: on each attachment's device a file system, mounted, with a writer that calls fsync and two that write
# with O_DIRECT, so that requests are in flight at every moment.
start_load() {
  local name folder
  for name in "$@"; do
    mkfs.ext4 -q "$(device_of "$name")"
    folder=$(mounted "$(device_of "$name")" "$name")
    load_folders[$name]=$folder
    writers "$name" synced "$folder/synced" "" direct1 "$folder/direct1" --direct direct2 "$folder/direct2" --direct
  done
  eventually 60 "all writers write" load_flows
}

# start_raw_load NAME...: the same without a file system: two writers on each device, in the first 16 MiB and after.
start_raw_load() {
  local name device
  for name in "$@"; do
    device=$(device_of "$name")
    writers "$name" raw1 "$device" "--direct --start 0 --places 4096" raw2 "$device" "--direct --start 4096 --places 512"
  done
  eventually 60 "all writers write" load_flows
}

# writers NAME [LABEL TARGET OPTIONS]...: each writes to its target, its log is $work/NAME.LABEL. Together they leave time to
# others.
writers() {
  local name=$1
  shift
  loads[$name]=
  rm --force "$work/$name".{synced,direct,raw}*
  ((${#loads[@]} > 1)) || at_end end_writers
  while (($#)); do
    # shellcheck disable=SC2086 # several options
    ./writer append "$2" "$work/$name.$1" --pause 0.03 $3 &
    loads[$name]+=" $!"
    shift 3
  done
}

# logs_of NAME...: the logs of its writers, one a line.
logs_of() {
  local name
  for name in "$@"; do find "$work" -maxdepth 1 -name "$name.synced" -o -name "$name.direct?" -o -name "$name.raw?"; done
}

load_flows() {
  local log
  for log in $(logs_of "${!loads[@]}"); do [[ -s $log ]] || return 1; done
}

end_writers() {
  # shellcheck disable=SC2048 # several pids in each
  for pid in ${loads[*]}; do kill -TERM "$pid" 2>/dev/null; done
  loads=()
}

# load_goes_on [NAME...]: every writer, or those of these attachments, has written something new since now. The first call
# that ends may have begun before, the second has not.
load_goes_on() {
  local log logs
  (($#)) || set -- "${!loads[@]}"
  mapfile -t logs < <(logs_of "$@")
  for _ in 1 2; do
    : >"$work/now"
    for log in "${logs[@]}"; do eventually 60 "the writer of ${log##*/} goes on" test "$log" -nt "$work/now"; done
  done
}

longer_than() { (($(wc --lines <"$1") > $2)); }

# returned WHAT: what stood in the way of I/O goes away now; end_load notes how long it took from here until I/O went on.
returned() { returns+=("$(cut --delimiter=' ' --fields=1 /proc/uptime) $*"); }

# stood_less_than LIMIT NAME...: since the last `returned` no I/O on these attachments has stood for LIMIT seconds. Notes for
# how long it did.
stood_less_than() {
  local limit=$1 name logs longest last=${returns[-1]}
  shift
  for name; do
    mapfile -t logs < <(logs_of "$name")
    longest=$(./writer stalls "${logs[@]}" --since "${last%% *}")
    figure "${last#* }: $name: I/O stood for" "$longest s"
    ((${longest%.*} < limit)) || fail "${last#* }: I/O on $name stood for $longest s"
  done
}

# end_load WHAT NAME IMAGE: no writer of the attachment has seen an error, and what they wrote is in the server's IMAGE.
# Notes the longest stall.
end_load() {
  local pid log logs stalls number pairs=()
  for pid in ${loads[$2]}; do kill -TERM "$pid"; done
  for pid in ${loads[$2]}; do
    wait "$pid" || fail "a writer of $2 saw an error: $(logs_of "$2" | xargs awk '$5 != 0' | head --lines=2)"
  done
  unset "loads[$2]"
  mapfile -t logs < <(logs_of "$2")
  mapfile -t stalls < <(./writer stalls "${logs[@]}" --after "${returns[@]%% *}")
  figure "$1: $2: longest stall" "${stalls[0]} s"
  for number in "${!returns[@]}"; do
    figure "$1: $2: ${returns[$number]#* }: I/O goes on after" "${stalls[$((number + 1))]} s"
  done
  if [[ ${load_folders[$2]-} ]]; then
    umount "${load_folders[$2]}"
    status_is 0 fsck.ext4 -fn "$(device_of "$2")"
    for log in "${logs[@]}"; do pairs+=("${log##*.}" "$log"); done
    verify_file "$3" "${pairs[@]}"
  else
    ./writer verify "$3" "$work/$2.raw1" --start 0 --places 4096
    [[ ! -e $work/$2.raw2 ]] || ./writer verify "$3" "$work/$2.raw2" --start 4096 --places 512
  fi
}

# ---- Memory

# memory_figures WHAT [idle]: of the daemon with all its attachments idle, and at most while 1 MiB was written to each,
# without a flush.
memory_figures() {
  local pid
  pid=$(daemon_pid)
  of_daemon() { awk -v name="$1:" '$1 == name { print $2 }' "/proc/$pid/status"; }
  figure "$1, idle" "$(of_daemon VmRSS) kB, $(of_daemon RssAnon) kB of it its own, $(of_daemon Threads) threads, $(find "/proc/$pid/fd" -mindepth 1 | wc --lines) descriptors"
  [[ -z ${2-} ]] || return 0
  echo 5 >"/proc/$pid/clear_refs"
  nbdattach status --json | jq --raw-output '.attachments[].device' | xargs python3 -c '
import mmap, os, sys
page = mmap.mmap(-1, 1 << 20)
for device in sys.argv[1:]:
    descriptor = os.open(device, os.O_WRONLY | os.O_DIRECT)
    os.pwrite(descriptor, page, 0)
    os.close(descriptor)
'
  figure "$1, 1 MiB written to each" "$(of_daemon VmHWM) kB at most"
}

# ---- End

# at_end COMMAND...: runs when the scenario is over, however it ends.
at_end() { endings+=("${*@Q}"); }

# Leaves nothing behind: mounts, devices, configuration and servers of this scenario.
cleanup() {
  trap - ERR
  local label mount_point ending left pid name
  set +e
  while read -r mount_point; do umount --lazy "$mount_point"; done < <(findmnt --raw --noheadings --output=TARGET | grep "^$work/")
  for pid in $(jobs -p); do # what a failed scenario left running, its servers excepted
    [[ " ${servers[*]} " == *" $pid "* ]] || kill -KILL "$pid" 2>/dev/null
  done
  rm --force "$attachments"/*.yaml
  if systemctl is-active --quiet "$daemon"; then
    reload
    left="the daemon still has attachments"
    # A writer that waits for a server that is gone can't even be killed.
    [[ ! -e $work/why ]] || for name in $(nbdattach status --json | jq --raw-output '.attachments[].name'); do
      timeout 30 nbdattach stop --force "$name"
    done
    for _ in {1..150}; do
      [[ $(nbdattach status --json | jq '.attachments | length') != 0 ]] || { left='' && break; }
      sleep 0.2
    done
  fi
  for ending in "${endings[@]}"; do eval "$ending"; done
  for label in "${!servers[@]}"; do kill_server "$label"; done
  if [[ -n ${left-} ]]; then
    [[ -e $work/why ]] || echo "cleaning up: $left" >"$work/why"
    return 1
  fi
}
