#!/bin/bash
# Make the binary seeds of tests/fuzz/corpus/{parts,lvm,ext4,fat,xfs} again: small images, kept
# sparse by gfstool. Needs e2fsprogs, gdisk, fdisk, dosfstools, mtools, xfsprogs; no root.
# usage: make-guestfs-corpus.sh BUILD_DIR      (run in the project's top folder)
set -eu
tool=$(realpath "$1/tests/tools/gfstool")
corpus=$(realpath tests/fuzz)/corpus
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$corpus"/{parts,lvm,ext4,fat,xfs,bootcfg}
cd "$tmp"

mkdir -p root/boot/grub root/dir
echo 'kernel' >root/boot/vmlinuz-6.1
printf 'menuentry "a" {\n linux /boot/vmlinuz-6.1 root=/dev/vda\n}\n' >root/boot/grub/grub.cfg
ln -s boot/vmlinuz-6.1 root/vmlinuz
ln -s "../$(printf 'd%.0s' {1..90})" root/dir/long
for i in 1 2 3; do echo "$i" >"root/dir/f$i"; done

# parts
truncate -s 64K g; sgdisk -a 1 -n 1:34:40 -n 2:41:60 -t 2:ef00 -c 2:esp g >/dev/null; cp g "$corpus/parts/gpt"
dd if=/dev/zero of=g bs=512 seek=1 count=1 conv=notrunc status=none; cp g "$corpus/parts/gpt-backup"
truncate -s 16K m
printf 'label: dos\nstart=1,size=4,type=83\nstart=6,size=20,type=5\nstart=8,size=3,type=83\nstart=13,size=3,type=ef\n' |
    sfdisk -q m 2>/dev/null || true
cp m "$corpus/parts/mbr-logical"

# ext4: plain, 64bit with checksums and inline data, block-mapped, dirty journals
mke2fs -q -t ext2 -b 1024 -N 32 -O ^resize_inode -d root e 128K; "$tool" sparse e >"$corpus/ext4/ext2"
rm e; mke2fs -q -t ext4 -b 1024 -N 32 -O ^has_journal,inline_data,metadata_csum,64bit,^resize_inode -I 256 -d root e 256K
"$tool" sparse e >"$corpus/ext4/inline-csum"
for journal in "jo" "jo -c"; do
    rm -f e
    mke2fs -q -t ext4 -b 1024 -N 32 -O ^metadata_csum,^64bit,^resize_inode -J size=1 -d root e 8M
    dd if=root/boot/grub/grub.cfg of=blk bs=1024 count=1 conv=sync status=none
    printf '%s\njw -b 300 blk\njw -r 301\njw -b 301 blk\njc\n' "$journal" >cmd
    debugfs -w -f cmd e >/dev/null 2>&1
    debugfs -w -R 'ssv state 0' e >/dev/null 2>&1
    "$tool" sparse e >"$corpus/ext4/journal${journal// /}"
done

# FAT: 12 and 32 (short of clusters by the book, but the layout is what counts)
truncate -s 64K f; mkfs.vfat -F 12 -S 512 -s 1 -n ESP f >/dev/null
mmd -i f ::/EFI ::/EFI/Linux; mcopy -i f root/boot/vmlinuz-6.1 "::/EFI/Linux/a long name.efi"
"$tool" sparse f >"$corpus/fat/fat12"
truncate -s 34M f32; mkfs.vfat -F 32 -S 512 -s 1 f32 >/dev/null
mmd -i f32 ::/loader; mcopy -i f32 root/boot/grub/grub.cfg ::/loader/loader.conf
"$tool" sparse f32 >"$corpus/fat/fat32"

# XFS, filled by a prototype file
{
    printf '/ignored\n0 0\nd--755 0 0\nvmlinuz ---644 0 0 %s\n' "$tmp/root/boot/vmlinuz-6.1"
    printf 'link l--777 0 0 vmlinuz\ndir d--755 0 0\n'
    for i in 1 2 3 4 5 6 7 8; do printf 'a-file-number-%s ---644 0 0 %s\n' $i "$tmp/root/dir/f1"; done
    printf '$\n$\n'
} >proto
truncate -s 300M x; mkfs.xfs -q -p proto x; "$tool" sparse x >"$corpus/xfs/v5"
rm x; truncate -s 300M x; mkfs.xfs -q -m crc=0,finobt=0,rmapbt=0,reflink=0 -p proto x 2>/dev/null; "$tool" sparse x >"$corpus/xfs/v4"
du -sb "$corpus"/{parts,ext4,fat,xfs}
