/* SPDX-License-Identifier: MIT */
/*
 * virtio-blk (VIRTIO 1.2, 5.2): requests from virtqueues to lib/block and back.
 *
 *   kick: pop -> parse in place -> blk_submit, zero-copy on the guest's buffers
 *   done: status byte -> used ring; interrupts once a turn
 *
 * A request's storage comes from a pool with one entry a descriptor, which vq_pop() never
 * lets overflow; the pool is a stack, so a guest that keeps few requests in flight touches
 * few pages of it. A queue gives itself up (stop) when its last request has come back.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "io/blkio.h"
#include "virtio/blk_req.h"

#define VBLK_CLASS 0x018000	/* PCI class: mass storage, other */
#define VBLK_QUEUE_SIZE 256
#define VBLK_SEG_MAX (VBLK_QUEUE_SIZE - 2)	/* less header and status */
/* Entries for one request, with room for buffers that cross memory regions; off the 4 KiB stride. */
#define VBLK_IOV (VBLK_QUEUE_SIZE + 20)
#define VBLK_BATCH 64		/* requests served in one go */
#define VBLK_RANGES_MAX 16	/* segments of a DISCARD or WRITE_ZEROES */
#define VBLK_RANGE_SECTORS (UINT32_C(1) << 21)	/* 1 GiB each: at most 16 GiB a request */

struct vblk;
struct vblk_queue;

struct vblk_rq {
	struct blk_req req;
	struct vblk_queue *vq;
	struct vblk_rq *next_free;
	struct iovec *iov;
	uint8_t *status;
	uint32_t written;	/* bytes for the used ring, status included, if it goes well */
	uint16_t head;
	bool flush_after;	/* write cache off: a flush follows the write */
	uint32_t type;
	struct iov_cursor ranges;	/* segments yet to do */
	unsigned n_ranges;
};

struct vblk_queue {
	struct virtio_queue *q;
	struct vblk *blk;
	struct blkio *io;
	struct vblk_rq *rqs, *free;
	struct iovec *iovs;
	unsigned inflight;
	bool stopping;
	struct iothread_defer publish;
};

struct vblk {
	struct virtio_dev dev;
	struct blk *blk;
	char serial[VIRTIO_BLK_ID_BYTES];
	bool wce_start;
	_Atomic bool wce;	/* configuration field: the driver's choice of write cache */
	unsigned n_queues;
	struct vblk_queue *queue;
};

/* ---- completion (I/O thread) ------------------------------------------------------------------ */

static void rq_finish(struct vblk_rq *rq, uint8_t status)
{
	struct vblk_queue *v = rq->vq;
	struct virtqueue *vq = &v->q->vq;

	rq->next_free = v->free;
	v->free = rq;
	v->inflight--;
	if (v->stopping) {
		/* The rings are the driver's again soon; nothing more is written to them. */
		if (!v->inflight)
			virtio_queue_stopped(v->q);
		return;
	}
	*rq->status = status;
	vq_done_write(vq, &(struct iovec){ rq->status, 1 }, 1, 1);
	vq_push(vq, rq->head, status == VIRTIO_BLK_S_OK ? rq->written : 1);
	/* A driver that polls goes on at once; the interrupt waits for the rest of the batch. */
	vq_publish(vq);
	iothread_defer(v->q->thread, &v->publish);
}

