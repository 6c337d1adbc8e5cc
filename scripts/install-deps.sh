#!/bin/bash
# Install Debian 12 packages. usage: install-deps.sh build|test
#   build   what compiling needs
#   test    that, and what the images, the emulated host and the tests need
set -euo pipefail
build=(gcc make pkg-config libc6-dev libext2fs-dev libcap-ng-dev libseccomp-dev liburing-dev
    zlib1g-dev libzstd-dev liblz4-dev liblzma-dev libjansson-dev)
image=(mmdebstrap e2fsprogs gdisk fdisk dosfstools lvm2 qemu-utils openssh-client util-linux
    busybox-static cpio zstd lz4 xz-utils qemu-system-x86 mount kmod)
test=(libcmocka-dev clang libclang-rt-14-dev clang-format clang-tidy mtools xfsprogs btrfs-progs iproute2
    universal-ctags mandoc shellcheck python3 acpica-tools strace socat procps iputils-ping tcpdump)
case ${1:-} in
build) want=("${build[@]}") ;;
demo) want=("${build[@]}" "${image[@]}") ;;
test) want=("${build[@]}" "${image[@]}" "${test[@]}") ;;
*) echo "usage: install-deps.sh build|demo|test" >&2; exit 2 ;;
esac
missing=()
for p in "${want[@]}"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[[ ${#missing[@]} == 0 ]] && exit 0
sudo=
[[ $(id -u) == 0 ]] || sudo=sudo
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q >/dev/null
$sudo apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
