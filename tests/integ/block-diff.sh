#!/bin/bash
# shellcheck disable=SC2034 # read by people
DESCRIPTION="raw and qcow2 agree; qemu-img reads what we write, and we what it writes"
# Images of many shapes are read, then hammered with random operations on image and shadow.
set -u
T=${HV_BUILD:?}/tests/tools/blktool
dir=
cleanup() { [[ -z $dir ]] || rm -rf "$dir"; }
trap cleanup EXIT

requires() {
    for t in qemu-img qemu-io mke2fs; do
        command -v "$t" >/dev/null || { echo "skip: $t is not installed"; exit 77; }
    done
}

fail=0
bad() { echo "FAIL: $*"; fail=1; }

read_back() { # FORMAT-OPTIONS CONVERT-FLAG
    rm -f x.qcow2
    qemu-img convert ${2:+"$2"} -O qcow2 ${1:+-o "$1"} src.raw x.qcow2 || { bad "convert $1"; return; }
    "$T" dump x.qcow2 | cmp - src.raw || bad "reading '$1' $2"
    "$T" check x.qcow2 >/dev/null || bad "our check of '$1' $2"
}

make_image() { # KIND FORMAT-OPTIONS -> w.qcow2, w.raw
    local o=${2:+-o $2}
    rm -f w.qcow2 w.raw base.*
    case $1 in
    empty) qemu-img create -q -f qcow2 $o w.qcow2 6M; truncate -s 6M w.raw ;;
    full) qemu-img convert -O qcow2 $o src.raw w.qcow2; cp src.raw w.raw ;;
    compressed) qemu-img convert -c -O qcow2 $o src.raw w.qcow2; cp src.raw w.raw ;;
    overlay) # of a compressed image, and longer than it
        qemu-img convert -c -O qcow2 src.raw base.qcow2
        qemu-img create -q -f qcow2 $o -b base.qcow2 -F qcow2 w.qcow2 7M
        cp src.raw w.raw; truncate -s 7M w.raw ;;
    ragged) # a raw base that ends inside a sector
        head -c 3000001 src.raw >base.raw
        qemu-img create -q -f qcow2 $o -b base.raw -F raw w.qcow2 6M
        cp base.raw w.raw; truncate -s 6M w.raw ;;
    snapshot)
        qemu-img convert -O qcow2 $o src.raw w.qcow2; cp src.raw w.raw
        qemu-img snapshot -c one w.qcow2
        "$T" pattern w.qcow2 1M 2M 7; "$T" -f raw pattern w.raw 1M 2M 7
        qemu-img snapshot -c two w.qcow2 ;;
    ours) "$T" create w.qcow2 6M 12; truncate -s 6M w.raw ;;
    oursover) cp src.raw base.raw; "$T" create w.qcow2 6M 16 base.raw raw; cp src.raw w.raw ;;
    esac
}

hammer() { # KIND FORMAT-OPTIONS CACHE
    local what="$1 '$2' cache=$3" seed=$((seed + 1))
    make_image "$1" "$2"
    "$T" -c "$3" random w.qcow2 "$seed" 200 w.raw || bad "random operations: $what"
    qemu-img check -q w.qcow2 || bad "qemu-img check: $what"
    "$T" check w.qcow2 >/dev/null || bad "our check: $what"
    qemu-img compare -q -f qcow2 -F raw w.qcow2 w.raw || bad "qemu-img compare: $what"
    "$T" dump w.qcow2 | cmp - w.raw || bad "dump: $what"
    if [[ $1 == snapshot ]]; then
        qemu-img snapshot -a one w.qcow2
        qemu-img compare -q -f qcow2 -F raw w.qcow2 src.raw || bad "snapshot's data: $what"
    fi
}

deep_chain() {
    rm -f c*.qcow2
    cp src.raw c0.raw
    qemu-img create -q -f qcow2 -b c0.raw -F raw c1.qcow2
    for i in $(seq 2 "$1"); do
        "$T" create "c$i.qcow2" 6M 12 "c$((i - 1)).qcow2" qcow2
    done
    "$T" info "c$1.qcow2" 2>&1
}

dirty_bit() {
    make_image full lazy_refcounts=on
    # QEMU dies with refcounts unwritten: the dirty bit stays.
    (qemu-io -c "write -P 5 0 1M" -c "abort" w.qcow2; true) >/dev/null 2>&1
    "$T" -f raw pattern w.raw 0 1M 5
    qemu-img info w.qcow2 >info.txt 2>&1
    "$T" pattern w.qcow2 2M 1M 6 || bad "opening a dirty image"
    "$T" -f raw pattern w.raw 2M 1M 6
    qemu-img check -q w.qcow2 || bad "refcounts after the rebuild"
    qemu-img compare -q -f qcow2 -F raw w.qcow2 w.raw || bad "data after the rebuild"
}

