/* SPDX-License-Identifier: MIT */
/*
 * XFS: where a file's blocks lie (XFS Algorithms & Data Structures, "Data Extents").
 *
 * The records of a file ascend and do not overlap; anything else is damage. That also
 * ends a chain of leaves that leads back to itself.
 */
#include "xfs_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define RECORD 16u
#define LEVELS_MAX 9u
#define NULL_BLOCK UINT64_MAX
#define BMAP_V4 0x424d4150u /* "BMAP" */
#define BMAP_V5 0x424d4133u /* "BMA3" */

int xfs_block_off(const struct xfs *x, uint64_t fsblk, uint64_t *off)
{
	uint64_t ag = fsblk >> x->agblk_log, in = fsblk & (BIT64(x->agblk_log) - 1);

	if (ag >= x->ag_count || in >= x->ag_blocks)
		return -EUCLEAN;
	*off = (ag * x->ag_blocks + in) << x->block_log;
	return 0;
}

static int map_add(struct xfs_map *m, const uint8_t *rec)
{
	uint64_t hi = load_be64(rec), lo = load_be64(rec + 8);
	struct xfs_extent e = { .lblk = hi >> 9 & (BIT64(54) - 1),
				.fsblk = (hi & 0x1ff) << 43 | lo >> 21,
				.count = (uint32_t)(lo & (BIT32(21) - 1)),
				.unwritten = hi >> 63 };

	if (!e.count || (m->n && e.lblk < m->ext[m->n - 1].lblk + m->ext[m->n - 1].count) ||
	    m->n == XFS_EXTENTS_MAX)
		return -EUCLEAN;
	if (m->n == m->cap) {
		size_t cap = MAX(2 * m->cap, (size_t)16);
		struct xfs_extent *p = realloc(m->ext, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		m->ext = p;
		m->cap = cap;
	}
	m->ext[m->n++] = e;
	return 0;
}

static int map_records(struct xfs_map *m, const uint8_t *rec, size_t n)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++)
		r = map_add(m, rec + i * RECORD);
	return r;
}

/* A block of the tree, its header checked: its level and number of records. */
static int read_node(const struct xfs *x, uint64_t fsblk, uint8_t *b, unsigned level, size_t *n)
{
	size_t head = x->v5 ? 72 : 24;
	uint64_t off;
	int r = xfs_block_off(x, fsblk, &off);

	if (!r)
		r = gfs_src_read(x->src, off, b, x->block_size);
	if (r)
		return r;
	*n = load_be16(b + 6);
	if (load_be32(b) != (x->v5 ? BMAP_V5 : BMAP_V4) || load_be16(b + 4) != level || !*n ||
	    *n > (x->block_size - head) / RECORD)
		return -EUCLEAN;
	return 0;
}

/* From the root in the inode down its left edge, then along the leaves. */
static int map_tree(const struct xfs *x, const struct xfs_inode *in, struct xfs_map *m)
{
	CLEANUP_FREE uint8_t *b = malloc(x->block_size);
	size_t head = x->v5 ? 72 : 24, max = in->fork_len > 4 ? (in->fork_len - 4) / RECORD : 0, n;
	unsigned level = load_be16(in->fork);
	uint64_t at;
	int r;

	if (!b)
		return -ENOMEM;
	n = load_be16(in->fork + 2);
	if (!level || level > LEVELS_MAX || !n || n > max)
		return -EUCLEAN;
	at = load_be64(in->fork + 4 + 8 * max);
	while (--level) {
		r = read_node(x, at, b, level, &n);
		if (r)
			return r;
		at = load_be64(b + head + 8 * ((x->block_size - head) / RECORD));
	}
	while (at != NULL_BLOCK) {
		r = read_node(x, at, b, 0, &n);
		if (!r)
			r = map_records(m, b + head, n);
		if (r)
			return r;
		at = load_be64(b + 16);
	}
	return 0;
}

int xfs_map_load(const struct xfs *x, const struct xfs_inode *in, struct xfs_map *m)
{
	*m = (struct xfs_map){ 0 };
	if (in->realtime)
		return -ENOTSUP;
	if (in->format == XFS_BTREE)
		return map_tree(x, in, m);
	if (in->format != XFS_EXTENTS || in->extents > in->fork_len / RECORD)
		return -EUCLEAN;
	return map_records(m, in->fork, in->extents);
}

void xfs_map_fini(struct xfs_map *m)
{
	free(m->ext);
	*m = (struct xfs_map){ 0 };
}

/* The last extent that starts at or before @lblk; SIZE_MAX if none does. */
static size_t map_find(const struct xfs_map *m, uint64_t lblk)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->ext[mid].lblk <= lblk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

int xfs_map_read(const struct xfs *x, const struct xfs_map *m, uint64_t off, void *buf, size_t len)
{
	uint8_t *dst = buf;

	while (len) {
		uint64_t lblk = off >> x->block_log, in = off & (x->block_size - 1), end, at;
		size_t i = map_find(m, lblk), n;
		const struct xfs_extent *e = i == SIZE_MAX ? NULL : &m->ext[i];
		bool hit = e && lblk - e->lblk < e->count;
		int r = 0;

		end = hit	     ? e->lblk + e->count
		      : i + 1 < m->n ? m->ext[i + 1].lblk
				     : UINT64_MAX >> x->block_log;
		n = (size_t)MIN((uint64_t)len, ((end - lblk) << x->block_log) - in);
		if (hit && !e->unwritten) {
			r = xfs_block_off(x, e->fsblk + (lblk - e->lblk), &at);
			if (!r)
				r = gfs_src_read(x->src, at + in, dst, n);
		} else {
			memset(dst, 0, n);
		}
		if (r)
			return r == -EINVAL ? -EUCLEAN : r;
		off += n;
		dst += n;
		len -= n;
	}
	return 0;
}
