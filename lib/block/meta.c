/* SPDX-License-Identifier: MIT */
/*
 * The metadata thread: the owner of a blk while queues are open.
 *
 * It takes requests in batches. Loads, reservations and commits are served in order;
 * flushes are collected and answered by one publish at the batch's end. A request whose
 * clusters are being filled by another waits on that one's reservation and is served again
 * right after its commit, before anything newer.
 *
 * It waits for disks while it loads or publishes. Requests whose mapping is known do not
 * come here, so they are not held up by that.
 *
 * System calls: futex, pread64, pwrite64, fdatasync, fallocate, clock_nanosleep, madvise,
 * mmap and munmap (the allocator's), exit.
 */
#include "meta.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define IDLE_PUBLISH_MS 1000

struct meta {
	struct blk *b;
	pthread_t thread;
	pthread_mutex_t lock; /* inbox, stop */
	pthread_cond_t posted;
	struct req_list inbox;
	bool stop;
	/* the thread's own */
	struct req_list work;	 /* of this batch */
	struct req_list flushes; /* to answer at its end */
	struct blk_resv *resvs;	 /* being filled */
	bool untidy;		 /* dropped clusters or tables wait for an epoch */
};

void meta_post(struct blk *b, struct blk_req *r, enum req_job job)
{
	struct meta *m = b->meta;
	bool was_empty;

	req_state(r)->job = job;
	pthread_mutex_lock(&m->lock);
	was_empty = !m->inbox.head;
	req_push(&m->inbox, r);
	if (was_empty)
		pthread_cond_signal(&m->posted);
	pthread_mutex_unlock(&m->lock);
}

/* ---- reservations -------------------------------------------------------------------- */

/* The oldest reservation that touches a cluster of [off, end). */
static struct blk_resv *resv_conflict(const struct meta *m, uint64_t off, uint64_t end)
{
	uint64_t cs = blk_cluster_size(m->b);

	off = off / cs * cs;
	end = DIV_ROUND_UP(end, cs) * cs;
	for (struct blk_resv *rv = m->resvs; rv; rv = rv->next)
		if (off < rv->off + rv->len && rv->off < end)
			return rv;
	return NULL;
}

static void resv_wait(struct blk_resv *rv, struct blk_req *r)
{
	struct blk_req **at = &rv->waiters;

	while (*at)
		at = &req_state(*at)->next;
	req_state(r)->next = NULL;
	*at = r;
}

/* Those who waited come before what is still in the batch. */
static void resv_release(struct meta *m, struct blk_resv *rv)
{
	struct blk_resv **at = &m->resvs;
	struct req_list first = { 0 };

	while (*at != rv)
		at = &(*at)->next;
	*at = rv->next;
	for (struct blk_req *r = rv->waiters, *next; r; r = next) {
		next = req_state(r)->next;
		req_push(&first, r);
	}
	if (first.tail) {
		req_state(first.tail)->next = m->work.head;
		if (!m->work.tail)
			m->work.tail = first.tail;
		m->work.head = first.head;
	}
	free(rv);
}

/* ---- the jobs ------------------------------------------------------------------------ */

static void meta_fail(struct meta *m, struct blk_req *r, int error)
{
	struct req_state *s = req_state(r);

	if (error == -EUCLEAN)
		blk_own_corrupt(m->b, 0);
	s->error = s->error ? s->error : error;
}

static bool is_moved_here(const struct meta *m, enum blk_extent_kind kind)
{
	return kind == BLK_COMPRESSED || m->b->slow_io;
}

/* Load tables; where that reveals bytes that only the owner can produce, produce them. */
static void job_load(struct meta *m, struct blk_req *r)
{
	struct req_state *s = req_state(r);
	struct blk_extent x;
	int error = 0;

	while (s->pos < r->len) {
		error = blk_own_map(m->b, r->off + s->pos, r->len - s->pos, &x);
		if (error || !is_moved_here(m, x.kind))
			break;
		error = blk_own_read_extent(m->b, &x, &s->cur);
		if (error)
			break;
		s->pos += x.len;
	}
	if (error)
		meta_fail(m, r, error);
}

/* The range that may be reserved for @r: up to the first cluster that somebody else fills. */
static uint64_t free_of_resvs(const struct meta *m, uint64_t off, uint64_t end)
{
	for (const struct blk_resv *rv = m->resvs; rv; rv = rv->next)
		if (rv->off >= off && rv->off < end)
			end = rv->off;
	return end;
}

static void reserve_now(struct meta *m, struct blk_req *r)
{
	struct req_state *s = req_state(r);
	struct blk_image *img = blk_top(m->b);
	uint64_t off = r->off + s->pos, end = free_of_resvs(m, off, r->off + r->len);
	struct blk_resv *rv = calloc(1, sizeof(*rv));
	int error = rv ? img->drv->reserve(img, off, end - off, rv) : -ENOMEM;

	if (error) {
		free(rv);
		meta_fail(m, r, error);
		return;
	}
	rv->waiters = NULL;
	rv->next = m->resvs;
	m->resvs = rv;
	s->resv = rv;
}

/* Returns false if @r has to wait for somebody else's reservation. */
static bool job_reserve(struct meta *m, struct blk_req *r)
{
	struct req_state *s = req_state(r);
	uint64_t off = r->off + s->pos;
	struct blk_resv *rv = resv_conflict(m, off, off + 1);
	struct blk_extent x;
	int error;

	if (rv) {
		resv_wait(rv, r);
		return false;
	}
	error = atomic_load(&m->b->corrupt) ? -EUCLEAN
					    : blk_own_map(m->b, off, r->len - s->pos, &x);
	if (error)
		meta_fail(m, r, error);
	else if (!x.in_place)
		reserve_now(m, r);
	return true;
}

