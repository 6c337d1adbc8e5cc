#!/bin/bash
# DESCRIPTION: ends that meet something else: a quit with a reset behind it, readers that leave or
# are slow, a launcher that is killed, a console socket left behind, limits of size and memory
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"
vm_init python3
cat >model.py <<'PY'
import json, os, signal, socket, subprocess, sys, time
vmm, guest, runtime, tag = sys.argv[1:]
bad = []
def check(what, ok, detail=""):
    print(("ok   " if ok else "FAIL ") + what, detail)
    if not ok: bad.append(what)
def start(name, words, *opts, **kw):
    return subprocess.Popen([vmm, "run", "-q", "-n", name, "-m", "64", "-k", guest, "-a", words, *opts], **kw)
def info(name): return json.loads(subprocess.check_output([vmm, "status", name, "--json"]))
def gone(name, seconds):
    end = time.time() + seconds
    while time.time() < end:
        if not os.path.exists(f"{runtime}/{name}"): return True
        time.sleep(0.05)
    return False
def wait_up(name):
    end = time.time() + 10
    while time.time() < end:
        if os.path.exists(f"{runtime}/{name}/info"): return time.sleep(0.2)
        time.sleep(0.02)
def ticks(pid): return sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))

# A quit and a reset in one packet: the quit counts.
n = f"{tag}-q"
subprocess.check_call([vmm, "run", "-q", "-n", n, "-m", "64", "-k", guest, "-a", "stuck", "--detach"], stdout=subprocess.DEVNULL)
s = socket.socket(socket.AF_UNIX); s.connect(f"{runtime}/{n}/qmp.sock")
s.sendall(b''.join(b'{"execute":"%s"}\n' % c for c in (b"qmp_capabilities", b"quit", b"system_reset")))
check("quit wins over a reset in the same turn", gone(n, 5)); s.close()

# Nobody reads stdout any more: the launcher does not spin, kill works.
n = f"{tag}-h"
r, w = os.pipe()
p = start(n, "flood=100 stuck", stdin=subprocess.DEVNULL, stdout=w); os.close(w); os.read(r, 10); os.close(r)
wait_up(n); t = ticks(p.pid); time.sleep(1)
check("a launcher without a reader does not spin", ticks(p.pid) - t < 15, ticks(p.pid) - t)
subprocess.call([vmm, "kill", n]); check("and is killed", p.wait(10) == 4)

# A slow reader gets the last words.
p = start(f"{tag}-s", "flood=1500", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
time.sleep(4); out = p.stdout.read()
check("a slow reader gets the last line", p.wait(20) == 0 and b"END failures=0" in out, len(out))

# The launcher is killed: the machine ends by itself and leaves nothing.
n = f"{tag}-l"
p = start(n, "stuck", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL); wait_up(n)
os.kill(p.pid, signal.SIGKILL); p.wait()
check("the machine of a killed launcher ends and cleans up", gone(n, 5))

# --console unix=: gone afterwards; a killed VM's is taken over.
n = f"{tag}-u"
p = start(n, "say=x", "--console", "unix=con.sock"); p.wait(10)
check("the console socket goes with the VM", not os.path.exists("con.sock"))
s = socket.socket(socket.AF_UNIX); s.bind("con.sock"); s.close()
p = start(n, "say=x", "--console", "unix=con.sock")
check("a stale console socket is no obstacle", p.wait(10) == 0)

# Limits of the issue: size, and private memory beside the guest's.
size = 0
if "/release/" in vmm:
    subprocess.check_call(["strip", "-o", "vmm.stripped", vmm]); size = os.path.getsize("vmm.stripped")
    check("stripped below 1 MiB", size < 1 << 20, size)
    open("disk.raw", "w").truncate(1 << 30)
    n = f"{tag}-m"
    subprocess.check_call([vmm, "run", "-q", "-n", n, "-m", "512", "-k", guest, "-a", "stuck", "-d", "disk.raw", "--detach"], stdout=subprocess.DEVNULL)
    kib = big = 0
    for line in open(f"/proc/{info(n)['pid']}/smaps"):
        f = line.split()
        if "-" in f[0] and len(f) >= 5:
            lo, hi = f[0].split("-"); big = int(hi, 16) - int(lo, 16) >= 500 << 20
        elif f[0] in ("Private_Dirty:", "Private_Clean:") and not big:
            kib += int(f[1])
    check("at most 3 MiB of private memory beside the guest's", kib <= 3072, f"{kib} KiB")
    subprocess.call([vmm, "kill", n])
sys.exit(1 if bad else 0)
PY
python3 model.py "$VMM" "$GUEST" "$RUNTIME" "t$$" || fail=1
vm_done
