#!/bin/bash
# DESCRIPTION: the kernel found in a Debian image is unpacked on the host, at the first boot by a
# helper process, at the reboot out of the cache; KASLR stays on and moves the kernel.
. "$(dirname "$0")/lib.sh"
requires_stock_kvm grub
disk=$(overlay grub k)
network tapk 10.99.7
export XDG_CACHE_HOME=$work/cache
mkdir "$XDG_CACHE_HOME"

kernel_text() { in_guest 10.99.7.10 'grep -w _text /proc/kallsyms'; }

start k "$disk" --net tap=tapk -v
expect k 'login:' 400
answers 10.99.7.10 60
grep -q 'unpacked on the host (cache miss.*KASLR on' "$work/k.err" || fail "first boot: $(cat "$work/k.err")"
first=$(kernel_text) || fail "kallsyms"
entries=("$XDG_CACHE_HOME"/vmm/*)
[[ ${#entries[@]} == 1 && -s ${entries[0]} ]] || fail "cache: ${entries[*]}"
[[ $(stat -c %a "$XDG_CACHE_HOME/vmm") == 700 && $(stat -c %a "${entries[0]}") == 600 ]] || fail "cache: modes"
"$vmm" doctor | grep -q 'kernel cache.*1 kernels' || fail "doctor: $("$vmm" doctor)"
say "unpacked: $first"

in_guest 10.99.7.10 'systemctl reboot' || true
expect k 'login:' 400 2
answers 10.99.7.10 60
grep -q 'unpacked on the host (cache hit.*KASLR on' "$work/k.err" || fail "reboot: $(cat "$work/k.err")"
second=$(kernel_text) || fail "kallsyms"
[[ $first != "$second" && $second != ffffffff81000000* ]] || fail "the kernel did not move: $first, $second"
say "from the cache: $second"
in_guest 10.99.7.10 'systemctl poweroff' || true
ends k 200 0
grep 'unpacked on the host' "$work/k.err"
