/* SPDX-License-Identifier: MIT */
/*
 * Counting references: the check, and the rebuild of refcounts that an image with its dirty
 * bit set needs before use. Both read the disk alone, not what is in memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"
#include "qcow2.h"

#define CLUSTERS_MAX BIT64(26) /* 256 MiB of counters; 4 TiB of 64 KiB clusters */
#define TABLES_MAX BIT64(20)   /* L2 tables looked at, over all snapshots */

struct refs {
	struct qcow2 *q;
	uint32_t *n; /* references by cluster */
	uint64_t clusters;
	uint64_t tables;
	uint8_t *l2;			  /* a cluster of scratch */
	uint64_t reft_off, reft_clusters; /* to count; 0 for none */
	struct blk_check *out;
	struct err *e;
};

static void finding(struct refs *rf, uint64_t *counter, const char *what, uint64_t off)
{
	if (!rf->e->code)
		err_set(rf->e, -EUCLEAN, "%s: %s at offset %#llx", rf->q->img->path, what,
			(unsigned long long)off);
	(*counter)++;
}

static void ref_add(struct refs *rf, uint64_t off, uint64_t len, bool whole)
{
	unsigned bits = rf->q->cluster_bits;
	uint64_t end;

	if (whole && !IS_ALIGNED(off, rf->q->cluster_size)) {
		finding(rf, &rf->out->corruptions, "misaligned reference", off);
		return;
	}
	if (!len)
		return;
	if (!add_u64(off, len, &end) || (end - 1) >> bits >= rf->clusters) {
		/* Compressed data may be said to run past the end of the file, whole sectors. */
		if (whole || off >> bits >= rf->clusters) {
			finding(rf, &rf->out->corruptions, "reference past the end", off);
			return;
		}
		end = rf->clusters << bits;
	}
	for (uint64_t c = off >> bits; c <= (end - 1) >> bits; c++)
		if (rf->n[c] != UINT32_MAX)
			rf->n[c]++;
}

static void ref_entry(struct refs *rf, uint64_t e)
{
	uint64_t off, len;

	if (e & QCOW2_COMPRESSED) {
		qcow2_compressed_range(rf->q, e, &off, &len);
		ref_add(rf, off, len, false);
	} else if (e & QCOW2_OFFSET_MASK) {
		ref_add(rf, e & QCOW2_OFFSET_MASK, rf->q->cluster_size, true);
	}
}

static int read_l2(struct refs *rf, uint64_t off)
{
	if (++rf->tables > TABLES_MAX)
		return err_set(rf->e, -EFBIG,
			       "%s: too many tables to check here (qemu-img check can)",
			       rf->q->img->path);
	return bfile_pread(&rf->q->img->file, rf->l2, rf->q->cluster_size, off);
}

static bool l2_readable(const struct refs *rf, uint64_t off)
{
	return IS_ALIGNED(off, rf->q->cluster_size) && off >> rf->q->cluster_bits < rf->clusters;
}

static unsigned l2_stride(const struct qcow2 *q)
{
	return q->ext_l2 ? 16 : 8;
}

static int refs_of_l2(struct refs *rf, uint64_t off)
{
	int r;

	ref_add(rf, off, rf->q->cluster_size, true);
	if (!l2_readable(rf, off))
		return 0;
	r = read_l2(rf, off);
	for (uint32_t i = 0; i < rf->q->cluster_size && !r; i += l2_stride(rf->q))
		ref_entry(rf, load_be64(rf->l2 + i));
	return r;
}

static int load_l1(const struct refs *rf, uint64_t off, uint64_t n, uint8_t **out)
{
	*out = malloc(MAX(n * 8, (uint64_t)1));
	return *out ? bfile_pread(&rf->q->img->file, *out, n * 8, off) : -ENOMEM;
}