static void job_commit(struct meta *m, struct blk_req *r)
{
	struct req_state *s = req_state(r);
	struct blk_image *img = blk_top(m->b);
	int error = 0;

	if (s->job == JOB_COMMIT)
		error = img->drv->commit(img, s->resv);
	else
		img->drv->abort(img, s->resv);
	resv_release(m, s->resv);
	s->resv = NULL;
	if (error)
		meta_fail(m, r, error);
}

static int whole_now(struct blk *b, struct blk_req *r)
{
	struct req_state *s = req_state(r);
	uint64_t off = r->off + s->pos, len = r->len - s->pos;

	if (r->op != BLK_OP_READ && atomic_load(&b->corrupt))
		return -EUCLEAN;
	switch (r->op) {
	case BLK_OP_READ: return blk_own_read(b, off, len, &s->cur);
	case BLK_OP_WRITE: return blk_own_write(b, off, len, &s->cur);
	case BLK_OP_DISCARD: return blk_own_discard(b, off, len);
	case BLK_OP_WRITE_ZEROES: return blk_own_zero(b, off, len, r->unmap);
	case BLK_OP_FLUSH: break;
	}
	return -EINVAL;
}

static bool job_whole(struct meta *m, struct blk_req *r)
{
	struct req_state *s = req_state(r);
	struct blk_resv *rv = NULL;
	int error;

	if (r->op != BLK_OP_READ)
		rv = resv_conflict(m, r->off + s->pos, r->off + r->len);
	if (rv) {
		resv_wait(rv, r);
		return false;
	}
	error = whole_now(m->b, r);
	s->pos = r->len;
	if (error)
		meta_fail(m, r, error);
	return true;
}

static void meta_serve(struct meta *m, struct blk_req *r)
{
	bool done = true;

	switch ((enum req_job)req_state(r)->job) {
	case JOB_LOAD: job_load(m, r); break;
	case JOB_RESERVE: done = job_reserve(m, r); break;
	case JOB_COMMIT:
	case JOB_ABORT: job_commit(m, r); break;
	case JOB_WHOLE: done = job_whole(m, r); break;
	case JOB_FLUSH: req_push(&m->flushes, r); return;
	case JOB_CORRUPT: meta_fail(m, r, -EUCLEAN); break;
	case JOB_NONE: break;
	}
	if (done)
		queue_reply(r);
}

static void meta_batch(struct meta *m)
{
	struct blk_req *r;

	while ((r = req_pop(&m->work)))
		meta_serve(m, r);
	if (m->flushes.head) {
		int error = blk_own_flush(m->b);

		while ((r = req_pop(&m->flushes))) {
			if (error)
				meta_fail(m, r, error);
			queue_reply(r);
		}
	}
	m->untidy = blk_own_tidy(m->b);
}

/* ---- the thread ---------------------------------------------------------------------- */

static bool meta_idle_wait(struct meta *m)
{
	struct timespec until;

	if (!atomic_load(&m->b->meta_dirty) && !m->untidy) {
		pthread_cond_wait(&m->posted, &m->lock);
		return false;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_PUBLISH_MS / 1000;
	return pthread_cond_timedwait(&m->posted, &m->lock, &until) == ETIMEDOUT;
}

/* Take the inbox; false to stop. *@idle: nothing came for a second and something is dirty. */
static bool meta_take(struct meta *m, bool *idle)
{
	bool go;

	*idle = false;
	pthread_mutex_lock(&m->lock);
	while (!m->inbox.head && !m->stop && !*idle)
		*idle = meta_idle_wait(m);
	*idle = *idle && !m->inbox.head;
	go = m->inbox.head || !m->stop;
	m->work = m->inbox;
	m->inbox = (struct req_list){ 0 };
	pthread_mutex_unlock(&m->lock);
	return go;
}

static void *meta_main(void *arg)
{
	struct meta *m = arg;
	bool idle;

	while (meta_take(m, &idle)) {
		/* An error stays: dirty tables are tried again, and the flush reports it. */
		if (idle)
			(void)blk_own_publish(m->b);
		meta_batch(m);
	}
	(void)blk_own_publish(m->b);
	return NULL;
}

static int meta_spawn(struct meta *m)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = pthread_attr_init(&attr);

	if (r)
		return -r;
	pthread_attr_setstacksize(&attr, MAX((size_t)KIB(256), (size_t)PTHREAD_STACK_MIN));
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&m->thread, &attr, meta_main, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

int meta_start(struct blk *b, struct err *e)
{
	struct meta *m = calloc(1, sizeof(*m));
	pthread_condattr_t attr;
	int r;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->b = b;
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->posted, &attr);
	pthread_condattr_destroy(&attr);
	b->meta = m;
	r = meta_spawn(m);
	if (!r)
		return 0;
	b->meta = NULL;
	pthread_cond_destroy(&m->posted);
	pthread_mutex_destroy(&m->lock);
	free(m);
	errno = -r;
	return err_errno(e, "metadata thread");
}

void meta_stop(struct blk *b)
{
	struct meta *m = b->meta;

	pthread_mutex_lock(&m->lock);
	m->stop = true;
	pthread_cond_signal(&m->posted);
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	assert(!m->resvs && !m->inbox.head);
	pthread_cond_destroy(&m->posted);
	pthread_mutex_destroy(&m->lock);
	b->meta = NULL;
	free(m);
}
