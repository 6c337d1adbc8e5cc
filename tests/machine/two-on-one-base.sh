#!/bin/bash
# DESCRIPTION: two VMs at once on overlays of one base image; the base stays as it was; a
# second VM on a disk in use is refused and told who has it.
. "$(dirname "$0")/lib.sh"
requires_stock_kvm grub
one=$(overlay grub one)
two=$(overlay grub two)
before=$(sha256sum <"$images/grub.qcow2")

start one "$one"
start two "$two"
sleep 2
"$vmm" run "$one" </dev/null 2>"$work/second.err" && fail "a second VM took a disk in use"
grep -q "in use by the VM 'one' (pid" "$work/second.err" || fail "wrong error: $(cat "$work/second.err")"
expect one 'login:' 700
expect two 'login:' 700
"$vmm" stop one --timeout 200 || fail "stop one"
"$vmm" stop two --timeout 200 || fail "stop two"
ends one 5 0
ends two 5 0
[[ $(sha256sum <"$images/grub.qcow2") == "$before" ]] || fail "the base image changed"
disk_clean "$one" 34
