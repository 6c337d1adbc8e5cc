/* SPDX-License-Identifier: MIT */
/*
 * Requests on a queue's thread: enter the epoch, look up, transfer, leave; what the mapping
 * cannot answer goes to the metadata thread and comes back through blk_queue_run().
 *
 *   issue --all transfers running--> (they end) --> settle --+--> done
 *     ^                                                      +--> metadata thread --+
 *     +------------------------------ blk_queue_run() <-----------------------------+
 *
 * A request in one piece uses the transfer inside itself and the caller's iovec: nothing is
 * allocated, locked or copied. Requests in several pieces take transfers from a pool that
 * is filled at open; those that find it empty wait in line.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "hv/overflow.h"
#include "meta.h"

#define XFER_POOL 16
#define XFER_IOV 32

struct pool_xfer {
	struct blk_xfer x;
	struct pool_xfer *next;
	struct iovec iov[XFER_IOV];
};

struct blk_queue {
	struct epoch_slot slot;
	struct blk *b;
	const struct blk_io_ops *ops;
	void *ctx;
	unsigned requests; /* submitted and not done */
	struct pool_xfer pool[XFER_POOL];
	struct pool_xfer *spare;
	struct req_list starved; /* wait for a pooled transfer */
	bool feeding;		 /* somebody up the stack serves them */
	pthread_mutex_t lock;	 /* replies, and the call of wake */
	struct req_list replies;
};

static void req_settle(struct blk_req *r);

/* ---- epochs -------------------------------------------------------------------------- */

static void req_pin(struct blk_queue *q, struct req_state *s)
{
	if (s->pinned)
		return;
	s->ticket = (uint8_t)epoch_enter(&q->b->epoch, &q->slot);
	s->pinned = true;
}

static void req_unpin(struct blk_queue *q, struct req_state *s)
{
	if (s->pinned)
		epoch_leave(&q->slot, s->ticket);
	s->pinned = false;
}

static void req_post(struct blk_req *r, enum req_job job)
{
	struct blk_queue *q = req_state(r)->q;

	req_unpin(q, req_state(r));
	meta_post(q->b, r, job);
}

/* ---- transfers ----------------------------------------------------------------------- */

static void xfer_start(struct blk_req *r, struct blk_xfer *x)
{
	struct blk_queue *q = req_state(r)->q;

	x->req = r;
	x->io.fd = q->b->image[x->io.file]->file.fd;
	req_state(r)->running++;
	q->ops->submit(q->ctx, &x->io);
}

/* A transfer of the whole request by the caller's own iovec. */
static void xfer_whole(struct blk_req *r, unsigned file, uint64_t host)
{
	struct req_state *s = req_state(r);

	s->x.io = (struct blk_io){
		.op = r->op == BLK_OP_READ ? BLK_IO_READ : BLK_IO_WRITE,
		.file = file,
		.off = host,
		.len = r->len,
		.iov = r->iov,
		.iovcnt = r->iovcnt,
	};
	s->pos = r->len;
	xfer_start(r, &s->x);
}

/* As much of the next @len bytes as fits one pooled transfer's iovec. */
static uint64_t pool_slice(struct pool_xfer *p, struct iov_cursor *c, uint64_t len)
{
	uint64_t got = 0;

	p->x.io.iovcnt = 0;
	while (got < len && p->x.io.iovcnt < XFER_IOV && c->n) {
		size_t n = (size_t)MIN(len - got, (uint64_t)(c->iov->iov_len - c->skip));

		if (iov_slice(c, n, &p->iov[p->x.io.iovcnt], 1) != 1)
			break;
		p->x.io.iovcnt++;
		got += n;
	}
	return got;
}

