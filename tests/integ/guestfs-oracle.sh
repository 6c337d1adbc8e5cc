#!/bin/bash
# DESCRIPTION: what lib/guestfs reads out of disks made by mke2fs, mkfs.vfat, mkfs.xfs, sgdisk and LVM2
# equals what was put in; boot discovery over whole-disk layouts; a replayed journal equals e2fsck's.
# The parts that need root (loop devices) are skipped one by one where there is none.
set -u
tool=${HV_BUILD:-build/release}/tests/tools/gfstool
for t in mke2fs debugfs e2fsck sgdisk mkfs.vfat mcopy mmd mkfs.xfs python3; do
    PATH=$PATH:/sbin:/usr/sbin command -v "$t" >/dev/null || { echo "skip: $t is missing"; exit 77; }
done
PATH=$PATH:/sbin:/usr/sbin
[[ -x $tool ]] || { echo "skip: $tool is not built"; exit 77; }
tool=$(realpath "$tool")
tmp=$(mktemp -d)
loops=()
cleanup() {
    mountpoint -q "$tmp/mnt" && umount "$tmp/mnt"
    for l in "${loops[@]}"; do losetup -d "$l" 2>/dev/null; done
    rm -rf "$tmp"
}
trap cleanup EXIT
cd "$tmp" || exit 1
bad=0
fail() { echo "FAIL $*"; bad=1; }
ok() { echo "ok $*"; }
export MTOOLS_SKIP_CHECK=1

# What a directory holds, in gfstool's "tree" form.
tree_of() {
    python3 - "$1" <<'PY'
import os, stat, sys, zlib
top = sys.argv[1]
for d, ds, fs in os.walk(top):
    for n in ds + fs:
        p = os.path.join(d, n); s = os.lstat(p)
        k = 'd' if stat.S_ISDIR(s.st_mode) else 'l' if stat.S_ISLNK(s.st_mode) else 'f' if stat.S_ISREG(s.st_mode) else 's'
        crc = zlib.crc32(open(p, 'rb').read()) if k == 'f' else 0
        print(k, s.st_size if k == 'f' else 0, '%08x' % crc, p[len(top):], os.readlink(p) if k == 'l' else '')
PY
}
# same NAME DIR N IMAGE...: file system N of the images holds exactly what DIR does
same() {
    local name=$1 dir=$2 n=$3
    shift 3
    tree_of "$dir" | sort >want
    "$tool" tree "$n" / "$@" | grep -v ' /lost+found ' | sort >got
    if diff want got >delta.txt; then ok "$name: $(wc -l <got) files"; else fail "$name"; head -5 delta.txt; fi
}

# ---- a tree with everything in it
mkdir -p root/boot root/many root/etc
head -c 9000000 /dev/urandom >root/boot/vmlinuz-6.1.0-13-amd64
head -c 20000000 /dev/urandom >root/boot/initrd.img-6.1.0-13-amd64
head -c 5000 /dev/urandom >root/boot/vmlinuz-6.1.0-9-amd64
ln -s boot/vmlinuz-6.1.0-13-amd64 root/vmlinuz
ln -s "$(printf 'a/../%.0s' {1..40})etc" root/long-link
for i in $(seq 600); do echo "$i" >"root/many/a-name-of-some-length-$i"; done
truncate -s 3M root/etc/sparse; echo end >>root/etc/sparse
echo x >root/etc/fstab

# ---- ext2, ext3, ext4
for o in '-t ext2 -b 1024' '-t ext3 -b 2048' '-t ext4' '-t ext4 -b 1024 -O inline_data,metadata_csum -I 256' '-t ext4 -O bigalloc'; do
    rm -f e.img
    # shellcheck disable=SC2086
    mke2fs -q $o -d root e.img 80M >/dev/null 2>&1 || { fail "mke2fs $o"; continue; }
    same "$o" root 0 e.img
done

