/* SPDX-License-Identifier: MIT */
/* The restricted io_uring; see uring.h for why. */
#include "io/uring.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hv/bitmap.h"

#define SQ_ENTRIES 256
#define CQ_ENTRIES 1024

struct uring {
	struct io_uring ring;
	unsigned queued;	/* operations not yet handed to the kernel */
	pthread_mutex_t lock;	/* of the slots */
	uint64_t slots[BITMAP_WORDS(URING_FILES)];
};

static const uint8_t allowed_ops[] = {
	IORING_OP_NOP,	 IORING_OP_READV,     IORING_OP_WRITEV,	    IORING_OP_READ,
	IORING_OP_WRITE, IORING_OP_FSYNC,     IORING_OP_FALLOCATE,  IORING_OP_POLL_ADD,
	IORING_OP_TIMEOUT, IORING_OP_POLL_REMOVE, IORING_OP_ASYNC_CANCEL,
};

/* liburing 2.3 declares wrappers of these two but does not export them. */
static int ring_register(struct io_uring *ring, unsigned op, const void *arg, unsigned n)
{
	return syscall(__NR_io_uring_register, ring->ring_fd, op, arg, n) < 0 ? -errno : 0;
}

static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction res[ARRAY_SIZE(allowed_ops) + 3] = { 0 };
	unsigned n = 0;

	for (; n < ARRAY_SIZE(allowed_ops); n++) {
		res[n].opcode = IORING_RESTRICTION_SQE_OP;
		res[n].sqe_op = allowed_ops[n];
	}
	res[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	res[n++].sqe_flags = IOSQE_ASYNC | IOSQE_FIXED_FILE;
	res[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	res[n++].sqe_flags = IOSQE_FIXED_FILE;
	res[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	res[n++].register_op = IORING_REGISTER_FILES_UPDATE;
	return ring_register(ring, IORING_REGISTER_RESTRICTIONS, res, n);
}

static int ring_setup(struct io_uring *ring)
{
	struct io_uring_params p = { .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE |
					      IORING_SETUP_CLAMP,
				     .cq_entries = CQ_ENTRIES };
	int none[URING_FILES];
	int r = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);

	if (r)
		return r;
	for (unsigned i = 0; i < URING_FILES; i++)
		none[i] = -1;
	r = io_uring_register_files(ring, none, URING_FILES);
	if (!r)
		r = restrict_ring(ring);
	if (!r)
		r = ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (r)
		io_uring_queue_exit(ring);
	return r;
}

int uring_new(struct uring **out)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	r = ring_setup(&u->ring);
	if (r) {
		free(u);
		return r;
	}
	pthread_mutex_init(&u->lock, NULL);
	*out = u;
	return 0;
}

void uring_free(struct uring *u)
{
	if (!u)
		return;
	io_uring_queue_exit(&u->ring);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

int uring_fd(const struct uring *u)
{
	return u->ring.ring_fd;
}

struct io_uring *uring_raw(struct uring *u)
{
	return &u->ring;
}

/* ---- file slots -------------------------------------------------------------------------- */

static int slots_find(const struct uring *u, unsigned n)
{
	size_t at = 0;

	while (at + n <= URING_FILES) {
		size_t used;

		at = bitmap_next_zero(u->slots, URING_FILES, at);
		used = bitmap_next_set(u->slots, URING_FILES, at);
		if (used - at >= n)
			return (int)at;
		at = used;
	}
	return -ENFILE;
}

int uring_add_files(struct uring *u, const int *fds, unsigned n)
{
	int slot, r;

	pthread_mutex_lock(&u->lock);
	slot = slots_find(u, n);
	if (slot >= 0) {
		r = io_uring_register_files_update(&u->ring, (unsigned)slot, fds, n);
		if (r == (int)n)
			for (unsigned i = 0; i < n; i++)
				bitmap_set(u->slots, (unsigned)slot + i);
		else
			slot = r < 0 ? r : -EIO;
	}
	pthread_mutex_unlock(&u->lock);
	return slot;
}

void uring_del_files(struct uring *u, unsigned slot, unsigned n)
{
	int none = -1;

	pthread_mutex_lock(&u->lock);
	for (unsigned i = slot; i < slot + n; i++) {
		io_uring_register_files_update(&u->ring, i, &none, 1);
		bitmap_clear(u->slots, i);
	}
	pthread_mutex_unlock(&u->lock);
}

/* ---- operations -------------------------------------------------------------------------- */

/* A full queue is handed over first; the kernel then makes room or waits for memory. */
static struct io_uring_sqe *next_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&u->ring)))
		uring_submit(u);
	u->queued++;
	return sqe;
}

static void finish_sqe(struct io_uring_sqe *sqe, struct uring_op *op)
{
	io_uring_sqe_set_data(sqe, op);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

void uring_readv(struct uring *u, struct uring_op *op, unsigned slot, const struct iovec *iov,
		 unsigned n, uint64_t off)
{
	struct io_uring_sqe *sqe = next_sqe(u);

	io_uring_prep_readv(sqe, (int)slot, iov, n, off);
	finish_sqe(sqe, op);
}

void uring_writev(struct uring *u, struct uring_op *op, unsigned slot, const struct iovec *iov,
		  unsigned n, uint64_t off)
{
	struct io_uring_sqe *sqe = next_sqe(u);

	io_uring_prep_writev(sqe, (int)slot, iov, n, off);
	finish_sqe(sqe, op);
}

void uring_fdatasync(struct uring *u, struct uring_op *op, unsigned slot)
{
	struct io_uring_sqe *sqe = next_sqe(u);

	io_uring_prep_fsync(sqe, (int)slot, IORING_FSYNC_DATASYNC);
	finish_sqe(sqe, op);
}

void uring_fallocate(struct uring *u, struct uring_op *op, unsigned slot, int mode, uint64_t off,
		     uint64_t len)
{
	struct io_uring_sqe *sqe = next_sqe(u);

	io_uring_prep_fallocate(sqe, (int)slot, mode, (off_t)off, (off_t)len);
	finish_sqe(sqe, op);
}

bool uring_submit(struct uring *u)
{
	int r;

	if (!u->queued)
		return true;
	r = io_uring_submit(&u->ring);
	if (r > 0)
		u->queued -= MIN(u->queued, (unsigned)r);
	return !u->queued;
}

unsigned uring_reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned n = 0;

	while (n < CQ_ENTRIES && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct uring_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		op->done(op, res);
		n++;
	}
	return n;
}