/* Returns false if the pool is empty; the request is then in line for it. */
static bool xfer_piece(struct blk_req *r, unsigned file, uint64_t host, uint64_t len)
{
	struct req_state *s = req_state(r);
	struct blk_queue *q = s->q;

	while (len) {
		struct pool_xfer *p = q->spare;
		uint64_t n;

		if (!p) {
			s->starved = true;
			req_push(&q->starved, r);
			return false;
		}
		q->spare = p->next;
		p->x.io = (struct blk_io){
			.op = r->op == BLK_OP_READ ? BLK_IO_READ : BLK_IO_WRITE,
			.file = file,
			.off = host,
			.iov = p->iov,
		};
		n = pool_slice(p, &s->cur, len);
		p->x.io.len = n;
		s->pos += n;
		host += n;
		len -= n;
		xfer_start(r, &p->x);
	}
	return true;
}

static bool xfer_extent(struct blk_req *r, unsigned file, uint64_t host, uint64_t len)
{
	if (req_state(r)->pos || len != r->len)
		return xfer_piece(r, file, host, len);
	xfer_whole(r, file, host);
	return true;
}

/* ---- issuing ------------------------------------------------------------------------- */

/* One extent; false to stop issuing for now (job, error or starved say why). */
static bool issue_extent(struct blk_req *r)
{
	struct req_state *s = req_state(r);
	struct blk *b = s->q->b;
	bool read = r->op == BLK_OP_READ;
	struct blk_extent x;
	unsigned at;
	int error = blk_chain_map(b, r->off + s->pos, r->len - s->pos, &x, &at);

	if (error == -EAGAIN) {
		s->job = read ? JOB_LOAD : JOB_RESERVE;
		return false;
	}
	if (error) {
		s->job = error == -EUCLEAN && !at ? JOB_CORRUPT : JOB_NONE;
		s->error = s->error ? s->error : error;
		return false;
	}
	if (!read && !x.in_place) {
		s->job = JOB_RESERVE;
		return false;
	}
	if (x.kind == BLK_DATA)
		return xfer_extent(r, x.file, x.host_off, x.len);
	if (x.kind == BLK_COMPRESSED) {
		s->job = JOB_LOAD;
		return false;
	}
	iov_zero(&s->cur, x.len);
	s->pos += x.len;
	return true;
}

/* Into the clusters that were reserved for it. */
static bool issue_reserved(struct blk_req *r)
{
	struct req_state *s = req_state(r);
	const struct blk_resv *rv = s->resv;
	uint64_t off = r->off + s->pos;

	if (off >= rv->data_end) {
		s->job = JOB_COMMIT;
		return false;
	}
	return xfer_extent(r, 0, rv->host_off + (off - rv->off), rv->data_end - off);
}

static void issue_flush(struct blk_req *r)
{
	struct req_state *s = req_state(r);
	struct blk *b = s->q->b;

	s->pos = r->len;
	if (b->cache == BLK_CACHE_UNSAFE || b->readonly)
		return;
	if (atomic_load(&b->meta_dirty)) {
		s->job = JOB_FLUSH;
		return;
	}
	s->x.io = (struct blk_io){ .op = BLK_IO_FDATASYNC };
	xfer_start(r, &s->x);
}

