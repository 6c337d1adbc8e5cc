#!/usr/bin/env python3
"""Check that includes go downwards only (docs/ARCHITECTURE.md, "Layers").

Each folder has the list of folders it may include from; <linux/kvm.h> has the list of
files that may know KVM. Prints one line per violation; exit status 1 if there is any.
"""
import os
import re
import sys

BASE = {"hv/base", "hv/err", "hv/log", "hv/fd", "hv/bytes", "hv/overflow", "hv/iov",
        "hv/bitmap", "hv/size", "hv/loop", "hv/opts", "hv/checksum"}
# folder -> what it may include besides itself and the base headers
MAY = {
    "lib/base": set(),
    "lib/block": {"hv/block"},
    "lib/ipc": {"hv/ipc"},
    "lib/sandbox": {"hv/sandbox"},
    "lib/guestfs": {"hv/guestfs", "hv/block"},
    "vmm/io": {"hv/block", "machine"},
    "vmm/pci": {"machine"},
    "vmm/virtio": {"hv/block", "machine", "vmm/io", "vmm/pci"},
    "vmm/dev": {"machine"},
    "vmm/boot": {"machine", "vmm/dev", "hv/block", "hv/guestfs"},
}
MACHINE = {"bus.h", "gmem.h", "irq.h", "layout.h", "vcpu.h", "kvm.h"}
KVM_FILES = {"vmm/kvm.c", "vmm/vm.c", "vmm/vcpu.c", "vmm/irq.c", "vmm/boot/cpuid.c"}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def target_of(name):
    """The room a quoted include names: 'hv/block', 'vmm/pci', 'machine', or None for its own."""
    if name.startswith("hv/"):
        return name[:-2]
    if "/" in name:
        return "vmm/" + name.split("/")[0]
    return "machine" if name in MACHINE else None


def check(path):
    folder = os.path.dirname(path)
    bad = []
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            m = INCLUDE.match(line)
            if not m:
                continue
            if m.group(1) == "<":
                if m.group(2) == "linux/kvm.h" and path not in KVM_FILES:
                    bad.append((n, "<linux/kvm.h> is for kvm.c, vm.c, vcpu.c, irq.c and cpuid.c"))
                continue
            name = m.group(2)
            target = target_of(name)
            if target is None or target == folder or target in BASE:
                continue
            if folder in MAY and target not in MAY[folder]:
                bad.append((n, f"{folder} may not include {name}"))
            if folder == "lib/base" and target not in BASE:
                bad.append((n, f"lib/base may not include {name}"))
    return bad


def main():
    count = 0
    for top in ("lib", "vmm", "netd", "imgtool"):
        for folder, _, files in os.walk(top):
            for name in sorted(files):
                if not name.endswith((".c", ".h")):
                    continue
                path = os.path.join(folder, name)
                for line, what in check(path):
                    print(f"{path}:{line}: {what}")
                    count += 1
    print(f"layers: {count} violations")
    return 1 if count else 0


sys.exit(main())
