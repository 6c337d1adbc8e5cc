/* SPDX-License-Identifier: MIT */
/*
 * Transfers for lib/block.
 *
 *   submit -> NOWAIT attempt -> all done: blk_io_done at once (the cached case, no allocation)
 *                            -> some or nothing: a struct transfer, the rest through the ring
 *
 * O_DIRECT files skip the attempt: NOWAIT does not keep them from waiting for the disk.
 */
#include "io/blkio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/iov.h"
#include "io/uring.h"

#define POOL_CHUNK 32

struct transfer {
	struct uring_op op;
	struct blkio *bio;
	struct blk_io *io;
	uint64_t done;		/* bytes moved so far */
	struct iovec *rest;	/* what is left of io->iov after a short transfer; owned */
	struct transfer *next;
};
struct chunk {
	struct chunk *next;
	struct transfer t[POOL_CHUNK];
};
struct file {
	bool direct;
	bool no_nowait_write;	/* the file system does not know it */
};

struct blkio {
	struct iothread *thread;
	struct uring *ring;
	struct blk *blk;
	struct blk_queue *queue;	/* the thread's, changed by iothread_call */
	unsigned slot, n_files;		/* of the ring's file table */
	struct file *file;
	struct transfer *free;
	struct chunk *chunks;
	struct iothread_msg wake_msg;
	_Atomic bool woken;		/* wake_msg is on its way */
};

/* ---- transfers that were not finished on the spot -------------------------------------------- */

static struct transfer *transfer_get(struct blkio *b)
{
	struct transfer *t = b->free;

	if (!t) {
		struct chunk *c = calloc(1, sizeof(*c));

		if (!c)
			return NULL;
		c->next = b->chunks;
		b->chunks = c;
		for (unsigned i = 0; i < POOL_CHUNK; i++) {
			c->t[i].next = b->free;
			b->free = &c->t[i];
		}
		t = b->free;
	}
	b->free = t->next;
	return t;
}

static void transfer_end(struct transfer *t, int result)
{
	struct blkio *b = t->bio;
	struct blk_io *io = t->io;

	free(t->rest);
	t->rest = NULL;
	t->next = b->free;
	b->free = t;
	blk_io_done(b->queue, io, result);
}

static void zero_tail(const struct blk_io *io, uint64_t from)
{
	struct iov_cursor c = iov_begin(io->iov, io->iovcnt);

	iov_skip(&c, from);
	iov_zero(&c, io->len - from);
}

/* The iovec of what is left; io->iov itself while nothing was moved. NULL: out of memory. */
static const struct iovec *transfer_rest(struct transfer *t, unsigned *n)
{
	const struct blk_io *io = t->io;
	struct iov_cursor c = iov_begin(io->iov, io->iovcnt);
	ssize_t used;

	*n = io->iovcnt;
	if (!t->done)
		return io->iov;
	if (!t->rest)
		t->rest = calloc(io->iovcnt, sizeof(*t->rest));
	if (!t->rest)
		return NULL;
	iov_skip(&c, t->done);
	used = iov_slice(&c, io->len - t->done, t->rest, io->iovcnt);
	*n = used > 0 ? (unsigned)used : 0;
	return t->rest;
}

/* Take in the result of one attempt; true if the transfer is over. */
static bool transfer_advance(struct transfer *t, ssize_t res)
{
	struct blk_io *io = t->io;

	if (res == -EINTR || res == -EAGAIN)
		return false;
	if (res < 0 || io->op == BLK_IO_FDATASYNC || io->op == BLK_IO_FALLOCATE) {
		transfer_end(t, res < 0 ? (int)res : 0);
		return true;
	}
	if (res == 0 && io->op == BLK_IO_READ) {
		zero_tail(io, t->done);	/* past the end of the file */
		transfer_end(t, 0);
		return true;
	}
	if (res == 0) {
		transfer_end(t, -EIO);
		return true;
	}
	t->done += (uint64_t)res;
	if (t->done < io->len)
		return false;
	transfer_end(t, 0);
	return true;
}

static void ring_done(struct uring_op *op, int res);

static void ring_start(struct transfer *t)
{
	struct blkio *b = t->bio;
	struct blk_io *io = t->io;
	unsigned slot = b->slot + io->file, n;
	const struct iovec *iov;

	t->op.done = ring_done;
	switch (io->op) {
	case BLK_IO_FDATASYNC: uring_fdatasync(b->ring, &t->op, slot); return;
	case BLK_IO_FALLOCATE:
		uring_fallocate(b->ring, &t->op, slot, io->falloc_mode, io->off, io->len);
		return;
	case BLK_IO_READ:
	case BLK_IO_WRITE: break;
	}
	iov = transfer_rest(t, &n);
	if (!iov)
		transfer_end(t, -ENOMEM);
	else if (io->op == BLK_IO_READ)
		uring_readv(b->ring, &t->op, slot, iov, n, io->off + t->done);
	else
		uring_writev(b->ring, &t->op, slot, iov, n, io->off + t->done);
}

static void ring_done(struct uring_op *op, int res)
{
	struct transfer *t = container_of(op, struct transfer, op);

	if (!transfer_advance(t, res))
		ring_start(t);
}