/* Raw images only: the file system does it. */
static void issue_fallocate(struct blk_req *r)
{
	struct req_state *s = req_state(r);
	bool punch = r->op == BLK_OP_DISCARD || r->unmap;

	s->pos = r->len;
	s->x.io = (struct blk_io){
		.op = BLK_IO_FALLOCATE,
		.off = r->off,
		.len = r->len,
		.falloc_mode =
			(punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE,
	};
	xfer_start(r, &s->x);
}

static void issue_more(struct blk_req *r)
{
	struct req_state *s = req_state(r);

	if (s->flushing || r->op == BLK_OP_FLUSH) {
		issue_flush(r);
		return;
	}
	req_pin(s->q, s);
	if (r->op == BLK_OP_DISCARD || r->op == BLK_OP_WRITE_ZEROES) {
		issue_fallocate(r);
		return;
	}
	while (!s->error && (s->resv || s->pos < r->len))
		if (!(s->resv ? issue_reserved(r) : issue_extent(r)))
			return;
}

/* The extra count keeps a transfer that ends at once from settling under our feet. */
static void req_issue(struct blk_req *r)
{
	struct req_state *s = req_state(r);

	s->running++;
	s->job = JOB_NONE;
	issue_more(r);
	if (--s->running == 0)
		req_settle(r);
}

/* ---- settling ------------------------------------------------------------------------ */

static void req_finish(struct blk_req *r)
{
	struct req_state *s = req_state(r);
	struct blk_queue *q = s->q;

	req_unpin(q, s);
	if (!s->error && !s->flushing && q->b->cache == BLK_CACHE_WRITETHROUGH &&
	    r->op != BLK_OP_READ && r->op != BLK_OP_FLUSH) {
		s->flushing = true;
		req_issue(r);
		return;
	}
	r->result = s->error;
	q->requests--;
	r->done(r);
}

/* No transfer runs, none is being issued: what next? */
static void req_settle(struct blk_req *r)
{
	struct req_state *s = req_state(r);

	if (s->starved)
		return;
	if (s->resv && s->error)
		req_post(r, JOB_ABORT);
	else if (s->job == JOB_CORRUPT || (s->job && !s->error))
		req_post(r, s->job);
	else
		req_finish(r);
}

/* Serve those in line, one at a time and never from within each other's completions. */
static void queue_feed(struct blk_queue *q)
{
	struct blk_req *r;

	if (q->feeding)
		return;
	q->feeding = true;
	while (q->spare && (r = req_pop(&q->starved))) {
		req_state(r)->starved = false;
		req_issue(r);
	}
	q->feeding = false;
}

/* A file that cannot do it gets zeros written instead; a discard is only advice. */
static int fallocate_failed(struct blk_req *r, int result)
{
	if (result != -EOPNOTSUPP && result != -EINVAL && result != -ENODEV)
		return result;
	if (r->op == BLK_OP_WRITE_ZEROES) {
		req_state(r)->pos = 0;
		req_state(r)->job = JOB_WHOLE;
	}
	return 0;
}

void blk_io_done(struct blk_queue *q, struct blk_io *io, int result)
{
	struct blk_xfer *x = container_of(io, struct blk_xfer, io);
	struct blk_req *r = x->req;
	struct req_state *s = req_state(r);

	assert(result <= 0 && s->running && s->q == q);
	if (result && io->op == BLK_IO_FALLOCATE)
		result = fallocate_failed(r, result);
	if (result && !s->error)
		s->error = result;
	if (x != &s->x) {
		struct pool_xfer *p = container_of(x, struct pool_xfer, x);

		p->next = q->spare;
		q->spare = p;
	}
	if (--s->running == 0)
		req_settle(r);
	queue_feed(q);
}

/* ---- submitting ---------------------------------------------------------------------- */

static bool iov_is_aligned(const struct blk_req *r, uint32_t align)
{
	uintptr_t bits = (uintptr_t)(r->off | r->len);

	for (unsigned i = 0; i < r->iovcnt; i++)
		bits |= (uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len;
	return IS_ALIGNED(bits, (uintptr_t)align);
}

/* Requests that no queue thread can serve from the start. */
static bool is_owners(const struct blk *b, const struct blk_req *r)
{
	bool raw = blk_top(b)->drv == &blk_raw_driver;

	switch (r->op) {
	case BLK_OP_FLUSH: return false;
	case BLK_OP_DISCARD:
	case BLK_OP_WRITE_ZEROES: return !raw || !IS_ALIGNED(r->off | r->len, b->align);
	case BLK_OP_WRITE: /* sector 0 of a probed raw disk is guarded */
		if (raw && blk_top(b)->probed && r->off < 512)
			return true;
		break;
	case BLK_OP_READ: break;
	}
	return b->any_direct && (b->slow_io || !iov_is_aligned(r, b->align));
}

static int check_request(const struct blk *b, const struct blk_req *r)
{
	if (r->op == BLK_OP_FLUSH)
		return 0;
	if (!range_ok(r->off, r->len, b->size))
		return -EINVAL;
	if ((r->op == BLK_OP_READ || r->op == BLK_OP_WRITE) &&
	    iov_total(r->iov, r->iovcnt) != r->len)
		return -EINVAL;
	if (r->op == BLK_OP_READ)
		return 0;
	if (b->readonly)
		return -EROFS;
	return atomic_load_explicit(&b->corrupt, memory_order_relaxed) ? -EUCLEAN : 0;
}

void blk_submit(struct blk_queue *q, struct blk_req *r)
{
	struct req_state *s = req_state(r);

	memset(s, 0, offsetof(struct req_state, x));
	s->q = q;
	s->error = check_request(q->b, r);
	q->requests++;
	if (s->error || (!r->len && r->op != BLK_OP_FLUSH)) {
		req_finish(r);
		return;
	}
	if (r->op == BLK_OP_READ || r->op == BLK_OP_WRITE)
		s->cur = iov_begin(r->iov, r->iovcnt);
	if (is_owners(q->b, r))
		req_post(r, JOB_WHOLE);
	else
		req_issue(r);
}

/* ---- replies ------------------------------------------------------------------------- */

void queue_reply(struct blk_req *r)
{
	struct blk_queue *q = req_state(r)->q;
	bool was_empty;

	/* wake() under the lock: the queue cannot be closed before we are out of it. */
	pthread_mutex_lock(&q->lock);
	was_empty = !q->replies.head;
	req_push(&q->replies, r);
	if (was_empty)
		q->ops->wake(q->ctx);
	pthread_mutex_unlock(&q->lock);
}

/* Back from the metadata thread: done, or on with the next piece. */
static void req_resume(struct blk_req *r)
{
	struct req_state *s = req_state(r);

	if (s->resv || (!s->error && !s->flushing && r->op != BLK_OP_FLUSH && s->pos < r->len))
		req_issue(r);
	else
		req_finish(r);
}

void blk_queue_run(struct blk_queue *q)
{
	struct req_list got;
	struct blk_req *r;

	pthread_mutex_lock(&q->lock);
	got = q->replies;
	q->replies = (struct req_list){ 0 };
	pthread_mutex_unlock(&q->lock);
	while ((r = req_pop(&got)))
		req_resume(r);
}

/* ---- opening and closing ------------------------------------------------------------- */

static int queue_register(struct blk *b, struct blk_queue *q, struct err *e)
{
	int r = b->queues ? 0 : meta_start(b, e);

	if (r)
		return r;
	pthread_mutex_lock(&b->lock);
	q->slot.next = b->slots;
	b->slots = &q->slot;
	b->queues++;
	pthread_mutex_unlock(&b->lock);
	return 0;
}

int blk_queue_open(struct blk *b, const struct blk_io_ops *ops, void *ctx, struct blk_queue **out,
		   struct err *e)
{
	struct blk_queue *q = aligned_alloc(64, ALIGN_UP(sizeof(*q), 64));
	int r;

	if (!q)
		return err_set(e, -ENOMEM, "out of memory");
	memset(q, 0, sizeof(*q));
	q->b = b;
	q->ops = ops;
	q->ctx = ctx;
	pthread_mutex_init(&q->lock, NULL);
	for (int i = 0; i < XFER_POOL; i++) {
		q->pool[i].next = q->spare;
		q->spare = &q->pool[i];
	}
	r = queue_register(b, q, e);
	if (r) {
		pthread_mutex_destroy(&q->lock);
		free(q);
		return r;
	}
	*out = q;
	return 0;
}

void blk_queue_close(struct blk_queue *q)
{
	struct blk *b = q->b;
	struct epoch_slot **at = &b->slots;
	bool last;

	assert(!q->requests);
	pthread_mutex_lock(&b->lock);
	while (*at != &q->slot)
		at = &(*at)->next;
	*at = q->slot.next;
	last = --b->queues == 0;
	pthread_mutex_unlock(&b->lock);
	if (last)
		meta_stop(b);
	pthread_mutex_lock(&q->lock); /* a reply's wake() has returned */
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