static int refs_of_l1(struct refs *rf, uint64_t off, uint64_t n)
{
	CLEANUP_FREE uint8_t *l1 = NULL;
	int r;

	if (n * 8 > QCOW2_L1_BYTES_MAX || !IS_ALIGNED(off, rf->q->cluster_size)) {
		finding(rf, &rf->out->corruptions, "bad L1 table", off);
		return 0;
	}
	ref_add(rf, off, n * 8, true);
	r = load_l1(rf, off, n, &l1);
	for (uint64_t i = 0; i < n && !r; i++) {
		uint64_t l2 = load_be64(l1 + i * 8) & QCOW2_OFFSET_MASK;

		if (l2)
			r = refs_of_l2(rf, l2);
	}
	return r;
}

static int refs_of_snapshots(struct refs *rf)
{
	uint64_t at = rf->q->snapshots_off, start = at;
	struct qcow2_snapshot s;
	int r = 0;

	for (uint32_t i = 0; i < rf->q->nb_snapshots && !r; i++) {
		uint64_t extra;

		r = bfile_pread(&rf->q->img->file, &s, sizeof(s), at);
		if (r)
			break;
		extra = be32toh(s.extra_data_size);
		if (extra > QCOW2_SNAPSHOT_EXTRA_MAX || at - start > QCOW2_SNAPSHOT_TABLE_MAX)
			return err_set(rf->e, -EUCLEAN, "%s: corrupt snapshot table",
				       rf->q->img->path);
		at = ALIGN_UP(at + sizeof(s) + extra + be16toh(s.id_len) + be16toh(s.name_len), 8);
		r = refs_of_l1(rf, be64toh(s.l1_table_offset), be32toh(s.l1_size));
	}
	if (!r && rf->q->nb_snapshots)
		ref_add(rf, start, at - start, true);
	return r;
}

static int refs_of_reftable(struct refs *rf)
{
	uint64_t bytes = rf->reft_clusters << rf->q->cluster_bits;
	CLEANUP_FREE uint8_t *table = NULL;
	int r;

	ref_add(rf, rf->reft_off, bytes, true);
	r = load_l1(rf, rf->reft_off, bytes / 8, &table);
	for (uint64_t i = 0; i < bytes && !r; i += 8)
		if (load_be64(table + i))
			ref_add(rf, load_be64(table + i), rf->q->cluster_size, true);
	return r;
}

static int refs_init(struct refs *rf, struct qcow2 *q, struct blk_check *out, struct err *e)
{
	uint64_t size;
	int r = bfile_size(&q->img->file, &size);

	if (r)
		return r;
	*rf = (struct refs){ .q = q, .out = out, .e = e, .clusters = qcow2_clusters(q, size) };
	if (rf->clusters > CLUSTERS_MAX)
		return err_set(e, -EFBIG, "%s: too large to check here (qemu-img check can)",
			       q->img->path);
	rf->n = calloc(rf->clusters, sizeof(*rf->n));
	rf->l2 = aligned_alloc(4096, MAX(q->cluster_size, 4096u));
	if (!rf->n || !rf->l2)
		return err_set(e, -ENOMEM, "%s: out of memory", q->img->path);
	out->file_clusters = rf->clusters;
	return 0;
}

static void refs_fini(struct refs *rf)
{
	free(rf->n);
	free(rf->l2);
}

static int refs_count(struct refs *rf)
{
	int r;

	ref_add(rf, 0, rf->q->cluster_size, true);
	r = refs_of_l1(rf, rf->q->l1_off, rf->q->l1_size);
	if (!r)
		r = refs_of_snapshots(rf);
	if (!r && rf->reft_clusters)
		r = refs_of_reftable(rf);
	return r;
}

/* ---- COPIED bits ----------------------------------------------------------------------- */

static bool copied_right(const struct refs *rf, uint64_t e)
{
	uint64_t c = (e & QCOW2_OFFSET_MASK) >> rf->q->cluster_bits;

	if (e & QCOW2_COMPRESSED)
		return !(e & QCOW2_COPIED);
	if (!(e & QCOW2_OFFSET_MASK) || c >= rf->clusters)
		return true;
	return !!(e & QCOW2_COPIED) == (rf->n[c] == 1);
}

