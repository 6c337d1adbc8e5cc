/* SPDX-License-Identifier: MIT */
/*
 * tap.h - TAP queues: the launcher opens them, the machine process adopts them.
 */
#ifndef HV_VMM_VIRTIO_TAP_H
#define HV_VMM_VIRTIO_TAP_H

#include "hv/base.h"
#include "hv/err.h"

#define TAP_VNET_HDR_LEN 12	/* struct virtio_net_hdr_v1 */

/* Newer than Debian 12's linux/if_tun.h. */
#define TAP_F_USO4 0x20
#define TAP_F_USO6 0x40

/**
 * tap_open - attach @n queues of the TAP called @name
 * @fds: receives the descriptors; the caller owns them
 *
 * The launcher's half: needs CAP_NET_ADMIN or ownership of the TAP. With one queue a TAP
 * that was made without multi_queue is attached too.
 */
int tap_open(const char *name, unsigned n, int *fds, struct err *e);
/** tap_mtu - the interface's MTU in bytes; 0 if it is not known here. Launcher. */
uint16_t tap_mtu(int fd);
/**
 * tap_adopt - make a queue ready for virtio-net, wherever it was opened
 * @offloads: receives the TUN_F_* (and TAP_F_*) that the host takes
 *
 * Non-blocking, 12-byte vnet_hdr. -ENOTTY for what is no TAP, -EINVAL for one that was
 * opened without IFF_VNET_HDR.
 */
int tap_adopt(int fd, unsigned *offloads, struct err *e);

#endif
