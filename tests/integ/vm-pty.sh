#!/bin/bash
# DESCRIPTION: --console pty: output waits for a reader, a hang-up costs no CPU time, the
# guest's output is not echoed back as its input.
set -u
vmm=${HV_BUILD:?}/bin/vmm
guest=$HV_BUILD/../guest/guest.elf
skip() { echo "skip: $*"; exit 77; }
[[ -w /dev/kvm ]] || skip "/dev/kvm cannot be opened"
command -v python3 >/dev/null || skip "no python3"
exec python3 - "$vmm" "$guest" <<'END'
import json, os, subprocess, sys, time
vmm, guest = sys.argv[1:]
name = f"pty{os.getpid()}"
p = subprocess.Popen([vmm, "run", "-n", name, "--console", "pty", "-k", guest, "-a", "say=hello stuck"],
                     stderr=subprocess.PIPE, text=True)
try:
    path = p.stderr.readline().split()[-1]
    assert path.startswith("/dev/pts/"), path

    def open_and_read(until):
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        got, end = b"", time.time() + 10
        while time.time() < end and not until(got):
            try:
                got += os.read(fd, 4096)
            except BlockingIOError:
                time.sleep(0.05)
        os.close(fd)
        return got

    time.sleep(0.5)
    out = open_and_read(lambda got: got.count(b"\n") >= 1)
    assert out, "nothing was kept for the first reader"
    pid = json.loads(subprocess.check_output([vmm, "status", name, "--json"]))["pid"]
    main_ticks = lambda: sum(map(int, open(f"/proc/{pid}/task/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
    before = main_ticks()
    time.sleep(1)
    assert main_ticks() - before < 20, "the main thread spins after a hang-up"
finally:
    subprocess.call([vmm, "kill", name])
assert p.wait(10) == 4
END