static uint8_t status_of(int result)
{
	if (!result)
		return VIRTIO_BLK_S_OK;
	return result == -ENOTSUP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void rq_submit(struct vblk_rq *rq)
{
	blk_submit(blkio_queue(rq->vq->io), &rq->req);
}

static void rq_done(struct blk_req *req)
{
	struct vblk_rq *rq = container_of(req, struct vblk_rq, req);

	if (!req->result && rq->flush_after) {
		rq->flush_after = false;
		req->op = BLK_OP_FLUSH;
		rq_submit(rq);
		return;
	}
	if (req->op == BLK_OP_READ)
		vq_done_write(&rq->vq->q->vq, req->iov, req->iovcnt, req->len);
	rq_finish(rq, status_of(req->result));
}

static void publish(void *ctx)
{
	struct vblk_queue *v = ctx;

	if (!v->stopping)
		virtio_queue_publish(v->q);
}

/* ---- requests (I/O thread) -------------------------------------------------------------------- */

static bool write_cache_on(struct vblk *b)
{
	/* 5.2.6.2: without CONFIG_WCE the cache is on if the driver can flush. */
	if (vdev_has(&b->dev, VIRTIO_BLK_F_CONFIG_WCE))
		return atomic_load_explicit(&b->wce, memory_order_relaxed);
	return vdev_has(&b->dev, VIRTIO_BLK_F_FLUSH);
}

static void start_io(struct vblk_rq *rq, const struct vblk_header *h, struct iovec *data,
		     unsigned n, uint64_t len)
{
	struct vblk *b = rq->vq->blk;
	bool write = h->type == VIRTIO_BLK_T_OUT;
	struct blk_req *req = &rq->req;

	if (!vblk_io_range(h, len, blk_size(b->blk), &req->off) ||
	    (write && blk_readonly(b->blk))) {
		rq_finish(rq, VIRTIO_BLK_S_IOERR);
		return;
	}
	req->op = write ? BLK_OP_WRITE : BLK_OP_READ;
	req->len = len;
	req->iov = data;
	req->iovcnt = n;
	rq->written = write ? 1 : (uint32_t)len + 1;
	rq->flush_after = write && !write_cache_on(b);
	rq_submit(rq);
}

static void next_range(struct vblk_rq *rq);

static void range_done(struct blk_req *req)
{
	struct vblk_rq *rq = container_of(req, struct vblk_rq, req);

	if (req->result)
		rq_finish(rq, status_of(req->result));
	else
		next_range(rq);
}

/* Recursion through range_done() ends after VBLK_RANGES_MAX segments. */
static void next_range(struct vblk_rq *rq)
{
	struct vblk *b = rq->vq->blk;
	struct vblk_range r;
	int err;

	if (!rq->n_ranges) {
		if (write_cache_on(b)) {
			rq_finish(rq, VIRTIO_BLK_S_OK);
			return;
		}
		rq->req.op = BLK_OP_FLUSH;
		rq->req.done = rq_done;
		rq_submit(rq);
		return;
	}
	rq->n_ranges--;
	err = vblk_next_range(&rq->ranges, rq->type, blk_size(b->blk),
			      (uint64_t)VBLK_RANGE_SECTORS * SECTOR_LEN, &r);
	if (err) {
		rq_finish(rq, status_of(err));
		return;
	}
	rq->req.op = rq->type == VIRTIO_BLK_T_DISCARD ? BLK_OP_DISCARD : BLK_OP_WRITE_ZEROES;
	rq->req.off = r.off;
	rq->req.len = r.len;
	rq->req.unmap = r.unmap;
	rq->req.done = range_done;
	rq_submit(rq);
}

static void start_ranges(struct vblk_rq *rq, struct iovec *data, unsigned n, uint64_t len)
{
	const uint64_t one = sizeof(struct virtio_blk_discard_write_zeroes);
	struct vblk *b = rq->vq->blk;
	unsigned feature = rq->type == VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_F_DISCARD :
							      VIRTIO_BLK_F_WRITE_ZEROES;

	if (!vdev_has(&b->dev, feature)) {
		rq_finish(rq, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (!len || len % one || len / one > VBLK_RANGES_MAX || blk_readonly(b->blk)) {
		rq_finish(rq, VIRTIO_BLK_S_IOERR);
		return;
	}
	rq->ranges = iov_begin(data, n);
	rq->n_ranges = (unsigned)(len / one);
	rq->req.iov = NULL;
	rq->req.iovcnt = 0;
	rq->written = 1;
	next_range(rq);
}

static void start_flush(struct vblk_rq *rq)
{
	rq->req.op = BLK_OP_FLUSH;
	rq->req.off = rq->req.len = 0;
	rq->req.iov = NULL;
	rq->req.iovcnt = 0;
	rq->written = 1;
	rq_submit(rq);
}

static void get_id(struct vblk_rq *rq, struct iovec *data, unsigned n)
{
	struct iov_cursor c = iov_begin(data, n);
	size_t len = iov_copy_in(&c, rq->vq->blk->serial, VIRTIO_BLK_ID_BYTES);

	vq_done_write(&rq->vq->q->vq, data, n, len);
	rq->written = (uint32_t)len + 1;
	rq_finish(rq, VIRTIO_BLK_S_OK);
}

/* A chain that is no request has nowhere to put a status: back it goes, empty. */
static void start_request(struct vblk_queue *v, struct vblk_rq *rq, struct vq_chain *c)
{
	struct vblk_header h;
	struct iovec *data;
	uint64_t len;
	unsigned n;

	rq->head = c->head;
	rq->flush_after = false;
	rq->req.done = rq_done;
	v->free = rq->next_free;
	v->inflight++;
	if (vblk_parse(c, &h, &data, &n, &len, &rq->status)) {
		v->q->vq.broken = true;
		v->inflight--;
		rq->next_free = v->free;
		v->free = rq;
		return;
	}
	rq->type = h.type;
	switch (h.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT: start_io(rq, &h, data, n, len); break;
	case VIRTIO_BLK_T_FLUSH: start_flush(rq); break;
	case VIRTIO_BLK_T_GET_ID: get_id(rq, data, n); break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES: start_ranges(rq, data, n, len); break;
	default: rq_finish(rq, VIRTIO_BLK_S_UNSUPP); break;
	}
}

static void vblk_kick(struct virtio_queue *q)
{
	struct vblk_queue *v = q->priv;

	for (unsigned i = 0; i < VBLK_BATCH && v->free; i++) {
		struct vblk_rq *rq = v->free;
		struct vq_chain c = { .iov = rq->iov, .iov_max = VBLK_IOV };

		if (vq_pop(&q->vq, &c))
			return;
		start_request(v, rq, &c);
	}
}

static void vblk_start(struct virtio_queue *q)
{
	struct vblk_queue *v = q->priv;

	v->stopping = false;
}

static void vblk_stop(struct virtio_queue *q)
{
	struct vblk_queue *v = q->priv;

	v->stopping = true;
	if (!v->inflight)
		virtio_queue_stopped(q);
}

/* ---- configuration (vCPU, vdev.lock held) ------------------------------------------------------- */

static void fill_config(struct vblk *b, struct virtio_blk_config *c)
{
	uint32_t cluster = blk_cluster_size(b->blk);

	*c = (struct virtio_blk_config){
		.capacity = htole64(blk_size(b->blk) / SECTOR_LEN),
		.seg_max = htole32(VBLK_SEG_MAX),
		.blk_size = htole32(SECTOR_LEN),
		.physical_block_exp = 3,	/* 4 KiB: the page cache's grain */
		.min_io_size = htole16(8),
		.opt_io_size = htole32(cluster > SECTOR_LEN ? cluster / SECTOR_LEN : 0),
		.wce = b->wce,
		.num_queues = htole16((uint16_t)b->n_queues),
		.max_discard_sectors = htole32(VBLK_RANGE_SECTORS),
		.max_discard_seg = htole32(VBLK_RANGES_MAX),
		.discard_sector_alignment = htole32(MAX(cluster / SECTOR_LEN, UINT32_C(8))),
		.max_write_zeroes_sectors = htole32(VBLK_RANGE_SECTORS),
		.max_write_zeroes_seg = htole32(VBLK_RANGES_MAX),
		.write_zeroes_may_unmap = vdev_has(&b->dev, VIRTIO_BLK_F_DISCARD),
	};
}

static void vblk_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
	struct virtio_blk_config c;

	fill_config(container_of(d, struct vblk, dev), &c);
	memcpy(data, (const char *)&c + off, len);
}

static void vblk_config_write(struct virtio_dev *d, unsigned off, const void *data, unsigned len)
{
	struct vblk *b = container_of(d, struct vblk, dev);

	if (off == offsetof(struct virtio_blk_config, wce) && len == 1 &&
	    vdev_has(d, VIRTIO_BLK_F_CONFIG_WCE))
		atomic_store(&b->wce, *(const uint8_t *)data & 1);
	else
		d->guest_errors++;
}

static void vblk_reset(struct virtio_dev *d)
{
	struct vblk *b = container_of(d, struct vblk, dev);

	atomic_store(&b->wce, b->wce_start);
}

/* ---- life (main thread) ------------------------------------------------------------------------- */

static void vblk_park(struct virtio_dev *d)
{
	struct vblk *b = container_of(d, struct vblk, dev);

	for (unsigned i = 0; i < b->n_queues; i++)
		blkio_close(b->queue[i].io);
}

static int open_queues(struct vblk *b, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; !r && i < b->n_queues; i++)
		if (!blkio_queue(b->queue[i].io))
			r = blkio_open(b->queue[i].io, e);
	return r;
}

static void vblk_unpark(struct virtio_dev *d)
{
	struct err e = { 0 };

	if (open_queues(container_of(d, struct vblk, dev), &e))
		log_error(&d->log, "%s", e.msg);
}

static int vblk_activate(struct virtio_dev *d)
{
	struct vblk *b = container_of(d, struct vblk, dev);

	for (unsigned i = 0; i < b->n_queues; i++)
		if (!blkio_queue(b->queue[i].io))
			return -EIO;	/* unpark failed and said so */
	return 0;
}

static void queue_fini(struct vblk_queue *v)
{
	if (v->io)
		blkio_close(v->io);
	blkio_free(v->io);
	free(v->rqs);
	free(v->iovs);
}

static void vblk_free(struct virtio_dev *d)
{
	struct vblk *b = container_of(d, struct vblk, dev);

	for (unsigned i = 0; i < b->n_queues; i++)
		queue_fini(&b->queue[i]);
	free(b->queue);
	vdev_fini(d);
	free(b);
}

static const struct virtio_dev_ops vblk_ops = {
	.name = "virtio-blk",
	.device_id = VIRTIO_ID_BLOCK,	/* VIRTIO 1.2, 5.2.1 */
	.class_code = VBLK_CLASS,
	.queues_max = VIRTIO_BLK_QUEUES_MAX,
	.queue_size_max = VBLK_QUEUE_SIZE,
	.features_max = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |
			BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_BLK_F_SEG_MAX) |
			BIT64(VIRTIO_BLK_F_BLK_SIZE) | BIT64(VIRTIO_BLK_F_TOPOLOGY) |
			BIT64(VIRTIO_BLK_F_FLUSH) | BIT64(VIRTIO_BLK_F_CONFIG_WCE) |
			BIT64(VIRTIO_BLK_F_MQ) | BIT64(VIRTIO_BLK_F_DISCARD) |
			BIT64(VIRTIO_BLK_F_WRITE_ZEROES) | BIT64(VIRTIO_BLK_F_RO),
	.config_len = sizeof(struct virtio_blk_config),
	.config_read = vblk_config_read,
	.config_write = vblk_config_write,
	.activate = vblk_activate,
	.start = vblk_start,
	.kick = vblk_kick,
	.stop = vblk_stop,
	.reset = vblk_reset,
	.park = vblk_park,
	.unpark = vblk_unpark,
	.free = vblk_free,
};

