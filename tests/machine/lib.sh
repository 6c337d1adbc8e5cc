# Shared by the machine tests: start a VM, talk to its console and its network, check its disk.
# Sourced. Everything a test starts is ended by its EXIT trap.
# shellcheck shell=bash
set -u
vmm=${HV_BUILD:?}/bin/vmm
images=${HV_IMAGES_DIR:-/images}
work=$(mktemp -d "${HV_WORK:-/work}/t.XXXXXX")
declare -A vm_pid
taps=()
dhcpd_pid=

skip() {
    echo "skip: $*"
    exit 77
}
fail() {
    echo "FAIL: $*"
    for f in "$work"/*.console "$work"/*.err; do
        [[ -s $f ]] && { echo "--- $(basename "$f") (end)"; tail -n 40 "$f" | tr -d '\r'; }
    done
    exit 1
}

cleanup() {
    local n t
    for n in "${!vm_pid[@]}"; do
        kill -KILL "${vm_pid[$n]}" 2>/dev/null
        wait "${vm_pid[$n]}" 2>/dev/null
    done
    [[ -n $dhcpd_pid ]] && kill "$dhcpd_pid" 2>/dev/null
    for t in "${taps[@]}"; do ip link del "$t" 2>/dev/null; done
    rm -rf "$work"
    rm -f "$images"/overlay-"$$"-*.qcow2
}
trap cleanup EXIT

# A host on which a stock kernel starts: the emulated one, or a user's own with VT-x or SVM.
requires_stock_kvm() {
    [[ -w /dev/kvm ]] || skip "/dev/kvm cannot be opened"
    grep -qwE 'vmx|svm' /proc/cpuinfo || skip "no hardware virtualization: a stock kernel does not start here"
    [[ -e $images/$1.qcow2 ]] || skip "no image $images/$1.qcow2 (scripts/mk-guest.sh)"
}

# overlay LAYOUT NAME: prints the path of a fresh overlay beside its base image
overlay() {
    local o=$images/overlay-$$-$2.qcow2
    qemu-img create -q -f qcow2 -b "$images/$1.qcow2" -F qcow2 "$o" || fail "qemu-img create"
    echo "$o"
}

# start NAME ARGS...: vmm run in the background; console to NAME.console, messages to NAME.err
start() {
    local n=$1 fd
    shift
    mkfifo "$work/$n.in"
    "$vmm" run --name "$n" "$@" <"$work/$n.in" >"$work/$n.console" 2>"$work/$n.err" &
    vm_pid[$n]=$!
    # shellcheck disable=SC2034
    exec {fd}>"$work/$n.in" # keeps the VM's stdin open
}

# expect NAME REGEX SECONDS [COUNT]: wait until the console shows it (COUNT times)
expect() {
    local deadline=$((SECONDS + $3)) want=${4:-1}
    while (($(grep -acE "$2" "$work/$1.console") < want)); do
        ((SECONDS < deadline)) || fail "$1: no '$2' on the console within $3 s"
        kill -0 "${vm_pid[$1]}" 2>/dev/null || fail "$1: vmm ended while waiting for '$2'"
        sleep 0.5
    done
}

# ends NAME SECONDS STATUS: the VM's process ends within that time with that exit status
ends() {
    local deadline=$((SECONDS + $2)) rc
    while kill -0 "${vm_pid[$1]}" 2>/dev/null; do
        ((SECONDS < deadline)) || fail "$1: still running after $2 s"
        sleep 0.2
    done
    wait "${vm_pid[$1]}"
    rc=$?
    unset "vm_pid[$1]"
    [[ $rc == "$3" ]] || fail "$1: exit status $rc, expected $3: $(cat "$work/$1.err")"
    [[ ! -e /run/vmm/$1 ]] || fail "$1: left /run/vmm/$1 behind"
}

# network TAP SUBNET: a TAP with a DHCP server on it; .1 is ours, the guest gets .10
network() {
    ip tuntap add "$1" mode tap vnet_hdr || fail "making TAP $1"
    taps+=("$1")
    ip addr add "$2.1/24" dev "$1"
    ip link set "$1" up
    cat >"$work/udhcpd.conf" <<END
start $2.10
end $2.10
interface $1
pidfile $work/udhcpd.pid
lease_file $work/leases
option subnet 255.255.255.0
option router $2.1
END
    : >"$work/leases"
    udhcpd -f "$work/udhcpd.conf" >"$work/udhcpd.log" 2>&1 &
    dhcpd_pid=$!
}

# in_guest ADDRESS COMMAND...: by ssh as root, with the images' key
in_guest() {
    [[ -e $work/id ]] || install -m 600 "$images/id" "$work/id"
    in_guest_as root "$@"
}

# in_guest_as USER ADDRESS COMMAND...: with the key in $work/id
in_guest_as() {
    local to=$1@$2
    shift 2
    ssh -i "$work/id" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o BatchMode=yes -o ConnectTimeout=60 "$to" "$@" </dev/null
}

# answers ADDRESS SECONDS: it answers a ping
answers() {
    local deadline=$((SECONDS + $2))
    until ping -q -c 1 -W 2 "$1" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "$1 does not answer a ping within $2 s"
        sleep 1
    done
}

# disk_clean IMAGE OFFSET_MIB: qcow2 and the ext4 at that offset are consistent
disk_clean() {
    qemu-img check "$1" >"$work/check" 2>&1 || fail "qemu-img check: $(cat "$work/check")"
    qemu-img convert -O raw "$1" "$work/raw"
    e2fsck -fn "$work/raw?offset=$(($2 * 1024 * 1024))" >"$work/fsck" 2>&1 || fail "e2fsck: $(cat "$work/fsck")"
    rm -f "$work/raw"
}

say() { echo "$(date +%T) $*"; }
