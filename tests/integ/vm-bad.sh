#!/bin/bash
# DESCRIPTION: what cannot be started: one line on stderr, exit 1 or 2, nothing left behind
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"
name='' pid=''

# refuse STATUS TEXT ARGUMENTS...: vmm run with them; TEXT has to be in its one line.
refuse() {
    local status=$1 text=$2 got
    shift 2
    cases=$((cases + 1))
    timeout -k 5 20 ${WRAP:-} "$VMM" run --name "t$$-$cases" "$@" >out.txt 2>err.txt </dev/null
    got=$?
    [[ $got == "$status" ]] || bad "$*: exit $got instead of $status: $(cat err.txt)"
    [[ $(wc -l <err.txt) == 1 && ! -s out.txt ]] || bad "$*: not one line: $(cat out.txt err.txt)"
    grep -q -- "^vmm: .*$text" err.txt || bad "$*: no '$text' in: $(cat err.txt)"
    [[ ! -e $RUNTIME/t$$-$cases ]] || bad "$*: left behind: $RUNTIME/t$$-$cases"
}
K() { refuse "$1" "$2" -k "$GUEST" -m 64 "${@:3}"; }

test_images() {
    qemu-img create -q -f qcow2 good.qcow2 16M
    qemu-io -f qcow2 -c "write 0 8M" good.qcow2 >/dev/null
    head -c 100 good.qcow2 >short.qcow2
    K 1 "short.qcow2.*" -d short.qcow2
    head -c 200000 good.qcow2 >cut.qcow2
    refuse 1 "cut.qcow2" cut.qcow2
    truncate -s 0 empty.raw
    refuse 1 "empty.raw" empty.raw
    cp good.qcow2 l1.qcow2
    qemu-img create -q -f qcow2 -b l1.qcow2 -F qcow2 l2.qcow2
    qemu-img rebase -u -b l2.qcow2 -F qcow2 l1.qcow2
    K 1 "l1.qcow2: .*loop" -d l1.qcow2
    K 1 "loop" -d l1.qcow2,readonly
    qemu-img create -q -f qcow2 -b good.qcow2 -F qcow2 over.qcow2
    K 1 "good.qcow2: .*this VM writes it" -d good.qcow2 -d over.qcow2
    qemu-img rebase -u -b absent.qcow2 -F qcow2 l1.qcow2
    K 1 "absent.qcow2" -d l1.qcow2
    cp good.qcow2 enc.qcow2
    printf '\0\0\0\1' | dd of=enc.qcow2 bs=1 seek=32 conv=notrunc status=none
    K 1 "enc.qcow2.*crypt" -d enc.qcow2
    qemu-img create -q -f qcow2 -o data_file=ext.raw ext.qcow2 1M
    K 1 "ext.qcow2.*" -d ext.qcow2
    K 1 "directory" -d .
    K 1 "absent.raw: No such file" -d absent.raw
    K 1 "special file" -d /dev/null
    K 2 "vmdk" -d good.qcow2,format=vmdk
}

test_boot() {
    qemu-img create -q -f raw blank.raw 4M
    refuse 1 "blank.raw" blank.raw
    refuse 1 "absent.raw: No such file" absent.raw
    refuse 1 "No such file" -k absent.elf
    printf 'MZ' >arm64
    truncate -s 56 arm64
    printf 'ARMd' >>arm64
    truncate -s 4096 arm64
    refuse 1 "arm64: an arm64 kernel" -k arm64
    head -c 64 "$GUEST" >arm.elf
    printf '\xb7' | dd of=arm.elf bs=1 seek=18 conv=notrunc status=none
    refuse 1 "another architecture" -k arm.elf
    head -c 64 "$GUEST" >cut.elf
    refuse 1 "cut.elf: truncated" -k cut.elf
    refuse 1 "not a kernel" -k good.qcow2
    refuse 1 "without a PVH note" -k /bin/true
    refuse 1 "not a regular file\|directory" -k .
    truncate -s 100M initrd
    refuse 1 "larger --memory" -k "$GUEST" -i initrd -m 64
    refuse 1 "command line" -k "$GUEST" -m 64 -a "$(head -c 5000 /dev/zero | tr '\0' x)"
}