# Killed in the middle of writes: leaks at worst (exit 3), and it opens again.
killed() {
    make_image overlay ""
    for i in 1 2 3 4 5 6; do
        "$T" random w.qcow2 "$i" 100000 w.raw &
        sleep "0.$((i * 5 % 9 + 1))"
        kill -9 $!
        wait $! 2>/dev/null
        qemu-img check -q w.qcow2
        case $? in 0 | 3) ;; *) bad "qemu-img check after kill -9" ;; esac
        "$T" dump w.qcow2 >w.raw || bad "open after kill -9"
    done 2>/dev/null
}

autoclear() {
    make_image full ""
    qemu-img bitmap --add w.qcow2 b0 2>/dev/null || return 0
    "$T" pattern w.qcow2 0 4k 1
    od -An -tu1 -j 88 -N 8 w.qcow2 | tr -d ' \n' | grep -qx 00000000 || bad "autoclear bits stay"
}

refused() { # TEXT COMMAND…
    local want=$1 out
    shift
    if out=$("$@" 2>&1 >/dev/null); then
        bad "accepted: $*"
    elif [[ $out != *$want* || $(wc -l <<<"$out") != 1 ]]; then
        bad "message of $*: $out"
    fi
}

bad_images() {
    make_image full ""
    head -c 100000 w.qcow2 >t.qcow2
    refused "truncated" "$T" info t.qcow2
    cp w.qcow2 enc.qcow2; printf '\1' | dd of=enc.qcow2 bs=1 seek=35 conv=notrunc status=none
    refused "encrypted" "$T" info enc.qcow2
    qemu-img create -q -f qcow2 -o data_file=ext.raw df.qcow2 1M
    refused "external file" "$T" info df.qcow2
    qemu-img create -q -f qcow2 -o extended_l2=on xl2.qcow2 1M
    refused "read-only" "$T" pattern xl2.qcow2 0 512 1
    "$T" create loop.qcow2 1M 16 loop.qcow2 qcow2
    refused "loop" "$T" info loop.qcow2
    "$T" create out.qcow2 1M 16 /etc/passwd raw
    refused "-b allow" "$T" info out.qcow2
    ln -sf w.qcow2 sym.qcow2
    "$T" create bysym.qcow2 1M 16 sym.qcow2 qcow2
    refused "symbolic link" "$T" info bysym.qcow2
    "$T" -b allow info bysym.qcow2 >/dev/null || bad "allow does not allow"
    "$T" create nbd.qcow2 1M 16 nbd:unix:/x raw
    refused "not a file name" "$T" info nbd.qcow2
    refused "directory" "$T" info .
}

test_all() {
    mke2fs -q -t ext4 -d /usr/include/linux src.raw 6M >/dev/null 2>&1 || head -c 6M /dev/urandom >src.raw
    for o in "" compat=0.10 cluster_size=512 cluster_size=2M refcount_bits=1 refcount_bits=64 \
        extended_l2=on compression_type=zstd cluster_size=4k,compression_type=zstd lazy_refcounts=on; do
        read_back "$o" ""
        read_back "$o" -c
    done
    read_back preallocation=metadata ""
    seed=1
    for kind in empty full compressed overlay ragged snapshot; do
        hammer "$kind" "" writeback
        hammer "$kind" cluster_size=512,refcount_bits=64 writeback
    done
    for kind in empty overlay snapshot; do
        hammer "$kind" compat=0.10 writeback
    done
    hammer overlay cluster_size=2M writeback
    hammer compressed compression_type=zstd writeback
    hammer full refcount_bits=1 writethrough
    hammer overlay cluster_size=4k unsafe
    hammer ours "" writeback
    hammer oursover "" writeback
    if "$T" -c none info w.qcow2 >/dev/null 2>&1; then
        hammer empty cluster_size=512 none
        hammer compressed "" none
        hammer overlay "" none
    else
        echo "skip: no O_DIRECT here"
    fi
    deep_chain 199 | grep -q "files 200" || bad "a chain of 200"
    "$T" dump c199.qcow2 | cmp - src.raw || bad "data through a chain of 200"
    deep_chain 200 | grep -q "more than 200" || bad "a chain of 201"
    dirty_bit
    killed
    autoclear
    bad_images
}

requires
dir=$(mktemp -d)
cd "$dir" || exit 1
test_all
exit $fail
