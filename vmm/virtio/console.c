/* SPDX-License-Identifier: MIT */
/*
 * virtio-console (VIRTIO 1.2, 5.3): one port, bytes between two descriptors and two queues.
 *
 * Input is read only into buffers that the guest has given, output that does not fit waits
 * in the guest's own buffer: nothing is stored here.
 */
#include "virtio/console.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/iov.h"

#define CON_CLASS 0x078000	/* PCI class: communication, other */
#define CON_QUEUE_SIZE 64
#define CON_IOV 128
#define CON_RX 0
#define CON_TX 1
#define CON_BATCH 32
#define CON_WRITE_MAX KIB(64)	/* bytes of one writev: other devices share the thread */

struct virtio_con {
	struct virtio_dev dev;
	int in_fd, out_fd;
	uint16_t cols, rows;	/* vdev.lock */
	struct iothread *thread;
	/* The thread's. */
	struct iothread_source in, out;
	struct virtio_queue *rx, *tx;	/* NULL while not running */
	bool in_starved;	/* input may be there, no buffer is */
	bool in_closed, out_closed;
	bool tx_blocked;	/* tx_chain waits for out_fd */
	bool tx_pending;	/* tx_chain was popped and not all of it is written */
	struct vq_chain tx_chain;
	uint64_t tx_done;	/* bytes of it written */
	struct iovec rx_iov[CON_IOV], tx_iov[CON_IOV], tx_rest[CON_IOV];
};

static struct virtio_con *to_con(struct virtio_dev *d)
{
	return container_of(d, struct virtio_con, dev);
}

static void con_watch(struct virtio_con *c)
{
	bool in = c->rx && !c->rx->vq.broken && !c->in_starved && !c->in_closed;
	bool out = c->tx && !c->tx->vq.broken && c->tx_blocked && !c->out_closed;

	iothread_mod(&c->in, in ? EPOLLIN : 0);
	iothread_mod(&c->out, out ? EPOLLOUT : 0);
}

/* ---- input ------------------------------------------------------------------------------- */

/* Fill one buffer, no more for one event: a second read could block where @in_fd does. */
static void rx_one(struct virtio_con *c)
{
	struct vq_chain ch = { .iov = c->rx_iov, .iov_max = CON_IOV };
	struct virtqueue *vq = &c->rx->vq;
	ssize_t n;

	if (vq_pop(vq, &ch)) {
		c->in_starved = !vq->broken;
		return;
	}
	n = readv(c->in_fd, ch.iov + ch.n_out, (int)ch.n_in);
	if (n <= 0) {
		vq_unpop(vq);
		c->in_closed = n == 0 || (errno != EAGAIN && errno != EINTR);
		return;
	}
	vq_done_write(vq, ch.iov + ch.n_out, ch.n_in, (uint64_t)n);
	vq_push(vq, ch.head, (uint32_t)n);
}

static void con_input(struct virtio_con *c)
{
	if (!c->rx || c->in_closed)
		return;
	c->in_starved = false;
	rx_one(c);
	virtio_queue_publish(c->rx);
	con_watch(c);
}

/* ---- output ------------------------------------------------------------------------------ */

/* Write what is left of the chain; true when it is through (or nobody wants it). */
static bool tx_write(struct virtio_con *c)
{
	struct iov_cursor at = iov_begin(c->tx_chain.iov, c->tx_chain.n_out);
	uint64_t left = c->tx_chain.bytes_out - c->tx_done;
	ssize_t n;

	iov_skip(&at, c->tx_done);
	n = iov_slice(&at, MIN(left, CON_WRITE_MAX), c->tx_rest, CON_IOV);
	if (c->out_closed || !left || n < 0)
		return true;
	n = writev(c->out_fd, c->tx_rest, (int)n);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		c->out_closed = true;
		return true;
	}
	c->tx_done += n > 0 ? (uint64_t)n : 0;
	return c->tx_done == c->tx_chain.bytes_out;
}

static bool tx_next(struct virtio_con *c)
{
	if (!c->tx_pending) {
		c->tx_chain = (struct vq_chain){ .iov = c->tx_iov, .iov_max = CON_IOV };
		if (vq_pop(&c->tx->vq, &c->tx_chain))
			return false;
		c->tx_pending = true;
		c->tx_done = 0;
	}
	if (!tx_write(c)) {
		c->tx_blocked = true;
		return false;
	}
	c->tx_pending = false;
	vq_push(&c->tx->vq, c->tx_chain.head, 0);
	return true;
}

static void con_output(struct virtio_con *c)
{
	if (!c->tx)
		return;
	c->tx_blocked = false;
	for (unsigned i = 0; i < CON_BATCH && tx_next(c); i++)
		continue;
	virtio_queue_publish(c->tx);
	con_watch(c);
}

