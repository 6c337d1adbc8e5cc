/* SPDX-License-Identifier: MIT */
/*
 * Frames between a TAP queue and a pair of virtqueues, without copies.
 *
 * Receive: buffers are popped ahead into a stash that can hold the largest frame; readv
 * fills them directly, and as many as the frame took are handed over (mergeable buffers).
 * A frame that the filter refuses costs nothing: its buffers are simply read into again.
 * Without buffers the TAP is not watched, until the driver's kick.
 *
 * Transmit: writev from the guest's buffers, except for the vnet_hdr, which is copied,
 * checked and sent from the copy. A full TAP puts the chain back and waits for EPOLLOUT.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>
#include <sys/uio.h>

#include "hv/bytes.h"
#include "hv/iov.h"
#include "virtio/net_priv.h"

#define RX_BURST 64
#define TX_BURST 128
#define PUBLISH_EVERY 16
#define RX_LEAST (VNET_HDR_LEN + ETH_FRAME_LEN)
#define RX_IOV_ENOUGH (VNET_IOV - 300)	/* room for one more chain, however cut */

static void count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

void vnet_pair_watch(struct vnet_pair *p)
{
	uint32_t events = 0;

	if (p->rx && !p->rx->vq.broken && !p->starved && !p->dead && atomic_load(&p->active))
		events |= EPOLLIN;
	if (p->tx && !p->tx->vq.broken && p->tx_blocked && !p->dead && atomic_load(&p->active))
		events |= EPOLLOUT;
	iothread_mod(&p->source, events);
}

/* ---- receive ------------------------------------------------------------------------------- */

static void stash_compact(struct vnet_pair *p)
{
	memmove(p->chain, p->chain + p->first, p->n_chains * sizeof(p->chain[0]));
	memmove(p->rx_iov, p->rx_iov + p->iov_first, p->n_iov * sizeof(p->rx_iov[0]));
	p->first = p->iov_first = 0;
}

static bool stash_full(const struct vnet_pair *p)
{
	if (!p->mergeable)
		return p->n_chains == 1;
	return p->rx_bytes >= p->rx_need || p->n_iov > RX_IOV_ENOUGH ||
	       p->n_chains == VNET_QUEUE_SIZE;
}

/*
 * Pop buffers until the largest frame fits. A driver with few buffers gets frames as long as
 * these hold, an ordinary one at least; false if not even that.
 */
static bool stash_fill(struct vnet_pair *p)
{
	while (!stash_full(p)) {
		struct vq_chain c;

		if (p->iov_first + p->n_iov > VNET_IOV ||
		    p->first + p->n_chains >= ARRAY_SIZE(p->chain))
			stash_compact(p);
		c.iov = &p->rx_iov[p->iov_first + p->n_iov];
		c.iov_max = VNET_IOV - p->n_iov;
		if (vq_pop(&p->rx->vq, &c))
			return !p->rx->vq.broken && p->rx_bytes >= RX_LEAST;
		if (c.n_out || !c.n_in) {	/* 5.1.6.3: device-writable only */
			p->rx->vq.broken = true;
			return false;
		}
		p->chain[p->first + p->n_chains++] = (struct rx_chain){
			.head = c.head, .n_iov = c.n_in, .bytes = (uint32_t)c.bytes_in };
		p->n_iov += c.n_in;
		p->rx_bytes += c.bytes_in;
	}
	return true;
}

/* Hand over the buffers that the @len bytes of header and frame lie in. */
static void deliver(struct vnet_pair *p, size_t len)
{
	struct iov_cursor at = iov_begin(&p->rx_iov[p->iov_first], p->n_iov);
	size_t left = len;
	uint8_t le[2];
	unsigned n = 0;

	for (size_t sum = 0; sum < len; n++)
		sum += p->chain[p->first + n].bytes;
	iov_skip(&at, offsetof(struct virtio_net_hdr_v1, num_buffers));
	store_le16(le, (uint16_t)n);
	iov_copy_in(&at, le, sizeof(le));
	while (n--) {
		struct rx_chain *c = &p->chain[p->first++];
		uint32_t part = (uint32_t)MIN(left, (size_t)c->bytes);

		vq_done_write(&p->rx->vq, &p->rx_iov[p->iov_first], c->n_iov, part);
		vq_push(&p->rx->vq, c->head, part);
		left -= part;
		p->n_chains--;
		p->iov_first += c->n_iov;
		p->n_iov -= c->n_iov;
		p->rx_bytes -= c->bytes;
	}
	if (!p->n_chains)
		p->first = p->iov_first = 0;
	count(&p->n_rx, 1);
	count(&p->n_rx_bytes, len - VNET_HDR_LEN);
}

