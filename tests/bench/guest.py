#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The bare guest's disk and network rates under vmm and under QEMU, alternating.

usage: guest.py VMM GUEST [CASE...]     prints one JSON line a case: medians and their ratio
Absolute figures move with the machine; the ratio of programs that took turns is the claim.
"""
import json, os, re, shutil, statistics, subprocess, sys, tempfile

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
MS = int(os.environ.get("BENCH_MS", "300"))
CASES = [  # name, image format, words
    ("raw-randread-4k-qd32", "raw", f"chunk=4K depth=32 bench=r:{MS}"),
    ("raw-randread-4k-qd1", "raw", f"chunk=4K depth=1 bench=r:{MS}"),
    ("raw-randwrite-4k-qd32", "raw", f"chunk=4K depth=32 bench=w:{MS}"),
    ("raw-seqread-1m-qd8", "raw", f"chunk=1M depth=8 bench=s:{MS}"),
    ("qcow2-randread-4k-qd32", "qcow2", f"chunk=4K depth=32 bench=r:{MS}"),
    ("qcow2-randread-4k-qd1", "qcow2", f"chunk=4K depth=1 bench=r:{MS}"),
    ("qcow2-randwrite-4k-qd32", "qcow2", f"chunk=4K depth=32 bench=w:{MS}"),
    ("net-transmit-60", "net", f"net-flood={MS}:18"),
    ("net-transmit-1500", "net", f"net-flood={MS}:1458"),
]


def tsc_khz():
    """Ticks of the TSC a millisecond, as the kernel measured it."""
    for line in subprocess.run(["dmesg"], capture_output=True, text=True).stdout.splitlines():
        m = re.search(r"tsc: (?:Refined TSC clocksource calibration|Detected): ([0-9.]+) MHz", line)
        if m:
            return int(float(m.group(1)) * 1000)
    with open("/proc/cpuinfo") as f:
        return int(float(re.search(r"cpu MHz\s*: ([0-9.]+)", f.read()).group(1)) * 1000)


def vmm_command(vmm, guest, kind, words):
    cmd = [vmm, "run", "-q", "--no-reboot", "--name", f"bench{os.getpid()}", "-m", "256", "-k", guest, "-a", words]
    return cmd + (["--net", "tap=bench0"] if kind == "net" else ["-d", f"disk.{kind}"])


def qemu_command(guest, kind, words):
    cmd = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", os.environ.get("QEMU_CPU", "host,-arch-capabilities"),
           "-M", "q35", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
           "-object", "iothread,id=io", "-kernel", guest, "-append", words]
    if kind == "net":
        return cmd + ["-netdev", "tap,id=n,ifname=bench0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n"]
    return cmd + ["-blockdev", f"driver=file,filename=disk.{kind},node-name=f,aio=io_uring",
                  "-blockdev", f"driver={kind},file=f,node-name=d", "-device", "virtio-blk-pci,drive=d,iothread=io"]


def rate(cmd):
    p = subprocess.run(cmd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    m = re.search(r"BENCH (?:requests|frames)=(\d+) us=(\d+)", p.stdout)
    if not m:
        sys.exit(f"guest.py: no result from {' '.join(cmd)}: {p.stdout[-300:]} {p.stderr[-300:]}")
    return int(m.group(1)) * 1e6 / int(m.group(2))


def prepare(kind):
    if kind == "net":
        subprocess.run("ip tuntap add bench0 mode tap && ip link set bench0 up && ip addr add 10.9.0.1/24 dev bench0",
                       shell=True, check=True)
        return
    if not os.path.exists(f"disk.{kind}"):
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, f"disk.{kind}", "1G"], check=True)
        subprocess.run(["qemu-io", "-f", kind, "-c", "write -P 7 0 1G", f"disk.{kind}"], check=True,
                       stdout=subprocess.DEVNULL)


def case(vmm, guest, name, kind, words):
    words = f"tsc-khz={tsc_khz()} {words}"
    rates = {"vmm": [], "qemu": []}
    for _ in range(ROUNDS):
        rates["vmm"].append(rate(vmm_command(vmm, guest, kind, words)))
        rates["qemu"].append(rate(qemu_command(guest, kind, words)))
    ours, theirs = statistics.median(rates["vmm"]), statistics.median(rates["qemu"])
    print(json.dumps({"bench": "guest", "case": name, "vmm": round(ours), "qemu": round(theirs), "unit": "1/s",
                      "ratio": round(ours / theirs, 2), "rounds": ROUNDS}), flush=True)


def main():
    vmm, guest, wanted = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
    if not os.access("/dev/kvm", os.W_OK) or not shutil.which("qemu-system-x86_64"):
        print("skip: needs /dev/kvm and qemu-system-x86_64")
        return
    if os.geteuid() == 0 and not os.environ.get("BENCH_INSIDE"):
        os.environ["BENCH_INSIDE"] = "1"  # the TAP is in a network namespace of its own
        os.execvp("unshare", ["unshare", "-n", sys.executable] + sys.argv)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as d:
        os.chdir(d)
        ready = set()
        for name, kind, words in CASES:
            if wanted and not any(w in name for w in wanted):
                continue
            if kind == "net" and os.geteuid():
                print(f"skip: {name}: a TAP needs root")
                continue
            if kind not in ready:
                prepare(kind)
                ready.add(kind)
            case(vmm, guest, name, kind, words)
        os.chdir("/")


main()
