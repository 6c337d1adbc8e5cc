/* SPDX-License-Identifier: MIT */
/*
 * XFS directories: short form in the inode, one block, and data blocks with leaf or node
 * indices elsewhere. The index blocks (from 32 GiB on in the directory's address space)
 * are not looked at: every name is in a data block.
 */
#include "xfs_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"

#define DIR_LEAF_OFF GIB(32)
#define DIR_BYTES_MAX MIB(256)
#define FREE_TAG 0xffffu

enum {
	BLOCK_V4 = 0x58443242, /* "XD2B" */
	BLOCK_V5 = 0x58444233, /* "XDB3" */
	DATA_V4 = 0x58443244,  /* "XD2D" */
	DATA_V5 = 0x58444433,  /* "XDD3" */
};

static bool is_dots(const uint8_t *name, size_t len)
{
	return (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.');
}

static int short_form(const struct xfs *x, const struct xfs_inode *in, xfs_name_fn fn, void *ctx)
{
	const uint8_t *p = in->fork, *end = p + MIN((uint64_t)in->fork_len, in->size);
	size_t width, count;
	int r = 0;

	if (end - p < 6)
		return -EUCLEAN;
	count = p[0];
	width = p[1] ? 8 : 4;
	p += 2 + width;
	for (size_t i = 0; !r && i < count; i++) {
		size_t len, need;
		const uint8_t *ino;

		if (end - p < 3)
			return -EUCLEAN;
		len = p[0];
		need = 3 + len + x->ftype + width;
		if (!len || (size_t)(end - p) < need)
			return -EUCLEAN;
		ino = p + 3 + len + x->ftype;
		r = fn(ctx, p + 3, len, width == 8 ? load_be64(ino) : load_be32(ino),
		       x->ftype ? p[3 + len] : -1);
		p += need;
	}
	return r;
}

/* Where the entries of a data block end: a single block has its index behind them. */
static int data_end(const struct xfs *x, const uint8_t *b, size_t *end)
{
	uint32_t magic = load_be32(b);
	uint64_t count;

	*end = x->dir_block_size;
	if (magic == (x->v5 ? DATA_V5 : DATA_V4))
		return 0;
	if (magic != (x->v5 ? BLOCK_V5 : BLOCK_V4))
		return -EUCLEAN;
	count = load_be32(b + x->dir_block_size - 8);
	if (count > (x->dir_block_size - 8) / 8)
		return -EUCLEAN;
	*end = x->dir_block_size - 8 - (size_t)count * 8;
	return 0;
}

static int data_block(const struct xfs *x, const uint8_t *b, xfs_name_fn fn, void *ctx)
{
	size_t off = x->v5 ? 64 : 16, end;
	int r = data_end(x, b, &end);

	while (!r && off + 16 <= end) {
		const uint8_t *p = b + off;
		size_t len;

		if (load_be16(p) == FREE_TAG) {
			len = load_be16(p + 2);
			if (len < 8 || len % 8)
				return -EUCLEAN;
		} else {
			size_t name = p[8];

			len = ALIGN_UP(8 + 1 + name + x->ftype + 2, (size_t)8);
			if (!name || len > end - off)
				return -EUCLEAN;
			if (!is_dots(p + 9, name))
				r = fn(ctx, p + 9, name, load_be64(p), x->ftype ? p[9 + name] : -1);
		}
		off += len;
	}
	return r;
}

/* The data blocks that the map has below the index blocks. */
static int walk_blocks(const struct xfs *x, const struct xfs_map *m, xfs_name_fn fn, void *ctx)
{
	CLEANUP_FREE uint8_t *b = malloc(x->dir_block_size);
	uint64_t next = 0, done = 0;
	int r = 0;

	if (!b)
		return -ENOMEM;
	for (size_t i = 0; i < m->n; i++) {
		uint64_t from = m->ext[i].lblk, to = from + m->ext[i].count;

		if (from >= DIR_LEAF_OFF >> x->block_log)
			break;
		from = MAX(next, ALIGN_DOWN(from << x->block_log, (uint64_t)x->dir_block_size));
		for (; !r && from < MIN(to << x->block_log, (uint64_t)DIR_LEAF_OFF);
		     from += x->dir_block_size) {
			if ((done += x->dir_block_size) > DIR_BYTES_MAX)
				return -E2BIG;
			r = xfs_map_read(x, m, from, b, x->dir_block_size);
			if (!r)
				r = data_block(x, b, fn, ctx);
		}
		if (r)
			return r;
		next = from;
	}
	return 0;
}

int xfs_dir_walk(const struct xfs *x, const struct xfs_inode *in, xfs_name_fn fn, void *ctx)
{
	struct xfs_map m;
	int r;

	if (in->format == XFS_LOCAL)
		return short_form(x, in, fn, ctx);
	r = xfs_map_load(x, in, &m);
	if (!r)
		r = walk_blocks(x, &m, fn, ctx);
	xfs_map_fini(&m);
	return r;
}