# ---- FAT by mtools
mkdir -p esp/EFI/Linux esp/loader/entries
cp root/boot/vmlinuz-6.1.0-9-amd64 "esp/EFI/a rather long name with spaces.bin"
head -c 700001 /dev/urandom >esp/EFI/big.bin
for i in $(seq 50); do echo "$i" >"esp/loader/entries/entry-number-$i.txt"; done
for o in '-F12 4M' '-F16 40M' '-F32 60M'; do
    rm -f f.img; truncate -s "${o##* }" f.img; mkfs.vfat ${o%% *} f.img >/dev/null
    mcopy -s -i f.img esp/* ::/
    same "FAT ${o%% *}" esp 0 f.img
done

# ---- XFS by prototype file: no mount, both versions
{
    printf '/ignored\n0 0\nd--755 0 0\nboot d--755 0 0\n'
    for f in root/boot/*; do echo "${f##*/} ---644 0 0 $tmp/$f"; done
    printf '$\nvmlinuz l--777 0 0 boot/vmlinuz-6.1.0-13-amd64\nmany d--755 0 0\n'
    for f in root/many/*; do echo "${f##*/} ---644 0 0 $tmp/$f"; done
    printf '$\n$\n'
} >proto
mkdir xroot; cp -a root/boot root/many root/vmlinuz xroot/
for o in '-m crc=1' '-m crc=0,finobt=0,rmapbt=0,reflink=0' '-n size=8192 -b size=1024' '-i nrext64=1'; do
    rm -f x.img; truncate -s 320M x.img
    # shellcheck disable=SC2086
    mkfs.xfs -q $o -p proto x.img >/dev/null 2>&1 || { echo "skip: mkfs.xfs $o"; continue; }
    same "xfs $o" xroot 0 x.img
done

# ---- journals: debugfs makes them dirty, e2fsck replays them as we do
replayed() {	# NAME IMAGE
    cp "$2" ref.img
    e2fsck -fy -E journal_only ref.img >/dev/null 2>&1
    "$tool" dump 0 "$2" >ours.img || { fail "journal $1"; return; }
    # The superblock's state and the journal's own superblock are what may differ.
    jsb=$(debugfs -R 'blocks <8>' "$2" 2>/dev/null | awk '{print $1}')
    bs=$(debugfs -R stats "$2" 2>/dev/null | awk '/^Block size/{print $3}')
    cmp -l ref.img ours.img | awk -v j="$((jsb * bs))" -v b="$bs" \
        '{o=$1-1} !(o>=1024 && o<2048) && !(o>=j && o<j+b)' >delta.txt
    note=$("$tool" fs "$2" | sed 's/.*note=//; s/|.*//')
    if [[ ! -s delta.txt && $note == *replayed* ]]; then ok "journal $1: $note"; else fail "journal $1 ($note)"; head -3 delta.txt; fi
}
head -c 4096 /dev/urandom >blk
printf '\xc0\x3b\x39\x98rest of the block' >magic; truncate -s 4096 magic
for o in '-O ^metadata_csum,^64bit' '-O metadata_csum,64bit' '-b 1024 -O ^metadata_csum,64bit'; do
    for j in jo 'jo -c'; do
        rm -f j.img
        # shellcheck disable=SC2086
        mke2fs -q -t ext4 $o -d root/etc j.img 64M >/dev/null 2>&1
        printf '%s\njw -b 9000,9001,9002 blk\njw -b 9001 magic\njc\n%s\njw -r 9000\njc\n%s\njw -b 9003 blk\njc\n' "$j" "$j" "$j" >cmd
        debugfs -w -f cmd j.img >/dev/null 2>&1
        replayed "$o, $j" j.img
    done
done

# ---- whole disks
kernel_is() {	# NAME FILE IMAGE...: the default entry's kernel is FILE
    local name=$1 file=$2
    shift 2
    if "$tool" kernel '' "$@" 2>err | cmp -s - "$file"; then ok "$name: $("$tool" boot "$@" | tail -1)"
    else fail "$name: $(cat err)"; fi
}
put() {	# DISK NUMBER IMAGE
    dd if="$3" of="$1" bs=512 seek="$(sgdisk -i "$2" "$1" | awk '/First sector/{print $3}')" conv=notrunc,sparse status=none
}
grub_cfg() {	# UUID PREFIX
    cat <<CFG
if [ -s \$prefix/grubenv ]; then
  load_env
fi
set default="0"
if [ x"\${feature_menuentry_id}" = xy ]; then menuentry_id_option="--id"; else menuentry_id_option=""; fi
menuentry 'Debian GNU/Linux' --class debian \$menuentry_id_option 'simple' {
	search --no-floppy --fs-uuid --set=root $1
	linux	$2/vmlinuz-6.1.0-13-amd64 root=UUID=$1 ro  quiet
	initrd	$2/initrd.img-6.1.0-13-amd64
}
submenu 'Advanced options' \$menuentry_id_option 'advanced' {
	menuentry 'Linux 9' \$menuentry_id_option 'nine' {
		search --no-floppy --fs-uuid --set=root $1
		linux	$2/vmlinuz-6.1.0-9-amd64 root=UUID=$1 ro
	}
}
CFG
}
uuid=11111111-2222-3333-4444-555555555555
new=root/boot/vmlinuz-6.1.0-13-amd64

