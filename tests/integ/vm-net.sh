#!/bin/bash
# DESCRIPTION: a guest's frames through TAPs in a network namespace, to and from the host's own IP stack
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"
rc=0 name=''

if [[ -z ${VM_NET_INSIDE:-} ]]; then
    [[ $EUID == 0 ]] || skip "a network namespace with TAPs needs root"
    [[ -w /dev/net/tun ]] || skip "/dev/net/tun cannot be opened"
    unshare -n true 2>/dev/null || skip "no network namespaces"
    VM_NET_INSIDE=1 exec unshare -n "$0"
fi

# host.py, the host's end: recv N LEN (datagrams with our pattern), echo N LEN PORTS, send N LEN
write_host() {
    cat >host.py <<'PY'
import socket, sys
what, n, length, ports = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int((sys.argv[4:] + ["1"])[0])
pattern = lambda i: bytes((i + j * 3) & 255 for j in range(length))
def sock(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.bind(("10.9.0.1", port))
    s.settimeout(8)
    return s
if what == "recv":
    s = sock(4000)
    print("bound", flush=True)
    for i in range(n):
        if s.recv(65536) != pattern(i):
            sys.exit(f"datagram {i} is not as sent")
elif what == "gso":   # segments of one large datagram
    s = sock(4000)
    print("bound", flush=True)
    got = b"".join(s.recv(65536) for i in range(n))
    if got != bytes(j * 3 & 255 for j in range(n * length)):
        sys.exit("segments are not as sent")
elif what == "echo":
    socks = [sock(5000 + p) for p in range(ports)]
    for i in range(n):
        s = socks[i % ports]
        s.sendto(pattern(i), ("10.9.0.2", 4001))
        if s.recv(65536) != pattern(i):
            sys.exit(f"echo {i} is not as sent")
elif what == "send":
    s = sock(4000)
    for i in range(n):
        s.sendto(pattern(i), ("10.9.0.2", 4001))
print("done")
PY
}

tap() { # NAME [multi_queue]
    ip tuntap add "$1" mode tap ${2:+"$2"}
    ip link set "$1" mtu 9000 up
    ip addr add 10.9.0.1/24 dev "$1"
}
untap() { ip link del "$1"; }

# from_guest WHAT N LEN WORDS [OPTION...]: host.py receives
from_guest() {
    local what=$1 n=$2 len=$3 h
    shift 3
    : >host.txt
    python3 host.py "$what" "$n" "$len" >host.txt 2>&1 &
    h=$!
    wait_for host.txt bound
    ok "$what $n $len" "$@"
    wait $h || bad "$what $n of $len bytes: $(cat host.txt)"
}

# to_guest WHAT N LEN PORTS WORDS [OPTION...]: host.py sends, once the guest is READY
to_guest() {
    local what=$1 n=$2 len=$3 ports=$4
    shift 4
    vm_bg "$@"
    wait_for "$name.out" READY
    timeout 20 python3 host.py "$what" "$n" "$len" "$ports" >host.txt 2>&1 || bad "$what $n of $len: $(cat host.txt)"
    vm_end 0 "$what $n of $len bytes"
    grep -q "END failures=0" "$name.out" || bad "$what $n of $len: $(grep FAIL "$name.out")"
}

test_frames() {
    tap t0
    ok "configuration" "net-mac=02aabbccddee net-feature=0 net-feature=15 net-feature=17" --net tap=t0,mac=02:aa:bb:cc:dd:ee
    from_guest recv 200 100 "net-send=200:100" --net tap=t0
    from_guest recv 50 8000 "net-send=50:8000" --net tap=t0
    from_guest recv 50 1000 "net-without=0 net-send=50:1000" --net tap=t0
    from_guest gso 30 1000 "net-feature=56 net-send=1:30000:1000" --net tap=t0
    to_guest echo 200 100 1 "net-echo=200" --net tap=t0
    grep -q "needs_csum=200" "$name.out" || bad "checksums are not left to the guest: $(grep ECHOED "$name.out")"
    to_guest echo 50 1000 1 "net-without=1 net-without=7 net-without=8 net-without=54 net-without=55 net-echo=50" --net tap=t0
    grep -q "needs_csum=0" "$name.out" || bad "checksums are left to a guest that did not ask"
    to_guest echo 50 8000 1 "net-echo=50" --net tap=t0
    grep -q "merged=50" "$name.out" || bad "mergeable buffers: $(grep ECHOED "$name.out")"
    untap t0
}

test_control() {
    tap t0
    ok "commands" "net-ctrl-bad net-promisc=0" --net tap=t0
    to_guest echo 20 100 1 "net-new-mac net-echo=20" --net tap=t0
    # To another station's address: nothing for a guest that does not listen to everything.
    vm_bg "net-promisc=0 net-quiet=500" --net tap=t0
    wait_for "$name.out" READY
    ip neigh replace 10.9.0.2 lladdr 02:00:00:00:99:99 dev t0
    python3 host.py send 5 100 >host.txt
    vm_end 0 "filter"
    grep -q "END failures=0" "$name.out" || bad "filter: $(cat "$name.out")"
    ip neigh del 10.9.0.2 dev t0
    untap t0
}

test_queues() {
    tap t1 multi_queue
    to_guest echo 100 100 16 "net=2 net-pairs=2 net-send=2:10 net-echo=100" --net tap=t1,queues=2
    grep -q "rx0=[1-9].* rx1=[1-9]" "$name.out" || bad "one queue gets everything: $(grep ECHOED "$name.out")"
    to_guest echo 50 100 8 "net-echo=50" --net tap=t1,queues=2
    from_guest recv 100 300 "net=2 net-pairs=2 net-send=100:300" --net tap=t1,queues=2
    untap t1
    ip tuntap add t2 mode tap
    vm "net=1" --net tap=t2,queues=2
    [[ $rc == 1 ]] && grep -q multi_queue err.txt || bad "two queues of a single-queue TAP: $(cat err.txt)"
    untap t2
}

test_reset() {
    tap t0
    truncate -s 1M n.raw
    # The TAP stays over a reset of the guest, and is let go of at the end.
    to_guest echo 20 100 1 "boots=0 net-send=1:10 first-boot=0 net-echo=20" -d n.raw --net tap=t0
    untap t0
    [[ ! -e /sys/class/net/t0 ]] || bad "the TAP stays"
}

vm_init python3 ip unshare
write_host
ip link set lo up
test_frames
test_control
test_queues
test_reset
vm_done
