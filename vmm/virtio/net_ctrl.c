/* SPDX-License-Identifier: MIT */
/* virtio-net's control queue (VIRTIO 1.2, 5.1.6.5). */
#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hv/bytes.h"
#include "hv/iov.h"
#include "virtio/net_priv.h"

#define CTRL_BATCH 16

/* ---- the TAP's side ---------------------------------------------------------------------------- */

static void set_active(struct vnet_pair *p, bool on)
{
	struct ifreq ifr = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (atomic_load(&p->active) == on)
		return;
	/*
	 * Detached, the kernel steers no flow to it, and poll() calls it an error: it counts as
	 * active only while it is attached. What is no TAP (tests) stays as it is.
	 */
	if (!on)
		atomic_store(&p->active, false);
	(void)!ioctl(p->tap, TUNSETQUEUE, &ifr);
	if (on)
		atomic_store(&p->active, true);
	if (!atomic_exchange(&p->rewatch_posted, true))
		iothread_post(p->thread, &p->rewatch);
}

void vnet_set_pairs(struct vnet *n, unsigned pairs)
{
	for (unsigned i = 0; i < n->n_pairs; i++)
		set_active(&n->pair[i], i < pairs);
}

void vnet_set_offloads(struct vnet *n, uint64_t f)
{
	static const struct {
		uint64_t feature;
		unsigned flag;
	} map[] = {
		{ BIT64(VIRTIO_NET_F_GUEST_TSO4), TUN_F_TSO4 },
		{ BIT64(VIRTIO_NET_F_GUEST_TSO6), TUN_F_TSO6 },
		{ BIT64(VIRTIO_NET_F_GUEST_ECN), TUN_F_TSO_ECN },
		{ BIT64(VIRTIO_NET_F_GUEST_UFO), TUN_F_UFO },
		{ BIT64(VNET_F_GUEST_USO4) | BIT64(VNET_F_GUEST_USO6), TAP_F_USO4 | TAP_F_USO6 },
	};
	unsigned flags = 0;

	/* 5.1.3.1: all the others need GUEST_CSUM; the kernel takes both USO or none. */
	if (f & BIT64(VIRTIO_NET_F_GUEST_CSUM)) {
		flags = TUN_F_CSUM;
		for (unsigned i = 0; i < ARRAY_SIZE(map); i++)
			if ((f & map[i].feature) == map[i].feature)
				flags |= map[i].flag;
		if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
			flags &= ~(unsigned)TUN_F_TSO_ECN;
	}
	/* The interface's, whichever queue says it. */
	(void)!ioctl(n->pair[0].tap, TUNSETOFFLOAD, flags);
}

/* ---- commands: true for VIRTIO_NET_OK ------------------------------------------------------------- */

