/* SPDX-License-Identifier: MIT */
/*
 * virtio-net (VIRTIO 1.2, 5.1): features, configuration and life. Frames move in
 * net_rxtx.c, commands are in net_ctrl.c, the receive filter in net_filter.c.
 *
 * Queues 2i and 2i+1 are pair i's receive and transmit queue; the control queue comes
 * behind the pairs that the driver knows of: last with MQ, third without (5.1.2).
 */
#include "virtio/net.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "virtio/net_priv.h"

#define VNET_CLASS 0x020000	/* PCI class: Ethernet */

static struct vnet *to_vnet(struct virtio_dev *d)
{
	return container_of(d, struct vnet, dev);
}

/* ---- queues by role (I/O threads) ------------------------------------------------------------- */

static bool is_ctrl(const struct virtio_queue *q)
{
	const struct vnet *n = container_of(q->dev, struct vnet, dev);
	unsigned pairs = vdev_has(q->dev, VIRTIO_NET_F_MQ) ? n->n_pairs : 1;

	return vdev_has(q->dev, VIRTIO_NET_F_CTRL_VQ) && q->index == 2 * pairs;
}

/* The pair that @q is part of, or NULL: the control queue, or one beyond what was negotiated. */
static struct vnet_pair *pair_of(const struct virtio_queue *q)
{
	struct vnet *n = to_vnet(q->dev);
	unsigned pairs = vdev_has(q->dev, VIRTIO_NET_F_MQ) ? n->n_pairs : 1;

	return q->index < 2 * pairs ? &n->pair[q->index / 2] : NULL;
}

static void vnet_start(struct virtio_queue *q)
{
	struct vnet_pair *p = pair_of(q);

	if (!p)
		return;
	if (q->index % 2) {
		vnet_tx_start(p, q);
		return;
	}
	if (p->index == 0)
		vnet_set_offloads(p->net, q->dev->features);
	vnet_rx_start(p, q);
}

static void vnet_kick(struct virtio_queue *q)
{
	struct vnet_pair *p = pair_of(q);

	if (is_ctrl(q))
		vnet_ctrl_kick(to_vnet(q->dev), q);
	else if (p && q->index % 2)
		vnet_tx_kick(p);
	else if (p)
		vnet_rx_kick(p);
}

static bool vnet_wants(struct virtio_queue *q)
{
	struct vnet_pair *p = pair_of(q);

	if (!p)
		return is_ctrl(q);
	return q->index % 2 ? !p->tx_blocked : p->starved;
}

static void vnet_stop(struct virtio_queue *q)
{
	struct vnet_pair *p = pair_of(q);

	if (p)
		vnet_queue_stop(p, q);
	else
		virtio_queue_stopped(q);
}

static void rewatch(void *ctx)
{
	struct vnet_pair *p = ctx;

	atomic_store(&p->rewatch_posted, false);
	if (p->source.added)
		vnet_pair_watch(p);
}

/* ---- registers (vdev.lock held) ------------------------------------------------------------------ */

static int vnet_activate(struct virtio_dev *d)
{
	struct vnet *n = to_vnet(d);

	pthread_mutex_lock(&n->filter.lock);
	n->filter.vlan_on = vdev_has(d, VIRTIO_NET_F_CTRL_VLAN);
	pthread_mutex_unlock(&n->filter.lock);
	return 0;
}

static void vnet_reset(struct virtio_dev *d)
{
	struct vnet *n = to_vnet(d);

	vnet_filter_reset(&n->filter, n->mac);
	vnet_set_pairs(n, 1);
	n->announce = false;
}

static void vnet_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
	struct vnet *n = to_vnet(d);
	struct virtio_net_config c = {
		.status = htole16((uint16_t)((n->link_up ? VIRTIO_NET_S_LINK_UP : 0) |
					     (n->announce ? VIRTIO_NET_S_ANNOUNCE : 0))),
		.max_virtqueue_pairs = htole16((uint16_t)n->n_pairs),
		.mtu = htole16(n->mtu),
	};

	memcpy(c.mac, n->mac, sizeof(c.mac));
	memcpy(data, (const char *)&c + off, len);
}

/* ---- main thread ---------------------------------------------------------------------------------- */

void virtio_net_set_link(struct virtio_dev *d, bool up)
{
	pthread_mutex_lock(&d->lock);
	to_vnet(d)->link_up = up;
	pthread_mutex_unlock(&d->lock);
	vdev_config_changed(d);
}

void virtio_net_announce(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	to_vnet(d)->announce = vdev_has(d, VIRTIO_NET_F_GUEST_ANNOUNCE);
	pthread_mutex_unlock(&d->lock);
	vdev_config_changed(d);
}

void virtio_net_get_stats(struct virtio_dev *d, struct virtio_net_stats *out)
{
	struct vnet *n = to_vnet(d);

	*out = (struct virtio_net_stats){ 0 };
	for (unsigned i = 0; i < n->n_pairs; i++) {
		struct vnet_pair *p = &n->pair[i];

		out->rx_packets += p->n_rx;
		out->rx_bytes += p->n_rx_bytes;
		out->rx_dropped += p->n_rx_dropped;
		out->tx_packets += p->n_tx;
		out->tx_bytes += p->n_tx_bytes;
		out->tx_dropped += p->n_tx_dropped;
	}
}

static void nothing(void *ctx)
{
}

static void vnet_free(struct virtio_dev *d)
{
	struct vnet *n = to_vnet(d);

	/* A rewatch may still be on its way to a thread: let it arrive. */
	for (unsigned i = 0; i < n->n_pairs; i++)
		iothread_call(n->pair[i].thread, nothing, NULL);
	for (unsigned i = 0; i < n->n_pairs; i++)
		fd_close(&n->pair[i].tap);
	free(n->pair);
	pthread_mutex_destroy(&n->filter.lock);
	vdev_fini(d);
	free(n);
}

