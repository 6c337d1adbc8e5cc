#!/bin/bash
# DESCRIPTION: a guest's virtio-blk requests on raw and qcow2 images, checked with qemu-io and by the next run
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"
out='' rc=0

# qemu-io and we agree on what is at OFFSET: pat FILE FORMAT OFFSET LENGTH BYTE
pat() { # (not under set -e: prints what is wrong)
    qemu-io -r -f "$2" -c "read -P $5 $3 $4" "$1" >qio.txt 2>&1
    if grep -q "Pattern verification failed" qio.txt || ! grep -q "^read " qio.txt; then
        bad "qemu-io: $1: no $5 at $3+$4: $(head -1 qio.txt)"
    fi
}
check() { qemu-img check -q "$1" >chk.txt 2>&1 || bad "qemu-img check $1: $(head -3 chk.txt)"; }

test_format() { # FORMAT
    local f=$1 img=a.$1
    qemu-img create -q -f "$f" "$img" 64M
    ok "$f: write" "size=64M w=0:1M:17 w=5M:100K:34 W=16M:8M:5 w=67108352:512:51 flush R=16M:8M:5" -d "$img"
    pat "$img" "$f" 0 1M 17
    pat "$img" "$f" 1M 4M 0
    pat "$img" "$f" 5M 100K 34
    pat "$img" "$f" 67108352 512 51
    ok "$f: the next run reads it" "r=0:1M:17 r=5M:100K:34 r=5222400:512:0 R=16M:8M:5 r=67108352:512:51" -d "$img"
    qemu-io -f "$f" -c "write -P 68 2M 300K" "$img" >/dev/null
    ok "$f: reads what qemu-io wrote" "r=2M:300K:68 r=1M:1M:0" -d "$img"
    ok "$f: zeroes and discard" "zero=0:64K unmap=64K:64K discard=16M:1M r=0:128K:0 r=128K:64K:17 r=16M:1M:0 flush" -d "$img"
    pat "$img" "$f" 0 128K 0
    pat "$img" "$f" 128K 896K 17
    ok "$f: small requests" "chunk=512 depth=60 W=3M:128K:9 R=3M:128K:9 chunk=4K disk=0 R=3M:128K:9" -d "$img"
    ok "$f: requests in pieces" "pieces=9 chunk=68K W=7M:2M:3 R=7M:2M:3" -d "$img"
    ok "$f: without indirect, event index" "without=28 without=29 W=7M:2M:4 R=7M:2M:4" -d "$img"
    ok "$f: four queues" "queues=4 depth=64 chunk=16K W=32M:16M:8 R=32M:16M:8 flush" -d "$img,queues=4"
    ok "$f: four queues, read by one" "R=32M:16M:8" -d "$img"
    ok "$f: malformed requests" "bad-requests R=32M:1M:8" -d "$img"
    [[ $f == raw ]] || check "$img"
}

test_caches() {
    local c wce
    for c in writeback:1 none:1 writethrough:0 unsafe:1; do
        wce=${c#*:} c=${c%:*}
        for f in raw qcow2; do
            qemu-img create -q -f $f c.$f 16M
            ok "$f cache=$c" "cache=$wce W=0:4M:6 flush R=0:4M:6" -d "c.$f,cache=$c"
            ok "$f after cache=$c" "R=0:4M:6" -d c.$f
        done
        check c.qcow2
    done
}

test_readonly() {
    local before
    qemu-io -f qcow2 -c "write -P 7 0 1M" c.qcow2 >/dev/null
    before=$(sha256sum c.qcow2 c.raw)
    ok "read-only" "ro r=0:1M:7" -d c.qcow2,readonly
    ok "read-only, --cdrom" "ro" --cdrom c.raw
    ok "read-only file" "ro" -d "c.raw,readonly"
    ok "--ephemeral" "r=0:1M:7 W=0:2M:9 R=0:2M:9 zero=0:64K flush r=0:64K:0" -d c.qcow2 --ephemeral
    ok "--ephemeral, raw" "W=0:2M:9 flush R=0:2M:9" -d c.raw --ephemeral
    ok "--ephemeral over a reset" "boots=8M last-boot=8M:2 reset=acpi" -d c.raw --ephemeral
    [[ $(grep -c "BOOT" <<<"$out") == 2 ]] || bad "--ephemeral writes are lost at reset"
    [[ $(sha256sum c.qcow2 c.raw) == "$before" ]] || bad "an image was written that was not to be"
}

test_overlays() {
    local i
    qemu-img create -q -f raw base.raw 32M
    qemu-io -f raw -c "write -P 1 0 32M" base.raw >/dev/null
    qemu-img create -q -f qcow2 -b base.raw -F raw mid.qcow2
    qemu-io -f qcow2 -c "write -P 2 4M 4M" mid.qcow2 >/dev/null
    qemu-img create -q -f qcow2 -o cluster_size=4k -b mid.qcow2 -F qcow2 top.qcow2
    i=$(sha256sum base.raw mid.qcow2)
    ok "overlay" "r=0:4M:1 r=4M:4M:2 w=4194816:512:3 w=6M:5000K:4 zero=0:4K r=4M:512:2 r=4194816:512:3 r=0:4K:0 flush" -d top.qcow2
    ok "overlay, next run" "r=4M:512:2 r=4194816:512:3 r=4195328:1M:2 r=6M:5000K:4 r=0:4K:0 r=4K:1M:1" -d top.qcow2
    pat top.qcow2 qcow2 4194816 512 3
    pat top.qcow2 qcow2 6M 5000K 4
    check top.qcow2
    [[ $(sha256sum base.raw mid.qcow2) == "$i" ]] || bad "a backing file was written"
    mkdir elsewhere
    mv mid.qcow2 top.qcow2 elsewhere/
    qemu-img rebase -u -b ../base.raw -F raw elsewhere/mid.qcow2
    vm "r=0:4M:1" -d elsewhere/top.qcow2
    [[ $rc == 1 && $(wc -l <err.txt) == 1 ]] || bad "backing file elsewhere (exit $rc): $(cat err.txt)"
    ok "--backing allow" "r=4K:1M:1" -d elsewhere/top.qcow2 --backing allow
}

test_compressed() {
    qemu-img create -q -f raw plain.raw 8M
    qemu-io -f raw -c "write -P 9 0 8M" plain.raw >/dev/null
    for z in zlib zstd; do
        qemu-img convert -c -O qcow2 -o compression_type=$z plain.raw z.qcow2
        ok "$z clusters" "r=0:8M:9 w=1M:4K:1 r=1M:4K:1 r=1052672:60K:9 flush" -d z.qcow2
        check z.qcow2
    done
}

test_identity() {
    ok "serial" "id=disk-4711 feature=13 feature=9 feature=14" -d c.raw,serial=disk-4711
    ok "discard off" "no-feature=13" -d c.raw,discard=off
    ok "two disks" "disk=1 w=0:1M:21 id=b disk=0 w=0:1M:22 disk=1 r=0:1M:21 id=b" -d c.raw -d c.qcow2,serial=b
    pat c.raw raw 0 1M 22
    pat c.qcow2 qcow2 0 1M 21
}

# A guest that writes an image header into a raw disk that was probed: the next start would
# take it for one, and its backing file for the guest's wish.
test_header_guard() {
    qemu-img create -q -f raw g.raw 1M
    vm "w=0:512:81" -d g.raw
    [[ $out == *"END failures=0"* ]] || bad "plain data in the first sector"
}

vm_init qemu-img qemu-io
test_format raw
test_format qcow2
test_caches
test_readonly
test_overlays
test_compressed
test_identity
test_header_guard
vm_done
