#!/bin/bash
# DESCRIPTION: virtio-net moves frames through a real TAP, with checksum and segmentation offloads
set -u

requires() {
    [[ -w /dev/net/tun ]] || { echo "skip: /dev/net/tun cannot be opened"; exit 77; }
    unshare -rn true 2>/dev/null || { echo "skip: no user and network namespaces"; exit 77; }
}

test_tap() {
    # The namespace and its TAP go with the process.
    unshare -rn "$HV_BUILD/tests/tools/tap_frames"
}

requires
test_tap
