#!/bin/bash
# First program of the emulated host (scripts/run-machine.sh): mounts, loopback, then the
# machine tests, then power-off. Everything goes to the serial console.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
ip link set lo up
hostname outer
cd /payload || exit
export HV_BUILD=/payload/build STREAM=1 JOBS=2 TEST_TIMEOUT=1200
scripts/run-tests.sh machine tests/machine/[a-z0-9]*-*.sh
sync
echo o >/proc/sysrq-trigger
sleep 60
