#!/bin/bash
# DESCRIPTION: a stock Debian image boots with nothing named but the disk: DHCP, ping, ssh,
# fsynced writes, one reboot, power-off by itself; image and file system clean afterwards.
. "$(dirname "$0")/lib.sh"
requires_stock_kvm grub
disk=$(overlay grub a)
network tapa 10.99.1

start a "$disk" --net tap=tapa
expect a 'login:' 400
say "login prompt"
answers 10.99.1.10 60
in_guest 10.99.1.10 'test "$(nproc)" = 1 && grep -q " / ext4 rw" /proc/mounts' || fail "in the guest: cpus or root mount"
in_guest 10.99.1.10 'for i in 1 2 3 4 5; do dd if=/dev/urandom of=/root/f$i bs=64k count=16 conv=fsync status=none; done; cd /root && sha256sum f? > sums && sync' || fail "writing files"
say "files written; rebooting"
in_guest 10.99.1.10 'systemctl reboot' || true
expect a 'login:' 400 2
say "second login prompt"
answers 10.99.1.10 60
in_guest 10.99.1.10 'cd /root && sha256sum --quiet -c sums' || fail "files changed over the reboot"
in_guest 10.99.1.10 'systemctl poweroff' || true
ends a 200 0
say "powered off"
disk_clean "$disk" 34
