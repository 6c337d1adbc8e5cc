/* SPDX-License-Identifier: MIT */
/*
 * Changing the mapping: reserve clusters and fill what the writer does not, commit them,
 * make ranges read as zeros. The owner's. Nothing here waits for a flush; publish does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

#define RESERVE_BYTES_MAX MIB(2) /* one run; at least a cluster */
#define FREES_MAX 65536		 /* runs that wait for a publish */

static uint64_t entry_index(const struct qcow2 *q, uint64_t off)
{
	return off >> q->cluster_bits & (BIT64(q->l2_bits) - 1);
}

static void entry_set(struct qtable *t, uint64_t i, uint64_t v)
{
	atomic_store_explicit(&t->e[i], v, memory_order_release);
	qtable_dirty(t, (uint32_t)i * 8, 8);
}

/* ---- an L2 table of our own ------------------------------------------------------------ */

static int l2_make(struct qcow2 *q, uint32_t l1i, struct qtable **out)
{
	uint64_t cluster, got;
	bool virgin;
	int r = qcow2_alloc(q, 1, &cluster, &got, &virgin);

	if (r)
		return r;
	r = qtable_new(q, true, l1i, cluster << q->cluster_bits, out);
	if (r) {
		qcow2_unalloc(q, cluster, 1);
		return r;
	}
	(*out)->parent_dirty = true;
	qtable_insert(*out);
	qtable_dirty(*out, 0, q->cluster_size);
	atomic_store(&q->l1[l1i], (*out)->host_off | QCOW2_COPIED);
	return 0;
}

/* A snapshot has the table too: go on in a copy. */
static int l2_copy(struct qcow2 *q, struct qtable *t)
{
	uint64_t cluster, got, old = t->host_off;
	bool virgin;
	int r;

	t->pins++;
	r = qcow2_alloc(q, 1, &cluster, &got, &virgin);
	t->pins--;
	if (r)
		return r;
	t->host_off = cluster << q->cluster_bits;
	t->parent_dirty = true;
	qtable_dirty(t, 0, q->cluster_size);
	atomic_store(&q->l1[t->index], t->host_off | QCOW2_COPIED);
	qcow2_free_later(q, old >> q->cluster_bits, 1);
	return 0;
}

int qcow2_l2_writable(struct qcow2 *q, uint64_t off, struct qtable **out)
{
	uint32_t l1i = (uint32_t)(off >> (q->l2_bits + q->cluster_bits));
	int r = qcow2_l2_get(q, off, out);

	if (r)
		return r;
	if (!*out)
		return l2_make(q, l1i, out);
	return atomic_load(&q->l1[l1i]) & QCOW2_COPIED ? 0 : l2_copy(q, *out);
}

/* ---- reserve --------------------------------------------------------------------------- */

static bool entry_in_place(uint64_t e)
{
	return (e & QCOW2_COPIED) && !(e & (QCOW2_ZERO | QCOW2_COMPRESSED)) &&
	       (e & QCOW2_OFFSET_MASK);
}

/* Zeroed but still allocated, and ours alone: the cluster is there already. */
static bool entry_reusable(const struct qcow2 *q, uint64_t e)
{
	uint64_t host = e & QCOW2_OFFSET_MASK;

	return (e & QCOW2_COPIED) && (e & QCOW2_ZERO) && !(e & QCOW2_COMPRESSED) && host &&
	       IS_ALIGNED(host, q->cluster_size) && qcow2_host_ok(q, host, q->cluster_size);
}

/* How many clusters from entry @i on want the same treatment as the first. */
static uint64_t run_length(const struct qcow2 *q, const struct qtable *t, uint64_t i, uint64_t max)
{
	uint64_t first = atomic_load(&t->e[i]), n = 1;
	bool reuse = entry_reusable(q, first);

	for (; n < max; n++) {
		uint64_t e = atomic_load(&t->e[i + n]);

		if (entry_in_place(e) || entry_reusable(q, e) != reuse)
			break;
		if (reuse &&
		    (e & QCOW2_OFFSET_MASK) != (first & QCOW2_OFFSET_MASK) + (n << q->cluster_bits))
			break;
	}
	return n;
}

/* Bring [off, end) of the old contents to the new clusters; zeros need no write in virgin ones. */
static int fill(struct qcow2 *q, const struct blk_resv *rv, uint64_t off, uint64_t end, bool virgin)
{
	struct blk *b = q->img->blk;
	uint64_t visible = MIN(end, q->img->size), n;
	int r = 0;

	for (; off < end && !r; off += n) {
		struct blk_extent x = { .kind = BLK_ZERO };

		n = MIN(end - off, BLK_COW_BYTES);
		if (off < visible) {
			r = blk_own_map(b, off, MIN(n, visible - off), &x);
			n = r ? n : x.len;
		}
		if (r)
			break;
		if (x.kind == BLK_ZERO || x.kind == BLK_HOLE) {
			if (virgin)
				continue;
			memset(b->cow, 0, n);
		} else {
			r = blk_own_read_from(b, 0, off, n, b->cow);
		}
		if (!r)
			r = bfile_pwrite(&q->img->file, b->cow, n, rv->host_off + (off - rv->off));
	}
	return r;
}