/* One active L2 table; with @fix the wrong bits are set right on disk. */
static int copied_in_l2(struct refs *rf, uint64_t off, bool fix)
{
	bool changed = false;
	int r = read_l2(rf, off);

	for (uint32_t i = 0; i < rf->q->cluster_size && !r; i += l2_stride(rf->q)) {
		uint64_t e = load_be64(rf->l2 + i);

		if (copied_right(rf, e))
			continue;
		finding(rf, &rf->out->copied_errors, "COPIED bit contradicts the refcount",
			off + i);
		store_be64(rf->l2 + i, e ^ QCOW2_COPIED);
		changed = true;
	}
	if (r || !fix || !changed)
		return r;
	return bfile_pwrite(&rf->q->img->file, rf->l2, rf->q->cluster_size, off);
}

static int copied_check(struct refs *rf, bool fix)
{
	CLEANUP_FREE uint8_t *l1 = NULL;
	uint64_t n = rf->q->l1_size;
	int r = load_l1(rf, rf->q->l1_off, n, &l1);

	for (uint64_t i = 0; i < n && !r; i++) {
		uint64_t e = load_be64(l1 + i * 8);

		if (!copied_right(rf, e)) {
			finding(rf, &rf->out->copied_errors, "COPIED bit contradicts the refcount",
				rf->q->l1_off + i * 8);
			store_be64(l1 + i * 8, e ^ QCOW2_COPIED);
			if (fix)
				r = bfile_pwrite(&rf->q->img->file, l1 + i * 8, 8,
						 rf->q->l1_off + i * 8);
		}
		e &= QCOW2_OFFSET_MASK;
		if (!r && e && l2_readable(rf, e))
			r = copied_in_l2(rf, e, fix);
	}
	return r;
}

/* ---- the check ------------------------------------------------------------------------- */

/* Compare with what the blocks on disk count. */
static int compare_refcounts(struct refs *rf)
{
	struct qcow2 *q = rf->q;
	uint64_t per = BIT64(q->rb_bits), bytes = rf->reft_clusters << q->cluster_bits;
	CLEANUP_FREE uint8_t *table = NULL;
	int r = load_l1(rf, rf->reft_off, bytes / 8, &table);

	for (uint64_t c = 0; c < rf->clusters && !r; c++) {
		uint64_t block = (c >> q->rb_bits) < bytes / 8
					 ? load_be64(table + (c >> q->rb_bits) * 8)
					 : 0;
		uint64_t counted;

		if (c % per == 0 && block && l2_readable(rf, block))
			r = bfile_pread(&q->img->file, rf->l2, q->cluster_size, block);
		else if (c % per == 0)
			memset(rf->l2, 0, q->cluster_size);
		counted = refcount_load(rf->l2, c % per, q->refcount_order);
		rf->out->clusters += rf->n[c] != 0;
		if (counted < rf->n[c])
			finding(rf, &rf->out->corruptions, "cluster in use but not counted",
				c << q->cluster_bits);
		else if (counted > rf->n[c])
			finding(rf, &rf->out->leaks, "leaked cluster", c << q->cluster_bits);
	}
	return r;
}

int blk_check(struct blk *b, struct blk_check *out, struct err *e)
{
	struct blk_image *img = blk_top(b);
	uint64_t end;
	struct err scratch;
	struct refs rf = { 0 };
	int r;

	assert(!b->queues);
	*out = (struct blk_check){ 0 };
	e = e ? e : &scratch;
	e->code = 0;
	if (img->drv != &blk_qcow2_driver)
		return err_set(e, -ENOTSUP, "%s: only qcow2 images can be checked", img->path);
	r = blk_own_settle(b);
	if (!r)
		r = refs_init(&rf, qcow2_of(img), out, e);
	if (!r) {
		reft_get(rf.q, &rf.reft_off, &end);
		rf.reft_clusters = (end - rf.reft_off) >> rf.q->cluster_bits;
		r = refs_count(&rf);
	}
	if (!r)
		r = copied_check(&rf, false);
	if (!r)
		r = compare_refcounts(&rf);
	refs_fini(&rf);
	return r;
}

/* ---- rebuild --------------------------------------------------------------------------- */

/* The new structure lies behind everything: [blocks][table], counting itself too. */
struct rebuild {
	uint64_t base, blocks, table, total;
};