cp -a root droot; mkdir droot/boot/grub; grub_cfg $uuid /boot >droot/boot/grub/grub.cfg
mke2fs -q -t ext4 -U $uuid -d droot r.img 100M
truncate -s 40M esp.img; mkfs.vfat -F16 esp.img >/dev/null
truncate -s 200M d.img
sgdisk -n 1:2048:4095 -t 1:ef02 -n 2:0:+40M -t 2:ef00 -n 3:0:+100M d.img >/dev/null
put d.img 2 esp.img; put d.img 3 r.img
kernel_is 'GPT, BIOS boot, ESP, ext4 root' $new d.img
"$tool" initrd '' d.img | cmp - root/boot/initrd.img-6.1.0-13-amd64 || fail initrd
"$tool" kernel 'Linux 9' d.img | cmp - root/boot/vmlinuz-6.1.0-9-amd64 || fail 'entry by title'
[[ $("$tool" cmdline 1 d.img) == "root=UUID=$uuid ro quiet console=ttyS0" ]] || fail cmdline
if command -v qemu-img >/dev/null; then
    qemu-img convert -O qcow2 -c d.img d.qcow2 && kernel_is 'the same as compressed qcow2' $new d.qcow2
fi
dd if=/dev/zero of=d.img bs=512 seek=1 count=33 conv=notrunc status=none
kernel_is 'the same by the backup table' $new d.img

cp -a root/boot broot; mkdir broot/grub; grub_cfg $uuid '' >broot/grub/grub.cfg
mke2fs -q -t ext4 -U $uuid -d broot b.img 60M
mkfs.xfs -q -f -p proto -d file,name=rx.img,size=320m >/dev/null 2>&1
truncate -s 420M d.img; sgdisk -Z d.img >/dev/null 2>&1
sgdisk -n 1:0:+60M -n 2:0:+330M d.img >/dev/null; put d.img 1 b.img; put d.img 2 rx.img
kernel_is 'separate /boot' $new d.img

cp -a root aroot; printf 'DEFAULT v\nLABEL v\n LINUX vmlinuz-6.1.0-13-amd64\n INITRD initrd.img-6.1.0-13-amd64\n APPEND root=/dev/vda1\n' >aroot/boot/extlinux.conf
mke2fs -q -t ext4 -d aroot a.img 100M
truncate -s 110M m.img; printf 'label: dos\nstart=2048,type=83\n' | sfdisk -q m.img 2>/dev/null
dd if=a.img of=m.img bs=1M seek=1 conv=notrunc,sparse status=none
kernel_is 'MBR, extlinux' $new m.img
kernel_is 'whole disk, extlinux' $new a.img

cp -a root/boot sroot; mkdir -p sroot/loader/entries sroot/grub2
printf 'title R\nversion 6.1.0\nlinux /vmlinuz-6.1.0-13-amd64\ninitrd /initrd.img-6.1.0-13-amd64\noptions $kernelopts\n' >sroot/loader/entries/m-6.1.0-13.conf
printf 'load_env\nset default="${saved_entry}"\nblscfg\n' >sroot/grub2/grub.cfg
printf '# GRUB Environment Block\nsaved_entry=m-6.1.0-13\nkernelopts=root=/dev/vda2 ro\n###' >sroot/grub2/grubenv
mke2fs -q -t ext4 -d sroot s.img 60M
kernel_is 'BLS by blscfg' $new s.img
rm -r sroot/grub2; rm s.img; mke2fs -q -t ext4 -d sroot s.img 60M
kernel_is 'BLS alone' $new s.img
mke2fs -q -t ext4 -F -d root n.img 100M >/dev/null
kernel_is 'newest kernel' $new n.img

