/* SPDX-License-Identifier: MIT */
/*
 * Refcounts and the allocator: first fit from a cursor, in runs. The owner's alone.
 *
 * A counter is raised in memory when a cluster is given out and reaches the disk with the
 * next publish, ahead of whatever points to the cluster. Crash before that: nothing points
 * there. Crash after: a leak.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/overflow.h"
#include "qcow2.h"

#define CLUSTERS_END(q) (QCOW2_OFFSET_MAX >> (q)->cluster_bits)

/* The header and the top tables must never be given out, whatever the counters say. */
static bool on_top_tables(const struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t off = cluster << q->cluster_bits, end = (cluster + n) << q->cluster_bits;
	uint64_t reft, reft_end;

	reft_get(q, &reft, &reft_end);
	return !cluster || (off < q->l1_off + (uint64_t)q->l1_size * 8 && q->l1_off < end) ||
	       (off < reft_end && reft < end);
}

/* Clusters [0, end) exist from now on. */
static void grow_file(struct qcow2 *q, uint64_t end)
{
	uint64_t bytes = end << q->cluster_bits;

	q->virgin = MAX(q->virgin, end);
	if (atomic_load(&q->file_end) < bytes)
		atomic_store_explicit(&q->file_end, bytes, memory_order_release);
}

/* The block that counts @cluster; NULL where there is none: all its counters are 0. */
static int rb_get(struct qcow2 *q, uint64_t cluster, struct qtable **out)
{
	uint64_t i = cluster >> q->rb_bits, off;

	*out = NULL;
	if (i >= q->reft_len)
		return 0;
	*out = q->rb[i];
	if (*out) {
		atomic_store_explicit(&(*out)->used, true, memory_order_relaxed);
		return 0;
	}
	off = q->reft[i];
	if (!off)
		return 0;
	if (!IS_ALIGNED(off, q->cluster_size) || !qcow2_host_ok(q, off, q->cluster_size))
		return -EUCLEAN;
	return qtable_read(q, false, (uint32_t)i, off, out);
}

static uint64_t rb_index(const struct qcow2 *q, uint64_t cluster)
{
	return cluster & (BIT64(q->rb_bits) - 1);
}

static uint64_t rb_load(const struct qcow2 *q, const struct qtable *t, uint64_t cluster)
{
	return refcount_load((const void *)t->e, rb_index(q, cluster), q->refcount_order);
}

static void rb_store(struct qcow2 *q, struct qtable *t, uint64_t cluster, uint64_t v)
{
	uint64_t i = rb_index(q, cluster);
	uint32_t byte = (uint32_t)((i << q->refcount_order) / 8);

	refcount_store((void *)t->e, i, q->refcount_order, v);
	qtable_dirty(t, byte, MAX(1u, BIT32(q->refcount_order) / 8));
}

/* A block at @cluster for index @i of the refcount table. */
static int rb_new(struct qcow2 *q, uint32_t i, uint64_t cluster, struct qtable **out)
{
	int r = qtable_new(q, false, i, cluster << q->cluster_bits, out);

	if (r)
		return r;
	q->reft[i] = cluster << q->cluster_bits;
	(*out)->parent_dirty = true;
	qtable_insert(*out);
	qtable_dirty(*out, 0, q->cluster_size);
	grow_file(q, cluster + 1);
	return 0;
}

/* A block for a range that has none sits in the range's first cluster: all of it is free. */
static int rb_make(struct qcow2 *q, uint64_t i)
{
	uint64_t first = i << q->rb_bits;
	struct qtable *t;
	int r;

	if (on_top_tables(q, first, 1))
		return -EUCLEAN;
	r = rb_new(q, (uint32_t)i, first, &t);
	if (!r)
		rb_store(q, t, first, 1);
	return r;
}

/* ---- a larger refcount table ---------------------------------------------------------- */

struct reft_plan {
	uint64_t base;	   /* first cluster past what the old table can count */
	uint64_t blocks;   /* new refcount blocks, from base on */
	uint64_t clusters; /* of the new table, behind them */
	uint32_t len;	   /* entries of the new table */
};

static int reft_plan(const struct qcow2 *q, struct reft_plan *p)
{
	uint64_t per_block = BIT64(q->rb_bits), want = (uint64_t)q->reft_len * 3 / 2 + 1;

	p->base = (uint64_t)q->reft_len << q->rb_bits;
	p->clusters = DIV_ROUND_UP(want * 8, (uint64_t)q->cluster_size);
	p->blocks = 1;
	while (p->blocks * per_block < p->blocks + p->clusters)
		p->blocks++;
	while (p->clusters * q->cluster_size / 8 < q->reft_len + p->blocks)
		p->clusters++;
	p->blocks = DIV_ROUND_UP(p->clusters + p->blocks + 1, per_block);
	if (p->clusters * q->cluster_size > QCOW2_REFTABLE_BYTES_MAX ||
	    p->base + p->blocks + p->clusters >= CLUSTERS_END(q))
		return -EFBIG;
	p->len = (uint32_t)(p->clusters * q->cluster_size / 8);
	return 0;
}

static int reft_enlarge(struct qcow2 *q, uint32_t len)
{
	uint64_t *reft = calloc(len, sizeof(*reft));
	struct qtable **rb = calloc(len, sizeof(struct qtable *));

	if (!reft || !rb) {
		free(reft);
		free(rb);
		return -ENOMEM;
	}
	memcpy(reft, q->reft, q->reft_len * sizeof(*reft));
	memcpy(rb, q->rb, q->reft_len * sizeof(struct qtable *));
	free(q->reft);
	free(q->rb);
	q->reft = reft;
	q->rb = rb;
	q->reft_len = len;
	return 0;
}