static bool ctrl_rx(struct vnet *n, uint8_t cmd, struct iov_cursor *data)
{
	struct vnet_filter *f = &n->filter;
	bool *const mode[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc, [VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni, [VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni, [VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};
	uint8_t on;

	if (cmd >= ARRAY_SIZE(mode) || iov_copy_out(data, &on, 1) != 1)
		return false;
	pthread_mutex_lock(&f->lock);
	*mode[cmd] = on;
	pthread_mutex_unlock(&f->lock);
	return true;
}

/* One of the two lists of MAC_TABLE_SET; more than we keep sets *@overflow. */
static bool read_macs(struct iov_cursor *data, uint8_t (*table)[6], unsigned *n, bool *overflow)
{
	uint8_t le[4];
	uint32_t count;

	if (iov_copy_out(data, le, sizeof(le)) != sizeof(le))
		return false;
	count = load_le32(le);
	if (count > iov_left(data) / 6)
		return false;
	*overflow = count > VNET_MACS_MAX;
	*n = *overflow ? 0 : count;
	if (*overflow)
		return iov_skip(data, (size_t)count * 6) == (size_t)count * 6;
	return iov_copy_out(data, table, (size_t)count * 6) == (size_t)count * 6;
}

static bool ctrl_mac(struct vnet *n, uint8_t cmd, struct iov_cursor *data)
{
	struct vnet_filter *f = &n->filter, new = { 0 };
	uint8_t mac[6];

	if (cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
		if (iov_left(data) != 6 || iov_copy_out(data, mac, 6) != 6)
			return false;
		pthread_mutex_lock(&f->lock);
		memcpy(f->mac, mac, 6);
		pthread_mutex_unlock(&f->lock);
		return true;
	}
	if (cmd != VIRTIO_NET_CTRL_MAC_TABLE_SET ||
	    !read_macs(data, new.uni, &new.n_uni, &new.uni_overflow) ||
	    !read_macs(data, new.multi, &new.n_multi, &new.multi_overflow))
		return false;
	pthread_mutex_lock(&f->lock);
	memcpy(f->uni, new.uni, sizeof(f->uni));
	memcpy(f->multi, new.multi, sizeof(f->multi));
	f->n_uni = new.n_uni;
	f->n_multi = new.n_multi;
	f->uni_overflow = new.uni_overflow;
	f->multi_overflow = new.multi_overflow;
	pthread_mutex_unlock(&f->lock);
	return true;
}

static bool ctrl_vlan(struct vnet *n, uint8_t cmd, struct iov_cursor *data)
{
	uint8_t le[2];
	uint16_t vid;

	if (iov_copy_out(data, le, 2) != 2 || cmd > VIRTIO_NET_CTRL_VLAN_DEL)
		return false;
	vid = load_le16(le);
	if (vid >= 4096)
		return false;
	pthread_mutex_lock(&n->filter.lock);
	if (cmd == VIRTIO_NET_CTRL_VLAN_ADD)
		bitmap_set(n->filter.vlans, vid);
	else
		bitmap_clear(n->filter.vlans, vid);
	pthread_mutex_unlock(&n->filter.lock);
	return true;
}

static bool ctrl_mq(struct vnet *n, uint8_t cmd, struct iov_cursor *data)
{
	uint8_t le[2];
	uint16_t pairs;

	if (cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !vdev_has(&n->dev, VIRTIO_NET_F_MQ) ||
	    iov_copy_out(data, le, 2) != 2)
		return false;
	pairs = load_le16(le);
	if (!pairs || pairs > n->n_pairs)
		return false;
	vnet_set_pairs(n, pairs);
	return true;
}

static bool ctrl_announce(struct vnet *n, uint8_t cmd)
{
	if (cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return false;
	pthread_mutex_lock(&n->dev.lock);
	n->announce = false;
	pthread_mutex_unlock(&n->dev.lock);
	return true;
}

static bool ctrl_offloads(struct vnet *n, uint8_t cmd, struct iov_cursor *data)
{
	uint8_t le[8];
	uint64_t f;

	if (cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || iov_copy_out(data, le, 8) != 8)
		return false;
	f = load_le64(le);
	if (f & ~n->dev.features)	/* 5.1.6.5.6.1: only what was negotiated */
		return false;
	vnet_set_offloads(n, f);
	return true;
}

static bool ctrl_command(struct vnet *n, struct vq_chain *c)
{
	struct iov_cursor data = iov_begin(c->iov, c->n_out);
	struct virtio_net_ctrl_hdr h;

	if (iov_copy_out(&data, &h, sizeof(h)) != sizeof(h))
		return false;
	switch (h.class) {
	case VIRTIO_NET_CTRL_RX: return ctrl_rx(n, h.cmd, &data);
	case VIRTIO_NET_CTRL_MAC: return ctrl_mac(n, h.cmd, &data);
	case VIRTIO_NET_CTRL_VLAN: return ctrl_vlan(n, h.cmd, &data);
	case VIRTIO_NET_CTRL_MQ: return ctrl_mq(n, h.cmd, &data);
	case VIRTIO_NET_CTRL_ANNOUNCE: return ctrl_announce(n, h.cmd);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS: return ctrl_offloads(n, h.cmd, &data);
	default: return false;
	}
}

void vnet_ctrl_kick(struct vnet *n, struct virtio_queue *q)
{
	for (unsigned i = 0; i < CTRL_BATCH; i++) {
		struct vq_chain c = { .iov = n->ctrl_iov, .iov_max = ARRAY_SIZE(n->ctrl_iov) };
		struct iov_cursor in;
		uint8_t ack;

		if (vq_pop(&q->vq, &c))
			break;
		ack = ctrl_command(n, &c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
		in = iov_begin(c.iov + c.n_out, c.n_in);
		vq_push(&q->vq, c.head, (uint32_t)iov_copy_in(&in, &ack, 1));
		vq_done_write(&q->vq, c.iov + c.n_out, c.n_in, 1);
	}
	virtio_queue_publish(q);
}