truncate -s 60M esp.img; mkfs.vfat -F32 esp.img >/dev/null; mmd -i esp.img ::/EFI ::/EFI/Linux ::/loader ::/loader/entries
python3 - $new <<'PY'
import struct, sys
secs = [(b'.osrel', b'PRETTY_NAME="X"\n'), (b'.cmdline', b'root=/dev/vda2\n'), (b'.linux', open(sys.argv[1], 'rb').read()), (b'.initrd', b'I' * 50)]
off = 64 + 24 + 40 * len(secs); tab = body = b''
for n, c in secs:
    tab += struct.pack('<8sIIIIIIHHI', n, len(c), 0, len(c), off + len(body), 0, 0, 0, 0, 0); body += c
open('x.efi', 'wb').write(b'MZ' + b'\0' * 58 + struct.pack('<I', 64) + b'PE\0\0' + struct.pack('<HHIIIHH', 0x8664, len(secs), 0, 0, 0, 0, 0) + tab + body)
PY
mcopy -i esp.img x.efi ::/EFI/Linux/
kernel_is 'UKI on the ESP' $new esp.img
printf 'default sd*\n' >loader.conf; printf 'title SD\nlinux /k\noptions a\n' >sd.conf
mcopy -i esp.img loader.conf ::/loader/; mcopy -i esp.img sd.conf ::/loader/entries/; mcopy -i esp.img $new ::/k
kernel_is 'systemd-boot' $new esp.img

if command -v mkfs.btrfs >/dev/null; then
    truncate -s 120M bt.img; mkfs.btrfs -q bt.img
    "$tool" boot bt.img 2>err && fail btrfs
    grep -q 'btrfs, which vmm cannot read' err && ok "btrfs: $(cat err)" || fail "btrfs: $(cat err)"
fi

# ---- the slow part; make ci sets HV_SLOW
if [[ -z ${HV_SLOW:-} ]]; then
    echo "not run without HV_SLOW=1: LVM, mounted ext4 and XFS"
    exit $bad
fi
# ---- with root: LVM2's own writer (no device-mapper needed), a kernel's dirty journal, the kernel's XFS
if [[ $(id -u) != 0 ]] || ! losetup -f >/dev/null 2>&1; then
    echo "skip: LVM, mounted ext4 and XFS need root and loop devices"
    exit $bad