static uint64_t instance_features(const struct virtio_blk_cfg *cfg, unsigned queues)
{
	uint64_t f = vblk_ops.features_max;

	if (queues == 1)
		f &= ~BIT64(VIRTIO_BLK_F_MQ);
	if (!cfg->discard)
		f &= ~BIT64(VIRTIO_BLK_F_DISCARD);
	if (blk_readonly(cfg->blk))
		f &= ~(BIT64(VIRTIO_BLK_F_DISCARD) | BIT64(VIRTIO_BLK_F_WRITE_ZEROES) |
		       BIT64(VIRTIO_BLK_F_CONFIG_WCE));
	else
		f &= ~BIT64(VIRTIO_BLK_F_RO);
	return f;
}

static int queue_init(struct vblk *b, unsigned i, struct err *e)
{
	struct vblk_queue *v = &b->queue[i];

	v->q = &b->dev.queue[i];
	v->q->priv = v;
	v->blk = b;
	v->publish = (struct iothread_defer){ .fn = publish, .ctx = v };
	v->rqs = calloc(VBLK_QUEUE_SIZE, sizeof(*v->rqs));
	v->iovs = calloc(VBLK_QUEUE_SIZE * VBLK_IOV, sizeof(*v->iovs));
	if (!v->rqs || !v->iovs)
		return err_set(e, -ENOMEM, "virtio-blk: out of memory");
	for (unsigned n = VBLK_QUEUE_SIZE; n--;) {
		struct vblk_rq *rq = &v->rqs[n];

		rq->vq = v;
		rq->iov = &v->iovs[n * VBLK_IOV];
		rq->next_free = v->free;
		v->free = rq;
	}
	return blkio_new(v->q->thread, b->blk, &v->io, e);
}