static int rebuild_plan(const struct refs *rf, struct rebuild *p)
{
	const struct qcow2 *q = rf->q;
	uint64_t before = 0;

	*p = (struct rebuild){ .base = rf->clusters };
	do { /* grows to a fixed point: a block counts thousands of clusters */
		before = p->blocks + p->table;
		p->total = p->base + before;
		p->blocks = DIV_ROUND_UP(p->total, BIT64(q->rb_bits)) + 1;
		p->table = DIV_ROUND_UP(p->blocks * 8, (uint64_t)q->cluster_size);
	} while (p->blocks + p->table != before);
	if (p->table * q->cluster_size > QCOW2_REFTABLE_BYTES_MAX)
		return -EFBIG;
	return 0;
}

static uint64_t rebuilt_count(const struct refs *rf, const struct rebuild *p, uint64_t c)
{
	if (c < p->base)
		return rf->n[c];
	return c < p->total;
}

static int rebuild_block(struct refs *rf, const struct rebuild *p, uint64_t i)
{
	struct qcow2 *q = rf->q;
	uint64_t per = BIT64(q->rb_bits);
	uint64_t max = q->refcount_order == 6 ? UINT64_MAX : BIT64(BIT32(q->refcount_order)) - 1;

	memset(rf->l2, 0, q->cluster_size);
	for (uint64_t k = 0; k < per && i * per + k < p->total; k++) {
		uint64_t n = rebuilt_count(rf, p, i * per + k);

		if (n > max)
			return -EUCLEAN;
		refcount_store(rf->l2, k, q->refcount_order, n);
	}
	return bfile_pwrite(&q->img->file, rf->l2, q->cluster_size,
			    (p->base + i) << q->cluster_bits);
}

static int rebuild_write(struct refs *rf, const struct rebuild *p)
{
	struct qcow2 *q = rf->q;
	uint64_t per = q->cluster_size / 8;
	int r = 0;

	for (uint64_t i = 0; i < p->blocks && !r; i++)
		r = rebuild_block(rf, p, i);
	for (uint64_t t = 0; t < p->table && !r; t++) {
		for (uint64_t k = 0; k < per; k++)
			store_be64(rf->l2 + k * 8, t * per + k < p->blocks ? (p->base + t * per +
									      k) << q->cluster_bits
									   : 0);
		r = bfile_pwrite(&q->img->file, rf->l2, q->cluster_size,
				 (p->base + p->blocks + t) << q->cluster_bits);
	}
	return r ? r : bfile_datasync(&q->img->file);
}

static int rebuild_switch(struct qcow2 *q, const struct rebuild *p)
{
	uint64_t off = (p->base + p->blocks) << q->cluster_bits;
	uint8_t be[12];
	int r;

	store_be64(be, off);
	store_be32(be + 8, (uint32_t)p->table);
	r = bfile_pwrite(&q->img->file, be, sizeof(be),
			 offsetof(struct qcow2_header, refcount_table_offset));
	if (r)
		return r;
	reft_set(q, off, p->table);
	return bfile_datasync(&q->img->file);
}

/*
 * Count anew, write a complete new set of refcounts behind the file's end, put the COPIED
 * bits right, then switch the header over. The dirty bit is the caller's to clear, last: a
 * crash before that means starting over.
 */
int qcow2_rebuild_refcounts(struct qcow2 *q, struct err *e)
{
	struct blk_check out = { 0 };
	struct err scratch = { 0 };
	struct rebuild p;
	struct refs rf = { 0 };
	int r = refs_init(&rf, q, &out, &scratch);

	if (!r)
		r = refs_count(&rf);
	if (!r && out.corruptions)
		r = -EUCLEAN;
	if (!r)
		r = rebuild_plan(&rf, &p);
	if (!r)
		r = rebuild_write(&rf, &p);
	if (!r) {
		/* A bit that was wrong and is now right is no error. */
		rf.tables = 0;
		r = copied_check(&rf, true);
	}
	if (!r)
		r = bfile_datasync(&q->img->file);
	if (!r)
		r = rebuild_switch(q, &p);
	refs_fini(&rf);
	if (r)
		return err_set(e, r, "%s", scratch.code ? scratch.msg : strerror(-r));
	return 0;
}
