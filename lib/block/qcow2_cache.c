/* SPDX-License-Identifier: MIT */
/*
 * Tables in memory: L2 tables and refcount blocks of all images of a chain, one budget.
 *
 * A ring in clock order: a table that was looked at since the hand passed stays, others go,
 * unless dirty or pinned. An evicted L2 table may still be read by a queue thread that found
 * it a moment ago: it waits in limbo for its epoch to pass.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hv/bytes.h"
#include "qcow2.h"

static bool qtable_is_dirty(const struct qtable *t)
{
	return t->dirty_lo < t->dirty_hi || t->parent_dirty;
}

static void ring_add(struct table_cache *c, struct qtable *t)
{
	if (!c->ring) {
		t->next = t->prev = t;
		c->ring = t;
		return;
	}
	t->next = c->ring;
	t->prev = c->ring->prev;
	t->prev->next = t;
	t->next->prev = t;
}

static void ring_del(struct table_cache *c, struct qtable *t)
{
	if (t->next == t)
		c->ring = NULL;
	else if (c->ring == t)
		c->ring = t->next;
	t->prev->next = t->next;
	t->next->prev = t->prev;
}

void qtable_drop(struct qtable *t)
{
	struct blk *b = t->q->img->blk;

	if (t->is_l2)
		atomic_store_explicit(&t->q->l2[t->index], NULL, memory_order_release);
	else
		t->q->rb[t->index] = NULL;
	ring_del(&b->tables, t);
	t->tag = epoch_now(&b->epoch);
	t->next = b->tables.limbo;
	b->tables.limbo = t;
}

/* Free what nobody can see any more. */
void table_cache_reclaim(struct blk *b)
{
	struct qtable **at = &b->tables.limbo;

	pthread_mutex_lock(&b->lock);
	epoch_advance(&b->epoch, b->slots);
	pthread_mutex_unlock(&b->lock);
	while (*at) {
		struct qtable *t = *at;

		if (!epoch_passed(&b->epoch, t->tag)) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		atomic_fetch_sub(&b->tables.bytes, t->bytes);
		free(t);
	}
}

/* One turn and a half of the clock's hand. */
static bool evict_one(struct blk *b)
{
	struct table_cache *c = &b->tables;
	struct qtable *t = c->ring, *first = t;
	int turns = 0;

	while (t && turns < 2) {
		if (qtable_is_dirty(t) || t->pins) {
			/* not now */
		} else if (atomic_exchange_explicit(&t->used, false, memory_order_relaxed)) {
			/* spared once */
		} else {
			c->ring = t->next;
			qtable_drop(t);
			return true;
		}
		t = t->next;
		turns += t == first;
	}
	return false;
}

/* Requests are in an epoch only while their transfers run: the wait is for a disk, at most. */
static void wait_for_epochs(struct blk *b, size_t need)
{
	struct timespec nap = { .tv_nsec = 100000 };

	for (int i = 0; i < 1000; i++) {
		table_cache_reclaim(b);
		if (!b->tables.limbo || atomic_load(&b->tables.bytes) + need <= b->tables.budget)
			return;
		nanosleep(&nap, NULL);
	}
}

/*
 * Room for @need bytes: evict clean tables, publish where all are dirty. Overshoots only by
 * what is pinned (a table a reservation) or while publishing, which must not recurse.
 *
 * Nothing is loaded from here: the caller has found that its table is not in memory, and
 * that must still be true when it inserts what it reads. Letting dropped clusters go loads
 * refcount blocks, so it is left to a publish that has no table on its way in.
 */
static int make_room(struct qcow2 *q, size_t need)
{
	struct blk *b = q->img->blk;
	struct qcow2 *top = blk_top(b)->drv == &blk_qcow2_driver ? qcow2_of(blk_top(b)) : NULL;
	size_t dropped = 0;

	if (atomic_load(&b->tables.bytes) + need <= b->tables.budget)
		return 0;
	table_cache_reclaim(b);
	while (atomic_load(&b->tables.bytes) + need > b->tables.budget + dropped) {
		if (evict_one(b)) {
			dropped += b->tables.limbo->bytes;
			continue;
		}
		if (!top || top->publishing || !atomic_load(&b->meta_dirty))
			break;
		int r = blk_own_link(b);

		if (r)
			return r;
	}
	wait_for_epochs(b, need);
	return 0;
}

/* A table that nobody can find yet. */
static int qtable_alloc(struct qcow2 *q, bool is_l2, uint32_t index, uint64_t host_off,
			struct qtable **out)
{
	size_t bytes = sizeof(struct qtable) + q->cluster_size;
	struct qtable *t;
	int r = make_room(q, bytes);