#define FEATURES_ALWAYS                                                                     \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |                       \
	 BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_NET_F_MAC) |                     \
	 BIT64(VIRTIO_NET_F_STATUS) | BIT64(VIRTIO_NET_F_MRG_RXBUF) |                       \
	 BIT64(VIRTIO_NET_F_CTRL_VQ) | BIT64(VIRTIO_NET_F_CTRL_RX) |                        \
	 BIT64(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT64(VIRTIO_NET_F_CTRL_VLAN) |                \
	 BIT64(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT64(VIRTIO_NET_F_GUEST_ANNOUNCE))
#define FEATURES_CSUM                                                                       \
	(BIT64(VIRTIO_NET_F_CSUM) | BIT64(VIRTIO_NET_F_GUEST_CSUM) |                        \
	 BIT64(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
#define FEATURES_TSO                                                                        \
	(BIT64(VIRTIO_NET_F_HOST_TSO4) | BIT64(VIRTIO_NET_F_HOST_TSO6) |                    \
	 BIT64(VIRTIO_NET_F_HOST_ECN) | BIT64(VIRTIO_NET_F_GUEST_TSO4) |                    \
	 BIT64(VIRTIO_NET_F_GUEST_TSO6) | BIT64(VIRTIO_NET_F_GUEST_ECN))
#define FEATURES_USO \
	(BIT64(VNET_F_HOST_USO) | BIT64(VNET_F_GUEST_USO4) | BIT64(VNET_F_GUEST_USO6))

static const struct virtio_dev_ops vnet_ops = {
	.name = "virtio-net",
	.device_id = VIRTIO_ID_NET,	/* VIRTIO 1.2, 5.1.1 */
	.class_code = VNET_CLASS,
	.queues_max = 2 * VIRTIO_NET_PAIRS_MAX + 1,
	.queue_size_max = VNET_QUEUE_SIZE,
	.features_max = FEATURES_ALWAYS | FEATURES_CSUM | FEATURES_TSO | FEATURES_USO |
			BIT64(VIRTIO_NET_F_GUEST_UFO) | BIT64(VIRTIO_NET_F_MTU) |
			BIT64(VIRTIO_NET_F_MQ),
	.config_len = offsetof(struct virtio_net_config, speed),
	.config_read = vnet_config_read,
	.activate = vnet_activate,
	.start = vnet_start,
	.kick = vnet_kick,
	.wants = vnet_wants,
	.stop = vnet_stop,
	.reset = vnet_reset,
	.free = vnet_free,
};

static uint64_t instance_features(const struct virtio_net_cfg *cfg)
{
	uint64_t f = FEATURES_ALWAYS;

	if (cfg->offloads & TUN_F_CSUM)
		f |= FEATURES_CSUM;
	if (cfg->offloads & TUN_F_TSO4)
		f |= FEATURES_TSO;
	if (cfg->offloads & TUN_F_UFO)
		f |= BIT64(VIRTIO_NET_F_GUEST_UFO);
	if (cfg->offloads & TAP_F_USO4)
		f |= FEATURES_USO;
	if (cfg->mtu)
		f |= BIT64(VIRTIO_NET_F_MTU);
	if (cfg->pairs > 1)
		f |= BIT64(VIRTIO_NET_F_MQ);
	return f;
}

static void pairs_init(struct vnet *n, const struct virtio_net_cfg *cfg)
{
	for (unsigned i = 0; i < cfg->pairs; i++) {
		struct vnet_pair *p = &n->pair[i];

		p->net = n;
		p->index = i;
		p->tap = cfg->tap_fds[i];
		p->thread = n->dev.queue[2 * i].thread;
		p->rewatch = (struct iothread_msg){ .fn = rewatch, .ctx = p };
		atomic_store(&p->active, true);	/* as the launcher attached it */
	}
	n->n_pairs = cfg->pairs;
}

int virtio_net_new(const struct virtio_net_cfg *cfg, struct virtio_dev **out, struct err *e)
{
	struct iothread *threads[2 * VIRTIO_NET_PAIRS_MAX + 1];
	unsigned n_queues = 2 * cfg->pairs + 1;
	struct vnet *n;
	int r;

	if (!cfg->pairs || cfg->pairs > VIRTIO_NET_PAIRS_MAX)
		return err_set(e, -EINVAL, "virtio-net: %u queues, must be 1 to %u", cfg->pairs,
			       VIRTIO_NET_PAIRS_MAX);
	for (unsigned i = 0; i < n_queues; i++)
		threads[i] = cfg->threads[i / 2 % cfg->n_threads];
	n = calloc(1, sizeof(*n));
	if (!n)
		return err_set(e, -ENOMEM, "virtio-net: out of memory");
	n->pair = calloc(cfg->pairs, sizeof(*n->pair));
	r = n->pair ? vdev_init(&n->dev, &vnet_ops, instance_features(cfg), n_queues, threads,
				n_queues, e) :
		      err_set(e, -ENOMEM, "virtio-net: out of memory");
	if (r) {
		free(n->pair);
		free(n);
		return r;
	}
	memcpy(n->mac, cfg->mac, sizeof(n->mac));
	n->mtu = cfg->mtu;
	n->link_up = true;
	pthread_mutex_init(&n->filter.lock, NULL);
	pairs_init(n, cfg);
	vnet_reset(&n->dev);
	*out = &n->dev;
	return 0;
}
