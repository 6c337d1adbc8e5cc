#!/bin/bash
# DESCRIPTION: kill -9 of all of vmm while a guest writes to a qcow2 image: no corruption, nothing flushed is lost
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"

# The guest's records (tests/guest/blk_words.c, stream=): number n of round s is 4 KiB of the
# word s << 32 | n at a place of its own. What was there before a record that was not flushed,
# or that record, may be found; afterwards that is what has to stay.
cat_model() {
    cat <<'PY'
import mmap, os, random, signal, struct, subprocess, sys, time
vmm, guest, name, rounds, img, queues = sys.argv[1:6] + [sys.argv[6]]
SLOTS = 4096
AHEAD = 500	# the guest's words may be lost on their way: it can be further than we heard
random.seed(4711)
have = [0] * SLOTS
def place(s, n): return (n * 2654435761 + s * 97) % SLOTS
def fail(text):
    print("FAIL:", text)
    sys.exit(1)

def one(s):
    out = open("stream.txt", "wb+")
    p = subprocess.Popen([vmm, "run", "-q", "--name", name, "-m", "64", "-k", guest, "-a", f"stream={s}",
                          "-d", img + queues], stdin=subprocess.DEVNULL, stdout=out)
    end = time.time() + 20
    while b"flushed" not in open("stream.txt", "rb").read():
        if time.time() > end or p.poll() is not None:
            fail(f"round {s}: the guest does not write: {open('stream.txt').read()}")
        time.sleep(0.005)
    time.sleep(random.random() * 0.1)
    machine = open(f"/proc/{p.pid}/task/{p.pid}/children").read().split()
    for pid in [int(m) for m in machine] + [p.pid]:
        os.kill(pid, signal.SIGKILL)
    p.wait()
    lines = open("stream.txt").read().split("\n")[:-1]
    return [int(l.split()[1]) for l in lines if l.startswith("flushed")][-1]

# The kernel may finish a killed process's requests, and drop its locks, a little later.
def qemu_img(*args):
    end = time.time() + 5
    while True:
        r = subprocess.run(["qemu-img", *args], capture_output=True, text=True)
        if "lock" not in r.stderr or time.time() > end:
            return r
        time.sleep(0.01)

def check(s, flushed):
    r = qemu_img("check", "-f", "qcow2", img)
    if r.returncode not in (0, 3):
        fail(f"round {s}: qemu-img check: {r.stdout} {r.stderr}")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", img, "flat.raw")
    with open("flat.raw", "rb") as f:
        flat = f.read()
    for n in range(flushed + AHEAD):
        slot = place(s, n)
        got = flat[slot * 4096:slot * 4096 + 4096]
        new, old = s << 32 | n, have[slot]
        ok = [new] if n < flushed else [new, old]
        v = struct.unpack_from("<Q", got)[0]
        if v not in ok or got != struct.pack("<Q", v) * 512:
            fail(f"round {s}: record {n} of {flushed} flushed: found {v:#x}, not {ok}")
        have[slot] = v
    for slot in range(SLOTS):
        if struct.unpack_from("<Q", flat, slot * 4096)[0] != have[slot]:
            fail(f"round {s}: place {slot} lost what was flushed before")
    return "leaks" if r.returncode == 3 else ""

leaks = total = 0
for s in range(1, int(rounds) + 1):
    flushed = one(s)
    leaks += check(s, flushed) == "leaks"
    total += flushed
print(f"{rounds} kills, {total} records flushed, leaked clusters after {leaks} of them")
PY
}

kill9() { # ROUNDS DISK-OPTIONS IMAGE-OPTIONS
    qemu-img create -q -f qcow2 ${3:+-o "$3"} k.qcow2 16M
    python3 model.py "$VMM" "$GUEST" "t$$-kill" "$1" k.qcow2 "$2" || fail=1
    cases=$((cases + $1))
}

vm_init qemu-img python3
cat_model >model.py
kill9 30 "" ""
kill9 10 "" "cluster_size=4k"
kill9 10 ",cache=none" "lazy_refcounts=on"
"$VMM" list | grep "t$$-" && bad "killed VMs are listed"
[[ ! -e $RUNTIME/t$$-kill ]] || bad "left behind in RUNTIME after list"
vm_done