static int reserve_clusters(struct qcow2 *q, struct qtable *t, uint64_t i, uint64_t n,
			    struct blk_resv *rv, bool *virgin)
{
	uint64_t e = atomic_load(&t->e[i]), cluster, got = n;
	int r = 0;

	*virgin = false;
	rv->reused = entry_reusable(q, e);
	if (rv->reused)
		rv->host_off = e & QCOW2_OFFSET_MASK;
	else
		r = qcow2_alloc(q, n, &cluster, &got, virgin);
	if (r)
		return r;
	if (!rv->reused)
		rv->host_off = cluster << q->cluster_bits;
	rv->len = got << q->cluster_bits;
	return 0;
}

int qcow2_reserve(struct blk_image *img, uint64_t off, uint64_t len, struct blk_resv *rv)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t start = ALIGN_DOWN(off, (uint64_t)q->cluster_size), i = entry_index(q, off), max;
	struct qtable *t;
	bool virgin;
	int r = qcow2_l2_writable(q, off, &t);

	if (r)
		return r;
	t->pins++; /* what follows may load other tables */
	max = MIN(qcow2_clusters(q, off - start + len), BIT64(q->l2_bits) - i);
	max = MIN(max, RESERVE_BYTES_MAX >> q->cluster_bits); /* at least one: 2 MiB clusters */
	*rv = (struct blk_resv){ .off = start, .table = t };
	r = reserve_clusters(q, t, i, run_length(q, t, i, max), rv, &virgin);
	if (r) {
		t->pins--;
		return r;
	}
	rv->data_end = MIN(off + len, start + rv->len);
	r = fill(q, rv, start, off, virgin);
	if (!r)
		r = fill(q, rv, rv->data_end, start + rv->len, virgin);
	if (r)
		qcow2_abort(img, rv);
	return r;
}

void qcow2_abort(struct blk_image *img, struct blk_resv *rv)
{
	struct qcow2 *q = qcow2_of(img);
	struct qtable *t = rv->table;

	t->pins--;
	if (!rv->reused)
		qcow2_unalloc(q, rv->host_off >> q->cluster_bits, rv->len >> q->cluster_bits);
}

int qcow2_commit(struct blk_image *img, struct blk_resv *rv)
{
	struct qcow2 *q = qcow2_of(img);
	struct qtable *t = rv->table;
	uint64_t i = entry_index(q, rv->off), n = rv->len >> q->cluster_bits;

	for (uint64_t k = 0; k < n; k++) {
		uint64_t old = atomic_load(&t->e[i + k]);

		entry_set(t, i + k, (rv->host_off + (k << q->cluster_bits)) | QCOW2_COPIED);
		if (!rv->reused)
			qcow2_free_entry(q, old);
	}
	t->pins--;
	return 0;
}

/* ---- zeros ----------------------------------------------------------------------------- */

/* What entry @e becomes when its cluster is to read as zeros; @e itself to leave it. */
static uint64_t zeroed_entry(const struct qcow2 *q, uint64_t e, bool unmap)
{
	bool held = (e & QCOW2_COMPRESSED) || (e & QCOW2_OFFSET_MASK);

	if (q->version < 3)
		return 0;
	if (!held)
		return QCOW2_ZERO;
	if (!unmap && (e & QCOW2_COPIED) && !(e & QCOW2_COMPRESSED))
		return e | QCOW2_ZERO;
	if ((e & QCOW2_ZERO) && !(e & QCOW2_COMPRESSED) && !unmap)
		return e;
	return QCOW2_ZERO;
}

/* @n clusters of one table. */
static int zero_in_table(struct qcow2 *q, uint64_t off, uint64_t n, bool unmap)
{
	uint64_t i = entry_index(q, off);
	struct qtable *t;
	int r = qcow2_l2_writable(q, off, &t);

	if (r)
		return r;
	for (uint64_t k = 0; k < n; k++) {
		uint64_t old = atomic_load(&t->e[i + k]), new = zeroed_entry(q, old, unmap);

		if (old == new)
			continue;
		entry_set(t, i + k, new);
		if (!(new &QCOW2_OFFSET_MASK))
			qcow2_free_entry(q, old);
	}
	return 0;
}

/* Whole clusters from @off on that already read as zeros without holding any. */
static int zero_skip(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *skip)
{
	struct blk_extent x;
	int r = blk_own_map(q->img->blk, off, MIN(len, q->img->size - off), &x);

	*skip = 0;
	if (!r && x.kind == BLK_HOLE)
		*skip = off + x.len >= q->img->size ? len
						    : ALIGN_DOWN(x.len, (uint64_t)q->cluster_size);
	return r;
}

int qcow2_zero(struct blk_image *img, uint64_t off, uint64_t len, bool unmap)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t span = BIT64(q->l2_bits + q->cluster_bits), n;
	int r = 0;

	if (q->failed)
		return -EIO;
	/* Version 2 cannot say "zeros here" above a backing file, nor keep what it frees. */
	if (q->version < 3 && (q->backed || !unmap))
		return -ENOTSUP;
	for (; len && !r; off += n, len -= n) {
		r = zero_skip(q, off, len, &n);
		if (r || n)
			continue;
		n = MIN(len, span - off % span);
		r = zero_in_table(q, off, qcow2_clusters(q, n), unmap);
		if (!r && q->nfrees > FREES_MAX)
			r = blk_own_publish(img->blk);
	}
	return r;
}