	if (r)
		return r;
	t = calloc(1, bytes);
	if (!t)
		return -ENOMEM;
	t->q = q;
	t->is_l2 = is_l2;
	t->index = index;
	t->host_off = host_off;
	t->bytes = bytes;
	t->dirty_lo = UINT32_MAX;
	*out = t;
	return 0;
}

void qtable_insert(struct qtable *t)
{
	struct qcow2 *q = t->q;
	struct blk *b = q->img->blk;

	atomic_fetch_add(&b->tables.bytes, t->bytes);
	/* Two copies of one table would write over each other's changes. */
	assert(t->is_l2 ? !atomic_load(&q->l2[t->index]) : !q->rb[t->index]);
	ring_add(&b->tables, t);
	if (t->is_l2)
		atomic_store_explicit(&q->l2[t->index], t, memory_order_release);
	else
		q->rb[t->index] = t;
}

int qtable_new(struct qcow2 *q, bool is_l2, uint32_t index, uint64_t host_off, struct qtable **out)
{
	return qtable_alloc(q, is_l2, index, host_off, out);
}

static void qtable_from_disk(struct qtable *t)
{
	for (size_t i = 0; t->is_l2 && i < t->q->cluster_size / 8; i++)
		atomic_store_explicit(&t->e[i], be64toh(*(uint64_t *)&t->e[i]),
				      memory_order_relaxed);
}

int qtable_fill(struct qtable *t, uint64_t host_off)
{
	int r = bfile_pread(&t->q->img->file, (void *)t->e, t->q->cluster_size, host_off);

	if (!r)
		qtable_from_disk(t);
	return r;
}

int qtable_read(struct qcow2 *q, bool is_l2, uint32_t index, uint64_t host_off, struct qtable **out)
{
	struct qtable *t;
	int r = qtable_alloc(q, is_l2, index, host_off, &t);

	if (r)
		return r;
	r = qtable_fill(t, host_off);
	if (r) {
		free(t);
		return r;
	}
	qtable_insert(t);
	*out = t;
	return 0;
}

void qtable_dirty(struct qtable *t, uint32_t byte, uint32_t len)
{
	t->dirty_lo = MIN(t->dirty_lo, byte);
	t->dirty_hi = MAX(t->dirty_hi, byte + len);
	atomic_store(&t->q->img->blk->meta_dirty, true);
}

/* Whole sectors around what changed. */
int qtable_write(struct qtable *t)
{
	struct qcow2 *q = t->q;
	uint32_t lo = ALIGN_DOWN(t->dirty_lo, 512), hi = ALIGN_UP(t->dirty_hi, 512);
	int r;

	if (t->dirty_lo >= t->dirty_hi)
		return 0;
	for (uint32_t i = lo; t->is_l2 && i < hi; i += 8)
		store_be64(q->io_buf + i, atomic_load_explicit(&t->e[i / 8], memory_order_relaxed));
	if (!t->is_l2)
		memcpy(q->io_buf + lo, (char *)t->e + lo, hi - lo);
	r = bfile_pwrite(&q->img->file, q->io_buf + lo, hi - lo, t->host_off + lo);
	if (r)
		return r;
	t->dirty_lo = UINT32_MAX;
	t->dirty_hi = 0;
	return 0;
}

/* The image is being closed: no queue is open, so nothing of it is looked at. */
void table_cache_drop_image(struct qcow2 *q)
{
	for (uint32_t i = 0; q->l2 && i < q->l1_used; i++)
		if (atomic_load(&q->l2[i]))
			qtable_drop(atomic_load(&q->l2[i]));
	for (uint32_t i = 0; q->rb && !q->img->readonly && i < q->reft_len; i++)
		if (q->rb[i])
			qtable_drop(q->rb[i]);
	table_cache_reclaim(q->img->blk);
}

void table_cache_fini(struct blk *b)
{
	table_cache_reclaim(b);
	cluster_cache_free(b->tables.clusters);
}

/* The tables of @from's images go with them. */
void table_cache_move(struct blk *to, struct blk *from)
{
	while (from->tables.ring) {
		struct qtable *t = from->tables.ring;

		ring_del(&from->tables, t);
		ring_add(&to->tables, t);
		atomic_fetch_add(&to->tables.bytes, t->bytes);
		atomic_fetch_sub(&from->tables.bytes, t->bytes);
	}
	cluster_cache_free(from->tables.clusters);
	from->tables.clusters = NULL;
}
