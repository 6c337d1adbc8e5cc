#!/bin/bash
# shellcheck disable=SC2034 # read by people
DESCRIPTION="QEMU's programs and lib/block keep each other from writing one image"
set -u
T=${HV_BUILD:?}/tests/tools/blktool
dir='' holder=''
cleanup() { [[ -z $holder ]] || kill "$holder" 2>/dev/null; [[ -z $dir ]] || rm -rf "$dir"; }
trap cleanup EXIT
requires() {
    for t in qemu-img qemu-io; do
        command -v "$t" >/dev/null || { echo "skip: $t is not installed"; exit 77; }
    done
}
fail=0
bad() { echo "FAIL: $*"; fail=1; }

hold() { # start a holder; it lets go when its stdin closes
    local line
    coproc HOLD { "$@"; }
    holder=$HOLD_PID
    read -r line <&"${HOLD[0]}"
    [[ $line == held* || $line == qemu* ]] || bad "holder said '$line'"
}
let_go() { eval "exec ${HOLD[1]}>&-"; wait "$holder" 2>/dev/null; holder=; }

test_all() {
    qemu-img create -q -f qcow2 base.qcow2 4M
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 w.qcow2
    hold "$T" hold w.qcow2
    qemu-io -c "write 0 4k" w.qcow2 >/dev/null 2>&1 && bad "qemu-io writes what we write"
    qemu-img info w.qcow2 >/dev/null 2>&1 && bad "qemu-img info reads what we write"
    qemu-io -c "write 0 4k" base.qcow2 >/dev/null 2>&1 && bad "qemu-io writes our backing file"
    qemu-img info base.qcow2 >/dev/null 2>&1 || bad "nobody may read our backing file"
    "$T" pattern w.qcow2 0 512 1 2>err.txt && bad "two of us write one image"
    grep -q "in use by another program" err.txt || bad "message: $(cat err.txt)"
    "$T" info w.qcow2 2>/dev/null && bad "one of us reads what another writes"
    let_go
    qemu-io -c "write 0 4k" w.qcow2 >/dev/null 2>&1 || bad "the lock outlives its holder"

    hold "$T" -r hold w.qcow2
    "$T" info w.qcow2 >/dev/null || bad "two readers"
    qemu-img info w.qcow2 >/dev/null 2>&1 || bad "QEMU and we as readers"
    qemu-io -c "write 0 4k" w.qcow2 >/dev/null 2>&1 && bad "qemu-io writes what we read"
    let_go

    mkfifo cmds
    qemu-io w.qcow2 <cmds >qio.txt 2>&1 &
    holder=$!
    exec 9>cmds
    echo "write 0 4k" >&9
    for _ in $(seq 50); do grep -q wrote qio.txt && break; sleep 0.1; done
    "$T" pattern w.qcow2 0 512 1 2>/dev/null && bad "we write what qemu-io writes"
    "$T" info w.qcow2 2>/dev/null && bad "we read what qemu-io writes"
    "$T" pattern base.qcow2 0 512 1 2>/dev/null && bad "we write qemu-io's backing file"
    "$T" info base.qcow2 >/dev/null || bad "we may not read qemu-io's backing file"
    exec 9>&-
    wait "$holder"
    holder=
}

requires
dir=$(mktemp -d)
cd "$dir" || exit 1
test_all
exit $fail
