#!/bin/bash
# DESCRIPTION: what a guest finds: processors, memory, ACPI, SMBIOS, PCI, clock, interrupts, consoles
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"
out='' rc=0 name='' pid=''

test_cpus() {
    local n
    for n in 1 2 4 7; do
        ok "$n processors" "madt=$n cpuid=$n smp=$n smp-run" -c $n
    done
}

test_memory() {
    VM_MEMORY=32 ok "32 MiB" "memory=32M"
    VM_MEMORY=3G ok "3 GiB, all below the hole" "memory=3G pci"
    VM_MEMORY=3073 ok "1 MiB above 4 GiB" "memory=3073M"
    VM_MEMORY=5G ok "5 GiB" "memory=5G pci" -d d.raw
    grep -q "^RANGE 0x100000000 + 0x80000000 type 1" <<<"$out" || bad "5 GiB: $out"
    ok "bare number is MiB" "memory=64M"
}

test_tables() {
    local uuid
    ok "ACPI" "acpi ring0"
    grep -q "hw_reduced=1 sleep=0x600 reset=0x602/1 s5=5 ecam=0xe0000000" <<<"$out" || bad "ACPI: $out"
    ok "SMBIOS" "smbios" --name "t$$-same"
    uuid=$(grep SYSTEM <<<"$out")
    ok "SMBIOS, same name" "smbios" --name "t$$-same"
    [[ -n $uuid && $(grep SYSTEM <<<"$out") == "$uuid" ]] || bad "the UUID is not that of the name"
    ok "SMBIOS, other name" "smbios" --name "t$$-other"
    [[ $(grep -o "uuid.*" <<<"$out") != "${uuid#*uuid}" ]] || bad "two VMs have one UUID"
    ok "PCI" "pci" -d d.raw -d d2.raw
    [[ $(grep -c 1af4:1042 <<<"$out") == 2 ]] || bad "two disks: $out"
}

test_clock() {
    local now t
    ok "clock" "rtc rtc-set rtc"
    t=$(sed -n 's/^RTC //p' <<<"$out" | head -1)
    now=$(date -u +%s)
    t=$(date -u -d "$t" +%s) || bad "clock says $out"
    ((t >= now - 10 && t <= now + 1)) || bad "clock is $((t - now)) s off"
}

test_interrupts() {
    ok "MSI-X" "msix msix-many=200 irq-serial"
    ok "MSI-X, two processors" "smp=2 msix msix-many=50" -c 2
    vm_bg "irq-button=20"
    wait_for "$name.out" READY
    kill -TERM "$pid"
    vm_end 0 "button by interrupt"
    grep -q "irq-button=20: ok" "$name.out" || bad "button by interrupt: $(cat "$name.out")"
}

# type_in TEXT WORDS: start a guest, give it TEXT once it is READY; its output is in o.txt.
type_in() {
    : >o.txt
    cases=$((cases + 1))
    (wait_for o.txt READY && printf %s "$1") | timeout 20 "$VMM" run -q --name "t$$-$cases" -m 64 \
        -k "$GUEST" -a "$2" >o.txt 2>&1
}

test_consoles() {
    local text=abcdefghijklmnopqrstuvwxyz long
    ok "serial" "serial-loop"
    type_in $text "serial-echo=26"
    grep -q "GOT \[$text\]" o.txt || bad "serial input: $(cat o.txt)"
    long=$(head -c 3000 /dev/zero | tr '\0' z)
    type_in "$long" "serial-echo=3000" # much more than the UART's FIFO
    grep -q "GOT \[$long\]" o.txt || bad "3000 bytes of input: $(tail -c 300 o.txt)"
    ok "entropy" "rng rng"
    ok "virtio-console" "hvc-say=over-virtio"
    grep -q "^over-virtio" <<<"$out" || bad "virtio-console: $out"
    type_in $text "console=ttyS0 console=hvc0 hvc-echo=26"
    grep -q "GOT \[$text\]" o.txt || bad "virtio-console input: $(cat o.txt)"
    vm "say=to-a-file" --console file=con.txt
    [[ $rc == 0 && -z $out ]] && grep -q "SAY to-a-file" con.txt || bad "--console file"
    vm_bg "flood=100 sleep=700" --console unix=con.sock
    wait_for_path con.sock
    timeout 10 socat -u UNIX-CONNECT:con.sock - >o.txt 2>/dev/null
    vm_end 0 "--console unix"
    grep -q "line 99 of 100" o.txt || bad "--console unix: $(tail -2 o.txt)"
    ok "much output" "flood=1000"
    [[ $(grep -c "^line " <<<"$out") == 1000 ]] || bad "lines are lost"
}

wait_for_path() {
    local i
    for ((i = 0; i < 200; i++)); do [[ -e $1 ]] && return; sleep 0.02; done
    bad "no $1"
}

vm_init socat
truncate -s 1M d.raw d2.raw
test_cpus
test_memory
test_tables
test_clock
test_interrupts
test_consoles
vm_done
