#!/bin/bash
# DESCRIPTION: 200 starts in a row and 10 at once: as many processes, descriptors and files after as before
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"
name='' pid=''

# What a leak would show in: our processes, /run/vmm, memory files, TAPs.
census() {
    echo "processes $(pgrep -c -f -- "--name t$$-")"
    echo "runtime $(find "$RUNTIME" -maxdepth 1 -name "t$$-*" 2>/dev/null | wc -l)"
    echo "temporary $(find "$dir" /var/tmp -newer start -name '*vmm*' 2>/dev/null | wc -l)"
    echo "taps $(grep -c "t$$" /proc/net/dev)"
}

test_row() { # N
    local i
    qemu-img create -q -f qcow2 s.qcow2 16M
    for ((i = 0; i < $1; i++)); do
        vm "W=0:4K:1" -d s.qcow2
        [[ $rc == 0 && ! -s err.txt ]] || { bad "start $i: exit $rc: $(cat err.txt)"; return; }
    done
    qemu-img check -q s.qcow2 || bad "image after $1 starts"
}

test_at_once() { # N: on overlays of one base
    local i pids=() names=()
    qemu-img create -q -f qcow2 base.qcow2 16M
    qemu-io -f qcow2 -c "write -P 3 0 8M" base.qcow2 >/dev/null
    for ((i = 0; i < $1; i++)); do
        qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 o$i.qcow2
        vm_bg "r=0:8M:3 W=0:4M:$i R=0:4M:$i r=4M:4M:3 flush" -d o$i.qcow2
        pids+=("$pid") names+=("$name")
    done
    for ((i = 0; i < $1; i++)); do
        wait "${pids[i]}" || bad "VM $i of $1 at once: exit $?"
        grep -q "END failures=0" "${names[i]}.out" || bad "VM $i of $1: $(grep FAIL "${names[i]}.out")"
        qemu-img check -q o$i.qcow2 || bad "overlay $i"
    done
}

vm_init qemu-img qemu-io pgrep
touch start
before=$(census)
test_row "${VM_STORM:-200}"
test_at_once 10
[[ $(census) == "$before" ]] || bad "before and after: $before | $(census)"
vm_done
