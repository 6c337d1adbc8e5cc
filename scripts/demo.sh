#!/bin/bash
# `make demo`: make a small Debian disk image with its own kernel and boot loader, run
# `vmm run` on it until the login prompt, then power it off cleanly. Where /dev/kvm cannot
# start a stock kernel, the same happens inside the emulated host.
# usage: demo.sh BUILD_DIR
set -euo pipefail
build=$1
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${HV_IMAGES:-$top/build/machine}
mkdir -p "$cache"
[[ -e $cache/images/grub.qcow2 ]] || "$top/scripts/mk-guest.sh" "$cache/images" grub

if [[ -w /dev/kvm ]] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
    HV_BUILD=$build HV_IMAGES_DIR=$cache/images HV_WORK=/tmp exec "$top/tests/machine/demo-login.sh"
fi
if [[ -e /dev/kvm ]]; then why='/dev/kvm here cannot start a stock kernel'; else why='no /dev/kvm here'; fi
echo "demo: $why: the same inside an emulated host (a few minutes)"
HV_IMAGES=$cache exec "$top/scripts/run-machine.sh" "$build" "$top/tests/machine/demo-login.sh"