fi
lvm_test() {
    command -v vgcfgrestore >/dev/null || { echo "skip: lvm2 is missing"; return; }
    truncate -s 200M l1.img l2.img
    local a b
    a=$(losetup -f --show l1.img) && loops+=("$a") && b=$(losetup -f --show l2.img) && loops+=("$b") || { echo "skip: no loop device"; return; }
    mkdir lvm
    export LVM_SYSTEM_DIR=$tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1
    printf 'devices { filter=["a|^%s$|","a|^%s$|","r|.*|"]\nuse_devicesfile=0\nobtain_device_list_from_udev=0\n}\nactivation { udev_sync=0\nudev_rules=0\n}\nglobal { locking_dir="%s"\n}\nbackup { backup=0\narchive=0\n}\n' "$a" "$b" "$tmp/lvm" >lvm/lvm.conf
    { pvcreate -ff -y "$a" "$b" && vgcreate -s 1M v-g "$a" "$b" && vgcfgbackup -f vg.txt v-g; } >log 2>&1 || { echo "skip: LVM2 cannot work here: $(tail -1 log)"; return; }
    python3 - <<'PY'
import re
s = open('vg.txt').read()
def lv(name, uid, segs):
    t = '%s {\nid = "%s"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\nsegment_count = %d\n' % (name, uid, len(segs))
    for i, (start, count, n, size, stripes) in enumerate(segs, 1):
        t += 'segment%d {\nstart_extent = %d\nextent_count = %d\ntype = "striped"\nstripe_count = %d\n' % (i, start, count, n)
        t += ('stripe_size = %d\n' % size if n > 1 else '') + 'stripes = [ %s ]\n}\n' % stripes
    return t + '}\n'
text = 'logical_volumes {\n' + lv('root', 'AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA',
    [(0, 50, 1, 0, '"pv0", 40'), (50, 50, 1, 0, '"pv1", 3')]) + lv('str', 'BBBBBB-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA',
    [(0, 100, 2, 128, '"pv0", 100, "pv1", 80')]) + '}\n'
depth = 0
for m in re.finditer(r'"[^"]*"|#[^\n]*|[{}]', s):
    depth += {'{': 1, '}': -1}.get(m.group(), 0)
    if m.group() == '}' and depth == 0:
        break
open('vg.txt', 'w').write(s[:m.start()] + text + s[m.start():])
M = 1 << 20; pe = 2048 * 512
a, b = open('l1.img', 'r+b'), open('l2.img', 'r+b')
d = open('r.img', 'rb').read()
a.seek(pe + 40 * M); a.write(d[:50 * M]); b.seek(pe + 3 * M); b.write(d[50 * M:])
for i in range(0, 100 * M, 128 << 10):
    a.seek(pe + 100 * M + i // 2); a.write(d[i:i + 65536])
    b.seek(pe + 80 * M + i // 2); b.write(d[i + 65536:i + 131072])
PY
    vgcfgrestore --force -f vg.txt v-g >log 2>&1 || { fail "vgcfgrestore: $(tail -1 log)"; return; }
    sync
    losetup -d "$a" "$b"; loops=()
    same 'LVM linear over two disks' droot 0 l1.img l2.img
    same 'LVM striped' droot 1 l2.img l1.img
    kernel_is 'LVM root' $new l1.img l2.img
    "$tool" boot l1.img 2>err && fail 'half of a group'
    grep -q 'disk that was not given' err || fail "half of a group: $(cat err)"
}
lvm_test

mkdir mnt
for o in '-O 64bit,metadata_csum' '-O ^64bit,^metadata_csum -b 4096'; do
    for m in data=ordered data=journal journal_checksum; do
        rm -f k.img
        # shellcheck disable=SC2086
        mke2fs -q -t ext4 $o k.img 64M
        mount -o "loop,commit=600,$m" k.img mnt 2>/dev/null || { echo "skip: mount -o $m"; continue; }
        mkdir -p mnt/a; for i in $(seq 200); do echo "$i" >mnt/a/f$i; done; sync
        for i in $(seq 1 3 200); do rm mnt/a/f$i; done
        cp magic mnt/magic; mv mnt/a mnt/b; rm -r mnt/b/f1*; echo late >mnt/late
        sync -f mnt/late; cp --sparse=always k.img dirty.img
        tree_of mnt >/dev/null; rm -rf copy; cp -a mnt copy; umount mnt
        rmdir copy/lost+found
        replayed "by the kernel: $o $m" dirty.img
        same "dirty $m" copy 0 dirty.img
    done
done

xfs_mounted() {
    rm -f x.img; truncate -s 400M x.img; mkfs.xfs -q x.img
    mount -o loop x.img mnt 2>/dev/null || { echo "skip: xfs cannot be mounted"; return; }
    python3 - <<'PY'
import os
os.mkdir('mnt/big'); os.mkdir('mnt/mid'); os.mkdir('mnt/block')
for i in range(30): open('mnt/block/name-%04d' % i, 'w').write('y' * i)
for i in range(400): open('mnt/mid/file-%05d' % i, 'w').write(str(i))
for i in range(4000): open('mnt/big/file-%06d-with-some-long-name-indeed' % i, 'w').close()
for i in range(0, 4000, 3): os.unlink('mnt/big/file-%06d-with-some-long-name-indeed' % i)
f = os.open('mnt/frag', os.O_CREAT | os.O_RDWR)
for i in range(3000): os.pwrite(f, os.urandom(4096), i * 8192)
os.symlink('mid/' + '../mid/' * 120 + 'file-00001', 'mnt/slong'); os.symlink('frag', 'mnt/s')
PY
    fallocate -l 1M mnt/unwritten
    umount mnt; mount -o loop,ro x.img mnt; rm -rf copy; cp -a --sparse=always mnt copy; umount mnt
    same 'xfs by the kernel: btree, node and leaf directories' copy 0 x.img
}
xfs_mounted
exit $bad
