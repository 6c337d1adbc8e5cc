#!/bin/bash
# DESCRIPTION: 2 vCPUs and memory above the 4 GiB hole; the ACPI power button ends the guest.
. "$(dirname "$0")/lib.sh"
requires_stock_kvm grub
disk=$(overlay grub s)
network taps 10.99.2

start s "$disk" -c 2 -m 3500M --net tap=taps
expect s 'login:' 500
answers 10.99.2.10 60
in_guest 10.99.2.10 'test "$(nproc)" = 2 && test "$(free -m | awk "/Mem:/{print \$2}")" -gt 3100' || fail "cpus or memory"
in_guest 10.99.2.10 lscpu >"$work/lscpu"
grep -q "Core(s) per socket: *2" "$work/lscpu" || fail "topology: $(cat "$work/lscpu")"
"$vmm" list --json >"$work/list" || fail "vmm list"
grep -q '"running"' "$work/list" || fail "vmm list: $(cat "$work/list")"
"$vmm" stop s --timeout 200 || fail "vmm stop"
ends s 5 0
disk_clean "$disk" 34