test_options() {
    refuse 2 "no-such-option" --no-such-option disk
    refuse 2 "-m:" -k "$GUEST" -m 0
    refuse 2 "-m:" -k "$GUEST" -m lots
    refuse 2 "-c:" -k "$GUEST" -c 0
    refuse 1 "--cpus 4096: this host.s KVM allows" -k "$GUEST" -m 64 -c 4096
    refuse 2 "console" -k "$GUEST" --console teletype
    refuse 2 "on-crash" -k "$GUEST" --on-crash explode
    refuse 2 "nosuch" -k "$GUEST" -d x.raw,nosuch=1
    refuse 2 "cache" -k "$GUEST" -d x.raw,cache=sometimes
    refuse 2 ""
    refuse 2 "" one.raw two.raw three.raw
    refuse 1 "no-such-dir" -k "$GUEST" -m 64 --console file=no-such-dir/x
    K 1 "no-tap\|tap" --net tap=a-name-that-is-too-long-for-it
    K 1 "fd" --net fd=77
    refuse 2 "-m:" -k "$GUEST" -m 1000T
    refuse 2 "name" -k "$GUEST" --name "a/b"
    refuse 2 "name" -k "$GUEST" --name ".."
}

test_in_use() {
    local q
    vm_bg "stuck=spin" -d good.qcow2
    wait_for "$name.out" STUCK || return
    K 1 "good.qcow2: is in use by the VM '$name' (pid" -d good.qcow2
    K 1 "in use by the VM '$name'" -d good.qcow2,readonly
    qemu-io -f qcow2 -c "read 0 512" good.qcow2 2>&1 | grep -q "lock" || bad "qemu-io opens an image in use"
    kill "$pid"
    "$VMM" kill "$name"
    vm_end 4 "holder"
    ok "the image is free again" "size=16M" -d good.qcow2
    mkfifo hold
    qemu-io -f qcow2 good.qcow2 <hold >qio.txt 2>&1 &
    q=$!
    exec 9>hold
    echo "read 0 512" >&9
    wait_for qio.txt "read 512"
    K 1 "good.qcow2.*another program" -d good.qcow2
    exec 9>&-
    wait $q
}

# Without /dev/kvm, and without the right to open it.
test_no_kvm() {
    if unshare -m true 2>/dev/null; then
        cat >hide.sh <<'END'
#!/bin/sh
mount -t tmpfs none "$HIDE" && exec "$@"
END
        chmod +x hide.sh
        mkdir -p dev
        cat >nodev.sh <<'END'
#!/bin/bash
# /dev without kvm: bind what is needed onto an empty one
mount -t tmpfs none dev
for f in null urandom zero tty; do [[ -e /dev/$f ]] && touch dev/$f && mount --bind /dev/$f dev/$f; done
mount --move dev /dev 2>/dev/null || mount --rbind dev /dev
exec "$@"
END
        chmod +x nodev.sh
        WRAP="unshare -m ./nodev.sh" refuse 1 "/dev/kvm: No such file" -k "$GUEST" -m 64
    else
        echo "skip: no mount namespaces: /dev/kvm cannot be hidden"
    fi
    if [[ $EUID == 0 ]] && command -v setpriv >/dev/null; then
        chmod 755 "$dir"
        mkdir -m 777 nobody
        cp "$VMM" "$GUEST" nobody/
        WRAP="setpriv --reuid=65534 --regid=65534 --clear-groups env XDG_RUNTIME_DIR=$dir/nobody" \
            VMM=$dir/nobody/vmm refuse 1 "/dev/kvm: Permission denied" -k "$dir/nobody/guest.elf" -m 64
    fi
}

vm_init qemu-img qemu-io
test_images
test_boot
test_options
test_in_use
test_no_kvm
echo "$cases refusals"
vm_done
