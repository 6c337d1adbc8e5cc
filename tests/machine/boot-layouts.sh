#!/bin/bash
# DESCRIPTION: separate /boot with BLS entries, LVM root, extlinux: each is found and boots.
. "$(dirname "$0")/lib.sh"
for l in boot-bls lvm extlinux; do requires_stock_kvm $l; done

n=0
for l in boot-bls lvm extlinux; do
    n=$((n + 1))
    disk=$(overlay $l $l)
    "$vmm" boot-entries "$disk" || fail "boot-entries of $l"
    start "v$n" "$disk"
    expect "v$n" 'login:' 500
    say "$l: login prompt"
    "$vmm" stop "v$n" --timeout 200 || fail "$l: vmm stop"
    ends "v$n" 5 0
done
