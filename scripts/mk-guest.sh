#!/bin/bash
# Make Debian 12 disk images with their own kernel and boot loader.
# usage: mk-guest.sh DIR [LAYOUT...]     LAYOUT: grub boot-bls lvm extlinux cloud  (default: grub)
#   grub      GPT, BIOS boot partition, ESP, ext4 root; GRUB installed and configured by Debian
#   boot-bls  GPT, separate ext4 /boot with BLS entries and a grub.cfg that calls blscfg, ext4 root
#   lvm       MBR, ext4 /boot with grub.cfg, LVM2 volume group with the ext4 root
#   extlinux  MBR with one ext4, extlinux.conf
#   cloud     as extlinux, with cloud-init, and neither password nor key of its own
# Writes DIR/LAYOUT.qcow2, DIR/id (ssh key of root) and DIR/root (the tree all are made of).
# Needs root (chroot, loop devices), mmdebstrap, e2fsprogs, gdisk, fdisk, dosfstools, lvm2, qemu-utils.
set -euo pipefail

dir=$1
shift
layouts=("$@")
[[ ${#layouts[@]} -gt 0 ]] || layouts=(grub)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
suite=bookworm
packages=systemd-sysv,udev,dbus,linux-image-cloud-amd64,initramfs-tools,iproute2,iputils-ping,isc-dhcp-client,ifupdown,openssh-server,lvm2,grub-pc-bin,grub2-common
serial='console=tty0 console=ttyS0,115200'
loop=
mnt=

cleanup() {
    [[ -n $mnt ]] && mountpoint -q "$mnt" && umount -R "$mnt"
    [[ -n $mnt ]] && rmdir "$mnt"
    [[ -n $loop ]] && { partx -d "$loop" 2>/dev/null || true; losetup -d "$loop"; }
    return 0
}
trap cleanup EXIT

say() { echo "mk-guest: $*" >&2; }

new_uuid() { cat /proc/sys/kernel/random/uuid; }

# ---- the tree ---------------------------------------------------------------------------------
# install_tree NAME PACKAGES: a Debian system in DIR/NAME
install_tree() {
    say "installing Debian $suite into $dir/$1 (about a minute)"
    rm -rf "${dir:?}/$1"
    mmdebstrap --quiet --variant=minbase --include="$2" "$suite" "$dir/$1" \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*'
    [[ -e $dir/id ]] || ssh-keygen -q -t ed25519 -N '' -C test -f "$dir/id"
    configure_tree "$dir/$1"
}

make_tree() {
    [[ -e $dir/root.done ]] && return
    install_tree root "$packages"
    install -d -m 700 "$dir/root/root/.ssh"
    install -m 600 "$dir/id.pub" "$dir/root/root/.ssh/authorized_keys"
    chroot "$dir/root" passwd -q -d root
    printf 'allow-hotplug enp0s2\niface enp0s2 inet dhcp\nallow-hotplug enp0s3\niface enp0s3 inet dhcp\n' \
        >>"$dir/root/etc/network/interfaces"
    touch "$dir/root.done"
}

configure_tree() {
    local r=$1
    echo guest >"$r/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 guest\n' >"$r/etc/hosts"
    printf 'source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n' \
        >"$r/etc/network/interfaces"
    # What only costs time in a test guest.
    chroot "$r" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
        e2scrub_reap.service fstrim.timer dpkg-db-backup.timer systemd-networkd-wait-online.service
    rm -rf "$r/var/cache/apt" "$r/var/lib/apt/lists"
    mkdir -p "$r/var/cache/apt/archives/partial" "$r/var/lib/apt/lists/partial"
}

kernel_version() { basename "$dir"/root/boot/vmlinuz-* | sed s/vmlinuz-//; }

# ---- pieces -----------------------------------------------------------------------------------
new_disk() { rm -f "$1"; truncate -s "$2" "$1"; }

attach() {
    loop=$(losetup --show -f "$1")
    partx -a "$loop"
}

detach() {
    partx -d "$loop"
    losetup -d "$loop"
    loop=
}

# fs_into IMAGE OFFSET_MIB SIZE_MIB TREE UUID: ext4 of TREE at that place of IMAGE, nothing mounted
fs_into() {
    mke2fs -q -t ext4 -F -U "$5" -d "$4" -E "offset=$(($2 * 1024 * 1024))" "$1" "$3M"
}

fstab() { printf '%s / ext4 errors=remount-ro 0 1\n' "$1" >"$dir/root/etc/fstab"; }

finish() {
    qemu-img convert -f raw -O qcow2 "$1" "$dir/$2.qcow2.new"
    mv "$dir/$2.qcow2.new" "$dir/$2.qcow2"
    rm -f "$1"
    say "$dir/$2.qcow2"
}

# A tree without /boot's content, and /boot alone: hard links, so they cost nothing.
split_boot() {
    rm -rf "$dir/split"
    mkdir -p "$dir/split"
    cp -al "$dir/root" "$dir/split/root"
    mv "$dir/split/root/boot" "$dir/split/boot"
    mkdir "$dir/split/root/boot"
}

# ---- layouts ----------------------------------------------------------------------------------
layout_grub() {
    local img=$dir/grub.raw uuid
    uuid=$(new_uuid)
    new_disk "$img" 1536M
    fstab "UUID=$uuid"
    fs_into "$img" 34 1500 "$dir/root" "$uuid"
    sgdisk -n1:2048:+1M -t1:ef02 -n2:0:+32M -t2:ef00 -n3:0:0 -t3:8304 "$img" >/dev/null
    attach "$img"
    mkfs.vfat -n ESP "${loop}p2" >/dev/null
    mnt=$(mktemp -d)
    mount "${loop}p3" "$mnt"
    mount --bind /dev "$mnt/dev"
    mount -t proc proc "$mnt/proc"
    mount -t sysfs sys "$mnt/sys"
    printf 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="%s"\nGRUB_TERMINAL=serial\n' \
        "$serial" >"$mnt/etc/default/grub"
    chroot "$mnt" grub-install --target=i386-pc "$loop" 2>/dev/null
    chroot "$mnt" grub-mkconfig -o /boot/grub/grub.cfg 2>/dev/null
    # grub-mkconfig names the loop device; the guest will have another one.
    sed -i "s#root=${loop}p3#root=UUID=$uuid#" "$mnt/boot/grub/grub.cfg"
    umount -R "$mnt"
    rmdir "$mnt"
    mnt=
    detach
    finish "$img" grub
}

layout_boot_bls() {
    local img=$dir/boot-bls.raw root boot v
    root=$(new_uuid) boot=$(new_uuid) v=$(kernel_version)
    fstab "UUID=$root"
    echo "UUID=$boot /boot ext4 defaults 0 2" >>"$dir/root/etc/fstab"
    split_boot
    mkdir -p "$dir/split/boot/loader/entries" "$dir/split/boot/grub"
    cat >"$dir/split/boot/loader/entries/0123456789abcdef0123456789abcdef-$v.conf" <<END
title Debian GNU/Linux 12 ($v)
version $v
linux /vmlinuz-$v
initrd /initrd.img-$v
options \$kernelopts
grub_users \$grub_users
grub_class kernel
END
    printf 'set timeout=1\nload_env\nset default="${saved_entry}"\ninsmod blscfg\nblscfg\n' \
        >"$dir/split/boot/grub/grub.cfg"
    {
        printf '# GRUB Environment Block\nsaved_entry=0123456789abcdef0123456789abcdef-%s\nkernelopts=root=UUID=%s ro quiet %s\n' \
            "$v" "$root" "$serial"
        printf '#%.0s' {1..1024}
    } | head -c 1024 >"$dir/split/boot/grub/grubenv"
    new_disk "$img" 1664M
    fs_into "$img" 1 128 "$dir/split/boot" "$boot"
    fs_into "$img" 129 1500 "$dir/split/root" "$root"
    sgdisk -n1:2048:+128M -t1:8300 -n2:0:0 -t2:8304 "$img" >/dev/null
    finish "$img" boot-bls
}

layout_lvm() {
    local img=$dir/lvm.raw boot v vg=guestvg
    boot=$(new_uuid) v=$(kernel_version)
    fstab "/dev/mapper/$vg-root"
    echo "UUID=$boot /boot ext4 defaults 0 2" >>"$dir/root/etc/fstab"
    split_boot
    mkdir -p "$dir/split/boot/grub"
    cat >"$dir/split/boot/grub/grub.cfg" <<END
set default=0
menuentry 'Debian GNU/Linux' --class debian {
    search --no-floppy --fs-uuid --set=root $boot
    linux /vmlinuz-$v root=/dev/mapper/$vg-root ro quiet $serial
    initrd /initrd.img-$v
}
END
    new_disk "$img" 1792M
    fs_into "$img" 1 128 "$dir/split/boot" "$boot"
    printf 'label: dos\nstart=2048, size=262144, type=83, bootable\nstart=264192, type=8e\n' |
        sfdisk -q "$img" >/dev/null
    mke2fs -q -t ext4 -F -d "$dir/split/root" "$dir/lvm.root" 1500M
    lvm_into "$img" $((129 * 2048)) "$dir/lvm.root" "$vg"
    rm -f "$dir/lvm.root"
    finish "$img" lvm
}

# lvcreate needs device-mapper, which a machine may lack. vgcfgrestore does not: the volume is
# added to the group's own description, its content copied to where that puts it.
lvm_into() {
    local img=$1 sector=$2 fs=$3 vg=$4 start
    loop=$(losetup --show -f -o $((sector * 512)) "$img")
    lvm_quiet pvcreate -ffy "$loop"
    lvm_quiet vgcreate -s 4M "$vg" "$loop"
    lvm_quiet vgcfgbackup -f "$dir/lvm.cfg" "$vg"
    lvm_add_volume "$dir/lvm.cfg" root 376
    lvm_quiet vgcfgrestore -f "$dir/lvm.cfg" "$vg"
    start=$(lvm_quiet pvs --noheadings --nosuffix --units b -o pe_start "$loop" | tr -d ' ')
    dd if="$fs" of="$loop" bs=1M oflag=seek_bytes seek="$start" conv=notrunc,sparse status=none
    losetup -d "$loop"
    loop=
    rm -f "$dir/lvm.cfg"
}

# lvm_add_volume FILE NAME EXTENTS: one linear volume from extent 0 on
lvm_add_volume() {
    awk -v name="$2" -v n="$3" '
        { lines[++c] = $0 }
        END {
            for (last = c; lines[last] !~ /^}/; last--);
            for (i = 1; i < last; i++) print lines[i]
            printf "logical_volumes {\n%s {\nid = \"aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg\"\n", name
            print "status = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\nsegment_count = 1"
            printf "segment1 {\nstart_extent = 0\nextent_count = %d\ntype = \"striped\"\n", n
            print "stripe_count = 1\nstripes = [\n\"pv0\", 0\n]\n}\n}\n}"
            for (i = last; i <= c; i++) print lines[i]
        }' "$1" >"$1.new"
    mv "$1.new" "$1"
}

lvm_quiet() {
    local sub=$1
    shift
    "$sub" --config "devices { filter=[\"a|$loop|\",\"r|.*|\"] scan=[\"/dev\"] use_devicesfile=0 } global { locking_type=0 use_lvmpolld=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 }" \
        "$@" 2>/dev/null
}

# extlinux_conf TREE ROOT_UUID KERNEL_VERSION
extlinux_conf() {
    mkdir -p "$1/boot/extlinux"
    cat >"$1/boot/extlinux/extlinux.conf" <<END
DEFAULT debian
TIMEOUT 10
LABEL debian
    MENU LABEL Debian GNU/Linux 12
    LINUX /boot/vmlinuz-$3
    INITRD /boot/initrd.img-$3
    APPEND root=UUID=$2 ro quiet $serial
END
}

layout_extlinux() {
    local img=$dir/extlinux.raw root v
    root=$(new_uuid) v=$(kernel_version)
    fstab "UUID=$root"
    rm -rf "$dir/split"
    cp -al "$dir/root" "$dir/split"
    extlinux_conf "$dir/split" "$root" "$v"
    new_disk "$img" 1536M
    fs_into "$img" 1 1500 "$dir/split" "$root"
    printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$img" >/dev/null
    finish "$img" extlinux
}

layout_cloud() {
    local img=$dir/cloud.raw root v
    root=$(new_uuid)
    install_tree cloud-root "$packages,cloud-init,sudo"
    v=$(basename "$dir"/cloud-root/boot/vmlinuz-* | sed s/vmlinuz-//)
    printf 'UUID=%s / ext4 errors=remount-ro 0 1\n' "$root" >"$dir/cloud-root/etc/fstab"
    rm -f "$dir"/cloud-root/etc/ssh/ssh_host_*
    extlinux_conf "$dir/cloud-root" "$root" "$v"
    new_disk "$img" 1536M
    fs_into "$img" 1 1500 "$dir/cloud-root" "$root"
    printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$img" >/dev/null
    rm -rf "$dir/cloud-root"
    finish "$img" cloud
}

make_tree
for l in "${layouts[@]}"; do
    [[ -e $dir/$l.qcow2 ]] && continue
    say "image '$l'"
    "layout_${l//-/_}"
    rm -rf "$dir/split"
done