static bool frame_wanted(struct vnet_pair *p, size_t len)
{
	struct iov_cursor at = iov_begin(&p->rx_iov[p->iov_first], p->n_iov);
	uint8_t head[ETH_HLEN + 4];
	size_t n;

	if (len < VNET_HDR_LEN + ETH_HLEN)
		return false;
	iov_skip(&at, VNET_HDR_LEN);
	n = iov_copy_out(&at, head, MIN(sizeof(head), len - VNET_HDR_LEN));
	return vnet_filter_pass(&p->net->filter, head, n);
}

/* One frame; false if there is none to be had now. */
static bool rx_one(struct vnet_pair *p)
{
	ssize_t n;

	if (!stash_fill(p)) {
		p->starved = !p->rx->vq.broken;
		return false;
	}
	n = readv(p->tap, &p->rx_iov[p->iov_first], (int)MIN(p->n_iov, (unsigned)VNET_IOV));
	if (n <= 0) {
		/* EBADFD: detached for now; anything but "nothing there" is the end of this TAP. */
		p->dead = n == 0 || (errno != EAGAIN && errno != EINTR && errno != EBADFD);
		return false;
	}
	/* Filled to the brim and the brim too low: it was cut. */
	if (!((size_t)n == p->rx_bytes && p->rx_bytes < p->rx_need) && frame_wanted(p, (size_t)n))
		deliver(p, (size_t)n);
	else
		count(&p->n_rx_dropped, 1);
	return true;
}

void vnet_rx_kick(struct vnet_pair *p)
{
	if (!p->rx || p->dead)
		return;
	p->starved = false;
	pthread_mutex_lock(&p->net->filter.lock);
	for (unsigned i = 1; i <= RX_BURST && rx_one(p); i++)
		if (i % PUBLISH_EVERY == 0)
			vq_publish(&p->rx->vq);
	pthread_mutex_unlock(&p->net->filter.lock);
	virtio_queue_publish(p->rx);
	vnet_pair_watch(p);
}

/* ---- transmit ------------------------------------------------------------------------------- */