static ssize_t blocking_attempt(struct transfer *t)
{
	struct blk_io *io = t->io;
	const struct iovec *iov;
	unsigned n;
	ssize_t r;

	if (io->op == BLK_IO_FDATASYNC)
		return fdatasync(io->fd) < 0 ? -errno : 0;
	if (io->op == BLK_IO_FALLOCATE)
		return fallocate(io->fd, io->falloc_mode, (off_t)io->off, (off_t)io->len) < 0 ?
			       -errno :
			       0;
	iov = transfer_rest(t, &n);
	if (!iov)
		return -ENOMEM;
	r = io->op == BLK_IO_READ ? preadv(io->fd, iov, (int)n, (off_t)(io->off + t->done)) :
				    pwritev(io->fd, iov, (int)n, (off_t)(io->off + t->done));
	return r < 0 ? -errno : r;
}

static void start_slow(struct blkio *b, struct blk_io *io, uint64_t done)
{
	struct transfer *t = transfer_get(b);

	if (!t) {
		blk_io_done(b->queue, io, -ENOMEM);
		return;
	}
	t->bio = b;
	t->io = io;
	t->done = done;
	if (b->ring) {
		ring_start(t);
		return;
	}
	while (!transfer_advance(t, blocking_attempt(t)))
		continue;
}

/* ---- struct blk_io_ops --------------------------------------------------------------------------- */

static bool may_nowait(const struct blkio *b, const struct blk_io *io)
{
	const struct file *f = &b->file[io->file];

	return (io->op == BLK_IO_READ || (io->op == BLK_IO_WRITE && !f->no_nowait_write)) &&
	       !f->direct;
}

static void bio_submit(void *ctx, struct blk_io *io)
{
	struct blkio *b = ctx;
	ssize_t r;

	if (!may_nowait(b, io)) {
		start_slow(b, io, 0);
		return;
	}
	if (io->op == BLK_IO_READ)
		r = preadv2(io->fd, io->iov, (int)io->iovcnt, (off_t)io->off, RWF_NOWAIT);
	else
		r = pwritev2(io->fd, io->iov, (int)io->iovcnt, (off_t)io->off, RWF_NOWAIT);
	if (r == (ssize_t)io->len)
		blk_io_done(b->queue, io, 0);
	else if (r < 0 && errno == EOPNOTSUPP) {
		b->file[io->file].no_nowait_write |= io->op == BLK_IO_WRITE;
		start_slow(b, io, 0);
	} else {
		start_slow(b, io, r > 0 ? (uint64_t)r : 0);
	}
}

static void run_woken(void *ctx)
{
	struct blkio *b = ctx;

	atomic_store(&b->woken, false);
	if (b->queue)
		blk_queue_run(b->queue);
}

static void bio_wake(void *ctx)
{
	struct blkio *b = ctx;

	if (!atomic_exchange(&b->woken, true))
		iothread_post(b->thread, &b->wake_msg);
}

static const struct blk_io_ops bio_ops = { .submit = bio_submit, .wake = bio_wake };

/* ---- life ----------------------------------------------------------------------------------- */

static int add_files(struct blkio *b, struct err *e)
{
	int fds[BLK_CHAIN_MAX], slot = 0;

	b->n_files = MIN(blk_files(b->blk), (unsigned)BLK_CHAIN_MAX);
	b->file = calloc(b->n_files, sizeof(*b->file));
	if (!b->file)
		return err_set(e, -ENOMEM, "I/O thread: out of memory");
	for (unsigned i = 0; i < b->n_files; i++) {
		int flags;

		fds[i] = blk_file_fd(b->blk, i);
		flags = fcntl(fds[i], F_GETFL);
		b->file[i].direct = flags >= 0 && flags & O_DIRECT;
	}
	if (b->ring)
		slot = uring_add_files(b->ring, fds, b->n_files);
	if (slot < 0)
		return err_set(e, slot, "io_uring: file table: %s", strerror(-slot));
	b->slot = (unsigned)slot;
	return 0;
}

int blkio_new(struct iothread *t, struct blk *blk, struct blkio **out, struct err *e)
{
	struct blkio *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "I/O thread: out of memory");
	b->thread = t;
	b->ring = iothread_uring(t);
	b->blk = blk;
	b->wake_msg = (struct iothread_msg){ .fn = run_woken, .ctx = b };
	r = add_files(b, e);
	if (r) {
		free(b->file);
		free(b);
		return r;
	}
	*out = b;
	return 0;
}

void blkio_free(struct blkio *b)
{
	if (!b)
		return;
	assert(!b->queue);
	if (b->ring)
		uring_del_files(b->ring, b->slot, b->n_files);
	while (b->chunks) {
		struct chunk *c = b->chunks;

		b->chunks = c->next;
		free(c);
	}
	free(b->file);
	free(b);
}

struct swap {
	struct blkio *b;
	struct blk_queue *queue;
};

static void swap_queue(void *ctx)
{
	struct swap *s = ctx;

	s->b->queue = s->queue;
}

static void nothing(void *ctx)
{
}

int blkio_open(struct blkio *b, struct err *e)
{
	struct swap s = { .b = b };
	int r = blk_queue_open(b->blk, &bio_ops, b, &s.queue, e);

	if (!r)
		iothread_call(b->thread, swap_queue, &s);
	return r;
}

/*
 * The thread lets go first, so that a late wake finds nothing; the second call is there to
 * let a wake that is on its way arrive before the storage of its message goes.
 */
void blkio_close(struct blkio *b)
{
	struct swap s = { .b = b, .queue = NULL };
	struct blk_queue *q = b->queue;

	if (!q)
		return;
	iothread_call(b->thread, swap_queue, &s);
	blk_queue_close(q);
	iothread_call(b->thread, nothing, NULL);
}

struct blk_queue *blkio_queue(const struct blkio *b)
{
	return b->queue;
}
