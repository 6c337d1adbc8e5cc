/* SPDX-License-Identifier: MIT */
/*
 * An io_manager for libext2fs over a window of a disk image, with journal blocks laid
 * over it. Reading only: every write fails, so nothing that libext2fs decides to mend
 * can reach the image.
 *
 * libext2fs asks for the same inode table, group descriptor and extent blocks again and
 * again, one block a time: a small direct-mapped cache keeps those from becoming look-ups
 * in a qcow2 chain.
 */
#include "ext4_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/overflow.h"

#define CACHE_SLOTS 64u
#define CACHE_BLOCK 4096u
#define CACHE_EMPTY UINT64_MAX

struct ext4_cache {
	uint64_t tag[CACHE_SLOTS]; /* byte offset of the 4 KiB held, or CACHE_EMPTY */
	uint8_t data[CACHE_SLOTS][CACHE_BLOCK];
};

int ext4_dev_init(struct ext4_dev *d, const struct gfs_source *src)
{
	*d = (struct ext4_dev){ .src = src, .cache = malloc(sizeof(*d->cache)) };
	if (!d->cache)
		return -ENOMEM;
	ext4_dev_forget(d);
	return 0;
}

void ext4_dev_forget(struct ext4_dev *d)
{
	memset(d->cache->tag, 0xff, sizeof(d->cache->tag)); /* CACHE_EMPTY */
}

void ext4_dev_fini(struct ext4_dev *d)
{
	free(d->cache);
	free(d->patch);
	*d = (struct ext4_dev){ 0 };
}

void ext4_dev_name(const struct ext4_dev *d, char name[32])
{
	snprintf(name, 32, "%" PRIxPTR, (uintptr_t)d);
}

/* Index of the first patch at or behind @block. */
static size_t patch_find(const struct ext4_dev *d, uint64_t block)
{
	size_t lo = 0, hi = d->n_patch;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (d->patch[mid].block < block)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The part of one patched block that falls on [off, off+len) goes to @buf. */
static int patch_apply(struct ext4_dev *d, const struct ext4_patch *p, uint64_t off, uint8_t *buf,
		       size_t len)
{
	uint64_t start = p->block * d->block_size, from = MAX(start, off);
	uint64_t end = MIN(start + d->block_size, off + len);
	uint64_t in_block = from - start;
	uint8_t *dst = buf + (from - off);
	int r = gfs_src_read(d->src, p->journal_block * d->block_size + in_block, dst,
			     (size_t)(end - from));

	/* An escaped block has zeros where the journal's magic number belongs. */
	for (uint64_t i = in_block; !r && p->escaped && i < 4 && i < end - start; i++)
		dst[i - in_block] = (uint8_t)(0xc03b3998u >> (24 - 8 * i));
	return r;
}

static int dev_read_patched(struct ext4_dev *d, uint64_t off, uint8_t *buf, size_t len)
{
	int r = gfs_src_read(d->src, off, buf, len);

	if (r || !d->n_patch)
		return r;
	for (size_t i = patch_find(d, off / d->block_size);
	     !r && i < d->n_patch && d->patch[i].block * d->block_size < off + len; i++)
		r = patch_apply(d, &d->patch[i], off, buf, len);
	return r;
}

int ext4_dev_read(struct ext4_dev *d, uint64_t off, void *buf, size_t len)
{
	uint64_t base = ALIGN_DOWN(off, CACHE_BLOCK);
	size_t slot = base / CACHE_BLOCK % CACHE_SLOTS;
	int r;

	if (!range_ok(off, len, d->src->size))
		return -EINVAL;
	/* Large reads are file data; and the ragged end of the window is not worth a slot. */
	if (len > CACHE_BLOCK || off + len > base + CACHE_BLOCK ||
	    !range_ok(base, CACHE_BLOCK, d->src->size))
		return dev_read_patched(d, off, buf, len);
	if (d->cache->tag[slot] != base) {
		d->cache->tag[slot] = CACHE_EMPTY;
		r = dev_read_patched(d, base, d->cache->data[slot], CACHE_BLOCK);
		if (r)
			return r;
		d->cache->tag[slot] = base;
	}
	memcpy(buf, d->cache->data[slot] + (off - base), len);
	return 0;
}

/* ---- libext2fs' side -------------------------------------------------------------------- */

static errcode_t io_open(const char *name, int flags, io_channel *out)
{
	io_channel ch;
	uintptr_t p;

	if (sscanf(name, "%" SCNxPTR, &p) != 1)
		return EXT2_ET_BAD_DEVICE_NAME;
	ch = calloc(1, sizeof(*ch));
	if (!ch)
		return EXT2_ET_NO_MEMORY;
	ch->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	ch->manager = &ext4_io_manager;
	ch->name = strdup(name);
	ch->block_size = 1024;
	ch->refcount = 1;
	ch->private_data = (void *)p;
	if (!ch->name) {
		free(ch);
		return EXT2_ET_NO_MEMORY;
	}
	*out = ch;
	return 0;
}

static errcode_t io_close(io_channel ch)
{
	if (--ch->refcount > 0)
		return 0;
	free(ch->name);
	free(ch);
	return 0;
}

static errcode_t io_set_blksize(io_channel ch, int size)
{
	ch->block_size = size;
	return 0;
}

/* @count blocks, or -@count bytes, as libext2fs has it. */
static errcode_t io_read_blk64(io_channel ch, unsigned long long block, int count, void *data)
{
	uint64_t off, len;

	len = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * (uint64_t)ch->block_size;
	if (!mul_u64(block, (uint64_t)ch->block_size, &off))
		return EXT2_ET_SHORT_READ;
	return ext4_dev_read(ch->private_data, off, data, (size_t)len) ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t io_read_blk(io_channel ch, unsigned long block, int count, void *data)
{
	return io_read_blk64(ch, block, count, data);
}

static errcode_t io_write_blk64(io_channel ch, unsigned long long block, int count,
				const void *data)
{
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write_blk(io_channel ch, unsigned long block, int count, const void *data)
{
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write_byte(io_channel ch, unsigned long off, int count, const void *data)
{
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_flush(io_channel ch)
{
	return 0;
}

/* Not const: libext2fs' type is a pointer to a writable one; nobody writes it. */
struct struct_io_manager ext4_io_manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "disk image",
	.open = io_open,
	.close = io_close,
	.set_blksize = io_set_blksize,
	.read_blk = io_read_blk,
	.write_blk = io_write_blk,
	.flush = io_flush,
	.write_byte = io_write_byte,
	.read_blk64 = io_read_blk64,
	.write_blk64 = io_write_blk64,
};