/* Counters of the region itself. */
static int reft_fill(struct qcow2 *q, const struct reft_plan *p)
{
	uint64_t first = p->base >> q->rb_bits, n = p->blocks + p->clusters;
	struct qtable *t;
	int r = 0;

	for (uint64_t i = 0; i < p->blocks && !r; i++)
		r = rb_new(q, (uint32_t)(first + i), p->base + i, &t);
	for (uint64_t c = p->base; c < p->base + n && !r; c++) {
		r = rb_get(q, c, &t);
		if (!r)
			rb_store(q, t, c, 1);
	}
	grow_file(q, p->base + n);
	return r;
}

static int reft_write_blocks(struct qcow2 *q)
{
	int r = 0;

	for (uint32_t i = 0; i < q->reft_len && !r; i++)
		if (q->rb[i])
			r = qtable_write(q->rb[i]);
	return r;
}

static int reft_write(struct qcow2 *q, uint64_t off)
{
	uint32_t per = q->cluster_size / 8;
	int r = 0;

	for (uint32_t i = 0; i < q->reft_len && !r; i += per) {
		for (uint32_t j = 0; j < per; j++)
			store_be64(q->io_buf + j * 8, q->reft[i + j]);
		r = bfile_pwrite(&q->img->file, q->io_buf, q->cluster_size, off + (uint64_t)i * 8);
	}
	return r;
}

/* One write, inside the header's first sector: the old table or the new one. */
static int reft_switch(struct qcow2 *q, uint64_t off, uint64_t clusters)
{
	uint8_t be[12];
	int r;

	store_be64(be, off);
	store_be32(be + 8, (uint32_t)clusters);
	r = bfile_pwrite(&q->img->file, be, sizeof(be),
			 offsetof(struct qcow2_header, refcount_table_offset));
	return r ? r : bfile_datasync(&q->img->file);
}

static int reft_move(struct qcow2 *q, const struct reft_plan *p)
{
	uint64_t off = (p->base + p->blocks) << q->cluster_bits;
	uint64_t old, old_end;
	int r = reft_enlarge(q, p->len);

	if (r)
		return r;
	r = reft_fill(q, p);
	if (!r)
		r = reft_write_blocks(q);
	if (!r)
		r = reft_write(q, off);
	if (!r)
		r = bfile_datasync(&q->img->file);
	if (!r)
		r = reft_switch(q, off, p->clusters);
	if (r) { /* memory and disk no longer agree on which table counts */
		q->failed = r;
		return r;
	}
	for (uint32_t i = 0; i < q->reft_len; i++)
		if (q->rb[i])
			q->rb[i]->parent_dirty = false;
	reft_get(q, &old, &old_end);
	reft_set(q, off, p->clusters);
	qcow2_free_later(q, old >> q->cluster_bits, (old_end - old) >> q->cluster_bits);
	return 0;
}

static int reft_grow(struct qcow2 *q)
{
	struct reft_plan p;
	bool was = q->publishing;
	int r = reft_plan(q, &p);

	if (r)
		return r;
	q->publishing = true; /* no publish from within: the table on disk is the old one */
	r = reft_move(q, &p);
	q->publishing = was;
	return r;
}

/* ---- giving out and taking back ------------------------------------------------------- */

/* The block that counts @cluster, made if there is none. */
static int rb_need(struct qcow2 *q, uint64_t cluster, struct qtable **out)
{
	int r = 0;

	if (cluster >= CLUSTERS_END(q))
		return -EFBIG;
	if (cluster >> q->rb_bits >= q->reft_len)
		r = reft_grow(q);
	if (!r)
		r = rb_get(q, cluster, out);
	if (r || *out)
		return r;
	r = rb_make(q, cluster >> q->rb_bits);
	return r ? r : rb_get(q, cluster, out);
}

/* Free clusters of one block from @c on: where they start and how many, at most @want. */
static uint64_t rb_find(const struct qcow2 *q, const struct qtable *t, uint64_t *c, uint64_t want)
{
	uint64_t end = ((*c >> q->rb_bits) + 1) << q->rb_bits, n = 0;

	while (*c < end && rb_load(q, t, *c))
		(*c)++;
	while (n < want && *c + n < end && !rb_load(q, t, *c + n))
		n++;
	return n;
}

int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *cluster, uint64_t *got, bool *virgin)
{
	uint64_t c = q->cursor, n;
	struct qtable *t = NULL;

	if (q->failed)
		return -EIO;
	do {
		int r = rb_need(q, c, &t);

		if (r)
			return r;
		n = rb_find(q, t, &c, want);
	} while (!n);
	if (c < q->virgin)
		n = MIN(n, q->virgin - c);
	if (on_top_tables(q, c, n))
		return -EUCLEAN;
	for (uint64_t i = 0; i < n; i++)
		rb_store(q, t, c + i, 1);
	*virgin = c >= q->virgin;
	grow_file(q, c + n);
	q->cursor = c + n; /* nothing was freed meanwhile: rb_need() lowers no counter */
	*cluster = c;
	*got = n;
	return 0;
}

int qcow2_refcount_dec(struct qcow2 *q, uint64_t cluster, uint64_t *left)
{
	struct qtable *t;
	int r = rb_get(q, cluster, &t);

	if (r)
		return r;
	if (!t || !rb_load(q, t, cluster))
		return -EUCLEAN;
	*left = rb_load(q, t, cluster) - 1;
	rb_store(q, t, cluster, *left);
	if (!*left)
		q->cursor = MIN(q->cursor, cluster);
	return 0;
}

void qcow2_unalloc(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t left;

	for (uint64_t i = 0; i < n; i++)
		(void)qcow2_refcount_dec(q, cluster + i, &left); /* fails: a leak */
}