/* ---- the thread's callbacks ------------------------------------------------------------------- */

static void in_ready(void *ctx, uint32_t events)
{
	struct virtio_con *c = ctx;

	con_input(c);
	if (c->rx && c->rx->vq.broken)
		virtio_queue_broken(c->rx);
}

static void out_ready(void *ctx, uint32_t events)
{
	struct virtio_con *c = ctx;

	con_output(c);
	if (c->tx && c->tx->vq.broken)
		virtio_queue_broken(c->tx);
}

static void con_start(struct virtio_queue *q)
{
	struct virtio_con *c = to_con(q->dev);

	if (q->index == CON_RX) {
		c->rx = q;
		c->in_starved = c->in_closed = false;
		c->in = (struct iothread_source){ .fn = in_ready, .ctx = c, .fd = c->in_fd };
		if (c->in_fd < 0 || iothread_add(q->thread, &c->in))
			c->in_closed = true;
	} else {
		c->tx = q;
		c->tx_blocked = c->tx_pending = false;
		c->out_closed = c->out_fd < 0;
		c->out = (struct iothread_source){ .fn = out_ready, .ctx = c, .fd = c->out_fd };
		if (!c->out_closed)
			iothread_add(q->thread, &c->out);
	}
	con_watch(c);
}

static void con_kick(struct virtio_queue *q)
{
	struct virtio_con *c = to_con(q->dev);

	if (q->index == CON_TX)
		con_output(c);
	else if (c->in_starved)	/* else there may be no input, and reading could block */
		con_input(c);
}

static bool con_wants(struct virtio_queue *q)
{
	struct virtio_con *c = to_con(q->dev);

	return q->index == CON_RX ? c->in_starved : !c->tx_blocked;
}

static void con_stop(struct virtio_queue *q)
{
	struct virtio_con *c = to_con(q->dev);

	if (q->index == CON_RX) {
		iothread_del(&c->in);
		c->rx = NULL;
	} else {
		iothread_del(&c->out);
		c->tx = NULL;
	}
	virtio_queue_stopped(q);
}

/* ---- configuration and life --------------------------------------------------------------------- */

static void con_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
	struct virtio_con *c = to_con(d);
	struct virtio_console_config cfg = { .cols = htole16(c->cols), .rows = htole16(c->rows) };

	memcpy(data, (const char *)&cfg + off, len);
}

void virtio_console_resize(struct virtio_dev *d, uint16_t cols, uint16_t rows)
{
	pthread_mutex_lock(&d->lock);
	to_con(d)->cols = cols;
	to_con(d)->rows = rows;
	pthread_mutex_unlock(&d->lock);
	vdev_config_changed(d);
}

static void con_free(struct virtio_dev *d)
{
	struct virtio_con *c = to_con(d);

	vdev_fini(d);
	fd_close(&c->in_fd);
	fd_close(&c->out_fd);
	free(c);
}

static const struct virtio_dev_ops con_ops = {
	.name = "virtio-console",
	.device_id = VIRTIO_ID_CONSOLE,	/* VIRTIO 1.2, 5.3.1 */
	.class_code = CON_CLASS,
	.queues_max = 2,		/* 5.3.2: receiveq and transmitq of port 0 */
	.queue_size_max = CON_QUEUE_SIZE,
	.features_max = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |
			BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_CONSOLE_F_SIZE),
	.config_len = sizeof(struct virtio_console_config),
	.config_read = con_config_read,
	.start = con_start,
	.kick = con_kick,
	.wants = con_wants,
	.stop = con_stop,
	.free = con_free,
};

/* A copy of its own, so that in and out are two things to epoll even if they are one. */
static int dup_fd(int fd, int *out, struct err *e)
{
	*out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && *out < 0 ? err_errno(e, "virtio-console: dup") : 0;
}

int virtio_console_new(const struct virtio_console_cfg *cfg, struct virtio_dev **out,
		       struct err *e)
{
	struct virtio_con *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(e, -ENOMEM, "virtio-console: out of memory");
	c->in_fd = c->out_fd = -1;
	c->cols = cfg->cols;
	c->rows = cfg->rows;
	r = dup_fd(cfg->in_fd, &c->in_fd, e);
	if (!r)
		r = dup_fd(cfg->out_fd, &c->out_fd, e);
	if (!r)
		r = vdev_init(&c->dev, &con_ops, con_ops.features_max, 2, &cfg->thread, 1, e);
	if (r) {
		fd_close(&c->in_fd);
		fd_close(&c->out_fd);
		free(c);
		return r;
	}
	*out = &c->dev;
	return 0;
}
