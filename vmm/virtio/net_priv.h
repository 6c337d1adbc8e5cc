/* SPDX-License-Identifier: MIT */
/* net_priv.h - between the files of virtio-net. */
#ifndef HV_VMM_VIRTIO_NET_PRIV_H
#define HV_VMM_VIRTIO_NET_PRIV_H

#include <linux/virtio_net.h>

#include "hv/bitmap.h"
#include "virtio/net.h"
#include "virtio/tap.h"

/* Newer than Debian 12's linux/virtio_net.h (VIRTIO 1.3, 5.1.3). */
#define VNET_F_GUEST_USO4 54
#define VNET_F_GUEST_USO6 55
#define VNET_F_HOST_USO 56
#define VNET_HDR_GSO_UDP_L4 5

#define VNET_QUEUE_SIZE 256
#define VNET_HDR_LEN sizeof(struct virtio_net_hdr_v1)
#define VNET_IOV 1023		/* less one for our copy of the header: IOV_MAX */
#define VNET_FRAME_MAX 65550	/* 5.1.6.3.1: 65562 with the header */
#define VNET_MACS_MAX 64

static_assert(VNET_HDR_LEN == TAP_VNET_HDR_LEN, "VIRTIO 1.2, 5.1.6");

/* Which frames the driver wants (5.1.6.5.1 to 5.1.6.5.3). Written by the control queue. */
struct vnet_filter {
	pthread_mutex_t lock;	/* taken a batch of frames at a time */
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool vlan_on;		/* CTRL_VLAN negotiated: only known VLANs pass */
	uint8_t mac[6];
	bool uni_overflow, multi_overflow;	/* table too long for us: all of that kind pass */
	unsigned n_uni, n_multi;
	uint8_t uni[VNET_MACS_MAX][6], multi[VNET_MACS_MAX][6];
	uint64_t vlans[BITMAP_WORDS(4096)];
};

/** vnet_filter_reset - everything passes, as before any driver. */
void vnet_filter_reset(struct vnet_filter *f, const uint8_t mac[6]);
/** vnet_filter_pass - judge a frame by its first bytes; lock held. */
bool vnet_filter_pass(const struct vnet_filter *f, const uint8_t *head, size_t len);

struct rx_chain {
	uint16_t head;
	unsigned n_iov;
	uint32_t bytes;
};

/* A receive and a transmit queue on one TAP queue; all of it is one I/O thread's. */
struct vnet_pair {
	struct vnet *net;
	unsigned index;
	int tap;
	struct virtio_queue *rx, *tx;	/* NULL while not running */
	struct iothread *thread;
	struct iothread_source source;
	bool starved;		/* no receive buffers: the TAP is not looked at */
	bool dead;		/* the TAP is gone */
	bool tx_blocked;	/* the TAP is full */
	bool mergeable;
	uint32_t rx_need;	/* bytes that must be ready before a frame is read */
	_Atomic bool active;	/* one of the pairs that the driver uses */
	struct iothread_msg rewatch;
	_Atomic bool rewatch_posted;
	/* Receive buffers popped and not used yet, oldest first. */
	unsigned first, n_chains;	/* in chain[] */
	unsigned iov_first, n_iov;	/* in rx_iov[] */
	uint64_t rx_bytes;
	struct rx_chain chain[2 * VNET_QUEUE_SIZE];
	struct iovec rx_iov[2 * VNET_IOV];
	struct iovec tx_iov[VNET_IOV + 1];	/* the first is for the header's copy */
	_Atomic uint64_t n_rx, n_rx_bytes, n_rx_dropped, n_tx, n_tx_bytes, n_tx_dropped;
};

struct vnet {
	struct virtio_dev dev;
	uint8_t mac[6];
	uint16_t mtu;
	unsigned n_pairs;
	bool link_up, announce;	/* vdev.lock */
	struct vnet_filter filter;
	struct vnet_pair *pair;
	struct iovec ctrl_iov[VNET_IOV];
};

/* net_rxtx.c: on the pair's thread. */
void vnet_rx_start(struct vnet_pair *p, struct virtio_queue *q);
void vnet_tx_start(struct vnet_pair *p, struct virtio_queue *q);
void vnet_rx_kick(struct vnet_pair *p);
void vnet_tx_kick(struct vnet_pair *p);
void vnet_queue_stop(struct vnet_pair *p, struct virtio_queue *q);
/** vnet_pair_watch - look at the TAP for what the pair waits for now. */
void vnet_pair_watch(struct vnet_pair *p);

/* net_ctrl.c: on the control queue's thread. */
void vnet_ctrl_kick(struct vnet *n, struct virtio_queue *q);
/** vnet_set_pairs - attach the first @n TAP queues and detach the rest. Any thread. */
void vnet_set_pairs(struct vnet *n, unsigned pairs);
/** vnet_set_offloads - what the TAP may hand us, by GUEST_* feature bits. Any thread. */
void vnet_set_offloads(struct vnet *n, uint64_t guest_features);

#endif
