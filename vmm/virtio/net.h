/* SPDX-License-Identifier: MIT */
/* net.h - virtio-net (VIRTIO 1.2, 5.1) on TAP queues. */
#ifndef HV_VMM_VIRTIO_NET_H
#define HV_VMM_VIRTIO_NET_H

#include "virtio/device.h"

#define VIRTIO_NET_PAIRS_MAX 16

struct virtio_net_cfg {
	const int *tap_fds;	/* one a queue pair, from tap_adopt(); owned by the device on success */
	unsigned pairs;
	unsigned offloads;	/* TUN_F_* that tap_adopt() found; 0: none */
	uint8_t mac[6];
	uint16_t mtu;		/* 0: not offered */
	struct iothread *const *threads; /* pair i on threads[i % n_threads] */
	unsigned n_threads;
};

struct virtio_net_stats {
	uint64_t rx_packets, rx_bytes, rx_dropped;
	uint64_t tx_packets, tx_bytes, tx_dropped;
};

int virtio_net_new(const struct virtio_net_cfg *cfg, struct virtio_dev **out, struct err *e);
/** virtio_net_set_link - carrier on or off. Main thread. */
void virtio_net_set_link(struct virtio_dev *d, bool up);
/** virtio_net_announce - have the guest announce itself (after a move). Main thread. */
void virtio_net_announce(struct virtio_dev *d);
/** virtio_net_get_stats - sum over the queues. Any thread. */
void virtio_net_get_stats(struct virtio_dev *d, struct virtio_net_stats *out);

#endif
