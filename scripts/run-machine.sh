#!/bin/bash
# Host B: boot a stock Debian kernel with kvm_amd inside QEMU (pure emulation) and run
# tests/machine/*.sh (or those named) in it. One outer machine runs them all.
# usage: run-machine.sh BUILD_DIR [TEST.sh...]
#   HV_IMAGES   where images and the outer system are kept (default build/machine)
#   HV_TIMEOUT  seconds for the whole run (default 2400)
# Needs root once, to make the images (scripts/mk-guest.sh, mmdebstrap).
set -euo pipefail

build=$1
shift
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${HV_IMAGES:-$top/build/machine}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
build=$(cd "$build" && pwd)
tests=("$@")
[[ ${#tests[@]} -gt 0 ]] || tests=("$top"/tests/machine/*.sh)
outer_packages=bash,iproute2,iputils-ping,qemu-utils,e2fsprogs,openssh-client,udhcpd,socat,procps,libcap-ng0,libseccomp2,liburing2,libext2fs2,libjansson4,liblz4-1,liblzma5,libzstd1,zlib1g,kmod,linux-image-cloud-amd64
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { echo "run-machine: $*" >&2; }

# ---- the outer system, made once ------------------------------------------------------------
make_outer() {
    [[ -e $cache/outer.done ]] && return
    say "installing the outer system (about a minute)"
    rm -rf "$cache/outer"
    mmdebstrap --quiet --variant=minbase --include="$outer_packages" bookworm "$cache/outer" \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*'
    extract_kernel "$cache"/outer/boot/vmlinuz-* "$cache/vmlinux"
    rm -rf "$cache"/outer/boot/* "$cache/outer/var/cache/apt" "$cache/outer/var/lib/apt/lists"
    mkdir -p "$cache/outer"/{images,payload,work}
    touch "$cache/outer.done"
}

# The ELF inside a bzImage: QEMU starts it directly, without a minute of emulated unpacking.
extract_kernel() {
    local setup off len
    setup=$(od -An -tu1 -j $((0x1f1)) -N1 "$1" | tr -d ' ')
    off=$(od -An -tu4 -j $((0x248)) -N4 "$1" | tr -d ' ')
    len=$(od -An -tu4 -j $((0x24c)) -N4 "$1" | tr -d ' ')
    dd if="$1" of="$scratch/payload" bs=1M iflag=skip_bytes,count_bytes status=none \
        skip=$(((setup + 1) * 512 + off)) count="$len"
    case $(od -An -tx1 -N4 "$scratch/payload" | tr -d ' ') in
    02214c18) lz4 -dcq "$scratch/payload" >"$2" 2>/dev/null || true ;;
    fd377a58) xz -dcq --single-stream "$scratch/payload" >"$2" || true ;;
    28b52ffd) zstd -dcq "$scratch/payload" >"$2" || true ;;
    *) say "kernel payload of an unknown kind"; return 1 ;;
    esac
    [[ -s $2 ]]
}

# The images and the outer system as one read-only disk, made anew when an image is newer.
make_system_disk() {
    local disk=$cache/system.img i stale=
    for i in "$cache"/images/*.qcow2 "$cache/outer.done"; do
        [[ $i -nt $disk ]] && stale=1
    done
    [[ -z $stale ]] && return
    rm -rf "$cache"/outer/images/*
    ln "$cache"/images/*.qcow2 "$cache/images/id" "$cache/outer/images/"
    rm -f "$disk"
    mke2fs -q -t ext4 -F -O ^has_journal -d "$cache/outer" "$disk.new" 8G
    mv "$disk.new" "$disk"
}

make_initramfs() {
    local root=$scratch/l1 m
    local modules
    modules=$(echo "$cache"/outer/lib/modules/*)
    mkdir -p "$root"/{bin,dev,proc,sys,lib,new}
    cp /bin/busybox "$root/bin/"
    for m in sh mount insmod switch_root sleep; do ln -s busybox "$root/bin/$m"; done
    for m in virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-amd drivers/net/tun; do
        cp "$modules/kernel/$m.ko" "$root/lib/"
    done
    cat >"$root/init" <<'END'
#!/bin/sh
# The disk with serial number $1; controllers appear in any order, some time after boot.
nvme() {
    while :; do
        for c in /sys/class/nvme/nvme*; do
            read -r serial <$c/serial && [ "$serial" = "$1" ] && [ -b /dev/${c##*/}n1 ] &&
                echo /dev/${c##*/}n1 && return
        done
        sleep 0.2
    done
}
mount -t devtmpfs dev /dev
for m in irqbypass kvm kvm-amd tun; do insmod /lib/$m.ko; done
mount -t sysfs sys /sys
mount -t ext4 "$(nvme system)" /new
mount -t ext4 "$(nvme payload)" /new/payload
mount --move /dev /new/dev
exec switch_root /new /bin/bash /payload/host-init
END
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet | zstd -3 -q) >"$scratch/l1.zst"
}

# The programs and tests of this run, as a second disk.
make_payload() {
    local root=$scratch/payload.d t
    mkdir -p "$root/build/bin" "$root/tests"
    cp "$build/bin/vmm" "$root/build/bin/"
    [[ -d $build/tests/tools ]] && cp -r "$build/tests/tools" "$root/build/"
    cp -r "$top/scripts" "$root/"
    mkdir -p "$root/tests/machine"
    cp "$top"/tests/machine/lib* "$root/tests/machine/" 2>/dev/null || true
    for t in "${tests[@]}"; do cp "$t" "$root/tests/machine/"; done
    cp "$top/scripts/host-init.sh" "$root/host-init"
    mke2fs -q -t ext4 -F -O ^has_journal -d "$root" "$scratch/payload.img" 256M
}

run_outer() {
    timeout "${HV_TIMEOUT:-2400}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 6144 \
        -kernel "$cache/vmlinux" -initrd "$scratch/l1.zst" \
        -append 'console=ttyS0 panic=-1 quiet' -nodefaults -display none -serial stdio -no-reboot \
        -drive "if=none,id=s,file=$cache/system.img,format=raw,snapshot=on,cache=unsafe" \
        -device nvme,serial=system,drive=s \
        -drive "if=none,id=p,file=$scratch/payload.img,format=raw,cache=unsafe" \
        -device nvme,serial=payload,drive=p </dev/null | tee "$scratch/log" | sed -u 's/\r$//'
    # The outer machine's exit status says nothing about the tests: its last line does.
    grep -q '^machine: [0-9]* passed, 0 failed' "$scratch/log"
}

make_outer
[[ -e $cache/images/grub.qcow2 ]] || "$top/scripts/mk-guest.sh" "$cache/images" grub
make_system_disk
make_initramfs
make_payload
say "starting the emulated host: ${#tests[@]} tests"
run_outer
