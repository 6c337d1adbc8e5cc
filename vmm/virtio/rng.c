/* SPDX-License-Identifier: MIT */
/* virtio-rng (VIRTIO 1.2, 5.4): fill what the driver hands over with the host's randomness. */
#include "virtio/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>

#include "hv/fd.h"
#include "hv/iov.h"

#define RNG_QUEUE_SIZE 64
#define RNG_REQUEST_MAX KIB(16)	/* a longer buffer gets this much: the thread has other guests' work */
#define RNG_CLASS 0x00ff00	/* PCI class: unclassified */

struct virtio_rng {
	struct virtio_dev dev;
	int fd;
	struct iovec iov[VQ_IOV_MAX];	/* I/O thread's */
	struct iovec part[VQ_IOV_MAX];
};

/* Bytes written, or -errno when the source fails. */
static ssize_t rng_fill(struct virtio_rng *g, const struct vq_chain *c)
{
	struct iov_cursor in = iov_begin(c->iov + c->n_out, c->n_in);
	uint64_t want = MIN(c->bytes_in, RNG_REQUEST_MAX);
	ssize_t n = iov_slice(&in, want, g->part, ARRAY_SIZE(g->part));

	if (n <= 0)
		return 0;
	n = readv(g->fd, g->part, (int)n);
	return n < 0 ? -errno : n;
}

static void rng_kick(struct virtio_queue *q)
{
	struct virtio_rng *g = container_of(q->dev, struct virtio_rng, dev);
	struct vq_chain c = { .iov = g->iov, .iov_max = ARRAY_SIZE(g->iov) };

	for (unsigned i = 0; i < RNG_QUEUE_SIZE && vq_pop(&q->vq, &c) == 0; i++) {
		ssize_t n = rng_fill(g, &c);

		n = n > 0 ? n : 0;
		vq_done_write(&q->vq, c.iov + c.n_out, c.n_in, (uint64_t)n);
		vq_push(&q->vq, c.head, (uint32_t)n);
	}
	virtio_queue_publish(q);
}

static void rng_free(struct virtio_dev *d)
{
	struct virtio_rng *g = container_of(d, struct virtio_rng, dev);

	vdev_fini(d);
	fd_close(&g->fd);
	free(g);
}

static const struct virtio_dev_ops virtio_rng_ops = {
	.name = "virtio-rng",
	.device_id = VIRTIO_ID_RNG,	/* VIRTIO 1.2, 5.4.1 */
	.class_code = RNG_CLASS,
	.queues_max = 1,		/* 5.4.2: requestq */
	.queue_size_max = RNG_QUEUE_SIZE,
	.features_max = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |
			BIT64(VIRTIO_RING_F_INDIRECT_DESC),
	.kick = rng_kick,
	.free = rng_free,
};

int virtio_rng_new(const struct virtio_rng_cfg *cfg, struct virtio_dev **out, struct err *e)
{
	struct virtio_rng *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "virtio-rng: out of memory");
	g->fd = fcntl(cfg->fd, F_DUPFD_CLOEXEC, 0);
	if (g->fd < 0) {
		r = err_errno(e, "virtio-rng: dup");
		free(g);
		return r;
	}
	r = vdev_init(&g->dev, &virtio_rng_ops, virtio_rng_ops.features_max, 1, &cfg->thread, 1, e);
	if (r) {
		fd_close(&g->fd);
		free(g);
		return r;
	}
	*out = &g->dev;
	return 0;
}
