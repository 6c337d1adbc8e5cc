#!/bin/bash
# DESCRIPTION: vmm run disk.qcow2 until the login prompt, shown as it comes; clean power-off.
. "$(dirname "$0")/lib.sh"
requires_stock_kvm grub
disk=$(overlay grub demo)

echo "\$ vmm run disk.qcow2"
start demo "$disk"
tail -f "$work/demo.console" &
tail_pid=$!
trap 'kill $tail_pid 2>/dev/null; cleanup' EXIT
expect demo 'login:' 600
sleep 1
echo
echo "\$ vmm stop demo"
"$vmm" stop demo --timeout 300 || fail "vmm stop"
ends demo 5 0
echo
echo "demo: reached the login prompt and powered off cleanly"