int virtio_blk_new(const struct virtio_blk_cfg *cfg, struct virtio_dev **out, struct err *e)
{
	unsigned queues = cfg->queues ? cfg->queues : 1;
	struct vblk *b;
	int r;

	if (queues > VIRTIO_BLK_QUEUES_MAX)
		return err_set(e, -EINVAL, "virtio-blk: %u queues, at most %u", queues,
			       VIRTIO_BLK_QUEUES_MAX);
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "virtio-blk: out of memory");
	r = vdev_init(&b->dev, &vblk_ops, instance_features(cfg, queues), queues, cfg->threads,
		      cfg->n_threads, e);
	if (r) {
		free(b);
		return r;
	}
	b->blk = cfg->blk;
	b->wce = b->wce_start = !cfg->writethrough;
	if (cfg->serial)
		memcpy(b->serial, cfg->serial, strnlen(cfg->serial, sizeof(b->serial)));
	b->queue = calloc(queues, sizeof(*b->queue));
	r = b->queue ? 0 : err_set(e, -ENOMEM, "virtio-blk: out of memory");
	while (!r && b->n_queues < queues)
		r = queue_init(b, b->n_queues++, e);
	if (!r)
		r = open_queues(b, e);
	if (r) {
		vblk_free(&b->dev);
		return r;
	}
	*out = &b->dev;
	return 0;
}
