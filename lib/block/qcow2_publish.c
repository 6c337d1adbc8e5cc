/* SPDX-License-Identifier: MIT */
/*
 * Publish: link what was committed, in an order in which a crash at any point only leaks.
 * docs/qcow2-ordering.md has the table; the numbers are its steps.
 */
#include <errno.h>

#include "hv/bytes.h"
#include "qcow2.h"

struct dirt {
	bool refblocks, new_refblocks, l2, new_l2;
};

static struct dirt find_dirt(const struct qcow2 *q)
{
	const struct qtable *first = q->img->blk->tables.ring, *t = first;
	struct dirt d = { 0 };

	if (!t)
		return d;
	do {
		bool dirty = t->q == q && t->dirty_lo < t->dirty_hi;
		bool fresh = t->q == q && t->parent_dirty;

		d.l2 |= t->is_l2 && dirty;
		d.new_l2 |= t->is_l2 && fresh;
		d.refblocks |= !t->is_l2 && dirty;
		d.new_refblocks |= !t->is_l2 && fresh;
		t = t->next;
	} while (t != first);
	return d;
}

static int write_tables(struct qcow2 *q, bool l2)
{
	struct qtable *first = q->img->blk->tables.ring, *t = first;
	int r = 0;

	if (!t)
		return 0;
	do {
		if (t->q == q && t->is_l2 == l2)
			r = qtable_write(t);
		t = t->next;
	} while (t != first && !r);
	return r;
}

/* The entries of L1, or of the refcount table, that point to new tables. */
static int write_parents(struct qcow2 *q, bool l2)
{
	struct qtable *first = q->img->blk->tables.ring, *t = first;
	uint64_t base, end;
	uint8_t be[8];
	int r = 0;

	reft_get(q, &base, &end);
	base = l2 ? q->l1_off : base;
	do {
		if (t->q == q && t->is_l2 == l2 && t->parent_dirty) {
			store_be64(be, l2 ? atomic_load(&q->l1[t->index]) : q->reft[t->index]);
			r = bfile_pwrite(&q->img->file, be, sizeof(be),
					 base + (uint64_t)t->index * 8);
		}
		t = t->next;
	} while (t != first && !r);
	return r;
}

static void parents_clean(struct qcow2 *q, bool l2)
{
	struct qtable *first = q->img->blk->tables.ring, *t = first;

	do {
		if (t->q == q && t->is_l2 == l2)
			t->parent_dirty = false;
		t = t->next;
	} while (t != first);
}

/* After a failed flush nobody knows what is on disk: nothing is linked on top of that. */
static int flush(struct qcow2 *q)
{
	int r = bfile_datasync(&q->img->file);

	if (r)
		q->failed = r;
	return r;
}

static int publish_parents(struct qcow2 *q, bool l2)
{
	int r = write_parents(q, l2);

	if (!r)
		r = flush(q);
	if (!r)
		parents_clean(q, l2);
	return r;
}

static int publish_steps(struct qcow2 *q)
{
	struct dirt d = find_dirt(q);
	int r = write_tables(q, false); /* 1 refcounts */

	if (!r)
		r = flush(q); /* 2 they, guest data and COW parts */
	if (!r && d.new_refblocks)
		r = publish_parents(q, false); /* 3 refcount table, flush */
	if (!r && (d.l2 || d.new_l2)) {
		r = write_tables(q, true); /* 4 L2 entries */
		if (!r)
			r = flush(q); /* 5 */
	}
	if (!r && d.new_l2)
		r = publish_parents(q, true); /* 6 L1 entries, flush */
	if (!r)
		qcow2_frees_published(q); /* 7 dropped clusters may go */
	return r;
}

int qcow2_publish(struct blk_image *img)
{
	struct qcow2 *q = qcow2_of(img);
	int r;

	if (q->failed)
		return -EIO;
	q->publishing = true;
	r = publish_steps(q);
	q->publishing = false;
	return r;
}

bool qcow2_tidy(struct blk_image *img)
{
	table_cache_reclaim(img->blk);
	return (!img->readonly && qcow2_free_ready(qcow2_of(img))) || img->blk->tables.limbo;
}
