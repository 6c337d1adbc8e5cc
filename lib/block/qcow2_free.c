/* SPDX-License-Identifier: MIT */
/*
 * Clusters on their way to be free. A counter goes down only when
 *   1. the metadata that dropped the cluster is on disk (else a crash would bring back an
 *      entry that points to somebody else's data), and
 *   2. every request that began before the drop has ended (else its transfer would hit, or
 *      read, what the cluster holds next).
 * Until then the counter itself keeps the allocator away.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

static bool extends_last(const struct qcow2 *q, uint64_t cluster, uint64_t tag)
{
	const struct free_run *last = q->nfrees ? &q->frees[q->nfrees - 1] : NULL;

	return last && !last->published && last->tag == tag && last->cluster + last->n == cluster;
}

/* Without memory for the note the cluster leaks: no harm, and qemu-img check finds it. */
void qcow2_free_later(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t tag = epoch_now(&q->img->blk->epoch);

	if (extends_last(q, cluster, tag)) {
		q->frees[q->nfrees - 1].n += n;
		return;
	}
	if (q->nfrees == q->frees_cap) {
		size_t cap = q->frees_cap ? q->frees_cap * 2 : 64;
		struct free_run *grown = realloc(q->frees, cap * sizeof(*grown));

		if (!grown)
			return;
		q->frees = grown;
		q->frees_cap = cap;
	}
	q->frees[q->nfrees++] = (struct free_run){ .cluster = cluster, .n = n, .tag = tag };
}

void qcow2_free_entry(struct qcow2 *q, uint64_t entry)
{
	uint64_t off, len;

	if (entry & QCOW2_COMPRESSED) { /* every cluster that it touches */
		qcow2_compressed_range(q, entry, &off, &len);
		for (uint64_t c = off >> q->cluster_bits; c <= (off + len - 1) >> q->cluster_bits;
		     c++)
			qcow2_free_later(q, c, 1);
		return;
	}
	off = entry & QCOW2_OFFSET_MASK;
	if (off && IS_ALIGNED(off, q->cluster_size) && qcow2_host_ok(q, off, q->cluster_size))
		qcow2_free_later(q, off >> q->cluster_bits, 1);
}

void qcow2_frees_published(struct qcow2 *q)
{
	for (size_t i = 0; i < q->nfrees; i++)
		q->frees[i].published = true;
}

static void punch(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	if (n) /* advice: the file may not know how */
		(void)bfile_falloc(&q->img->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   cluster << q->cluster_bits, n << q->cluster_bits);
}

/* Lower the counters of one run, and give the space back where they reach zero. */
static int free_run_now(struct qcow2 *q, const struct free_run *f)
{
	uint64_t hole = f->cluster, left, c = f->cluster;
	int r = 0;

	for (; c < f->cluster + f->n; c++) {
		r = qcow2_refcount_dec(q, c, &left);
		if (!r && !left)
			continue;
		punch(q, hole, c - hole);
		hole = c + 1;
		if (r)
			return r;
	}
	punch(q, hole, c - hole);
	return 0;
}

bool qcow2_free_ready(struct qcow2 *q)
{
	struct blk *b = q->img->blk;
	bool was = q->publishing;
	size_t i = 0;

	q->publishing = true; /* no flush for every block that is loaded: one comes later */
	for (; i < q->nfrees && q->frees[i].published && epoch_passed(&b->epoch, q->frees[i].tag) &&
	       (!i || atomic_load(&b->tables.bytes) <= b->tables.budget);
	     i++) {
		int r = q->failed ? 0 : free_run_now(q, &q->frees[i]);

		if (r == -EUCLEAN)
			blk_own_corrupt(b, 0);
	}
	q->publishing = was;
	q->nfrees -= i;
	if (i)
		memmove(q->frees, q->frees + i, q->nfrees * sizeof(*q->frees));
	return q->nfrees;
}