static bool gso_allowed(const struct virtio_dev *d, uint8_t type)
{
	switch (type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4: return vdev_has(d, VIRTIO_NET_F_HOST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6: return vdev_has(d, VIRTIO_NET_F_HOST_TSO6);
	case VNET_HDR_GSO_UDP_L4: return vdev_has(d, VNET_F_HOST_USO);
	default: return false;
	}
}

/* Does the header make sense for a frame of @len bytes and what was negotiated (5.1.6.2)? */
static bool tx_header_ok(const struct virtio_dev *d, struct virtio_net_hdr_v1 *h, size_t len)
{
	h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->num_buffers = 0;
	if (h->flags) {
		if (!vdev_has(d, VIRTIO_NET_F_CSUM))
			return false;
		if ((size_t)le16toh(h->csum_start) + le16toh(h->csum_offset) + 2 > len)
			return false;
	}
	if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	return gso_allowed(d, h->gso_type) && h->flags && h->gso_size &&
	       le16toh(h->hdr_len) <= len;
}

/* 0 or -EAGAIN: the TAP is full. A frame that is refused for good counts as sent. */
static int tx_one(struct vnet_pair *p, struct vq_chain *c)
{
	struct iov_cursor at = iov_begin(c->iov, c->n_out);
	struct virtio_net_hdr_v1 h;
	struct iovec *iov = c->iov;
	unsigned n = c->n_out;
	size_t len;

	if (c->bytes_out < VNET_HDR_LEN + ETH_HLEN ||
	    c->bytes_out > VNET_HDR_LEN + VNET_FRAME_MAX) {
		count(&p->n_tx_dropped, 1);
		return 0;
	}
	len = c->bytes_out - VNET_HDR_LEN;
	iov_copy_out(&at, &h, sizeof(h));
	if (!tx_header_ok(&p->net->dev, &h, len)) {
		count(&p->n_tx_dropped, 1);
		return 0;
	}
	/* There is an entry in front of the chain's own: ours, or one that the cut freed. */
	vq_iov_cut_front(&iov, &n, sizeof(h));
	*--iov = (struct iovec){ .iov_base = &h, .iov_len = sizeof(h) };
	if (writev(p->tap, iov, (int)n + 1) >= 0) {
		count(&p->n_tx, 1);
		count(&p->n_tx_bytes, len);
		return 0;
	}
	if (errno == EAGAIN)
		return -EAGAIN;
	count(&p->n_tx_dropped, 1);
	return 0;
}

void vnet_tx_kick(struct vnet_pair *p)
{
	struct virtqueue *vq;

	if (!p->tx)
		return;
	vq = &p->tx->vq;
	p->tx_blocked = false;
	for (unsigned i = 1; i <= TX_BURST; i++) {
		struct vq_chain c = { .iov = p->tx_iov + 1, .iov_max = VNET_IOV };

		if (vq_pop(vq, &c))
			break;
		if (tx_one(p, &c)) {
			vq_unpop(vq);
			p->tx_blocked = true;
			break;
		}
		vq_push(vq, c.head, 0);
		if (i % PUBLISH_EVERY == 0)
			vq_publish(vq);
	}
	virtio_queue_publish(p->tx);
	vnet_pair_watch(p);
}

/* ---- the TAP as a source ----------------------------------------------------------------------- */

static void tap_ready(void *ctx, uint32_t events)
{
	struct vnet_pair *p = ctx;

	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && p->rx) {
		vnet_rx_kick(p);
		if (p->rx->vq.broken)
			virtio_queue_broken(p->rx);
	}
	if (events & EPOLLOUT && p->tx) {
		vnet_tx_kick(p);
		if (p->tx->vq.broken)
			virtio_queue_broken(p->tx);
	}
	/* Trouble that reading did not clear would wake us for ever. */
	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN) && atomic_load(&p->active))
		p->dead = true;
	vnet_pair_watch(p);
}

static void source_start(struct vnet_pair *p)
{
	if (p->source.added)
		return;
	p->source = (struct iothread_source){ .fn = tap_ready, .ctx = p, .fd = p->tap };
	p->dead = false;
	iothread_add(p->thread, &p->source);
}

void vnet_rx_start(struct vnet_pair *p, struct virtio_queue *q)
{
	const struct virtio_dev *d = &p->net->dev;
	const uint64_t large = BIT64(VIRTIO_NET_F_GUEST_TSO4) | BIT64(VIRTIO_NET_F_GUEST_TSO6) |
			       BIT64(VIRTIO_NET_F_GUEST_UFO) | BIT64(VNET_F_GUEST_USO4) |
			       BIT64(VNET_F_GUEST_USO6);

	p->rx = q;
	p->mergeable = vdev_has(d, VIRTIO_NET_F_MRG_RXBUF);
	p->rx_need = VNET_HDR_LEN + (d->features & large ? VNET_FRAME_MAX :
							   MAX(p->net->mtu, 1500) + ETH_HLEN + 8u);
	p->first = p->n_chains = p->iov_first = p->n_iov = 0;
	p->rx_bytes = 0;
	p->starved = false;
	source_start(p);
	vnet_pair_watch(p);
}

void vnet_tx_start(struct vnet_pair *p, struct virtio_queue *q)
{
	p->tx = q;
	p->tx_blocked = false;
	source_start(p);
}

void vnet_queue_stop(struct vnet_pair *p, struct virtio_queue *q)
{
	if (p->rx == q)
		p->rx = NULL;
	if (p->tx == q)
		p->tx = NULL;
	if (!p->rx && !p->tx)
		iothread_del(&p->source);
	else
		vnet_pair_watch(p);
	virtio_queue_stopped(q);
}
