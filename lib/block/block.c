/* SPDX-License-Identifier: MIT */
/*
 * Disk images: the funnel every public call passes, and what can be asked of a blk.
 *
 * Theory of operation
 * -------------------
 * A blk is a chain of images, the top one first. Each image has a driver (raw, qcow2) that
 * knows its metadata; data is moved by whoever has a thread for it:
 *
 *    queue thread:  enter epoch -> map -> transfers -> leave epoch          (queue.c)
 *                         |  -EAGAIN, unmapped, zero, discard, flush
 *                         v
 *    owner:         load / reserve+fill / commit / zero / publish     (meta.c, sync.c)
 *
 * The owner is one thread: the metadata thread while queues are open, else the caller of
 * the sync functions. It alone reads and writes metadata and changes the mapping; queue
 * threads read the mapping through atomics and take no lock.
 *
 * Invariants
 *  - A request that waits for the owner is in no epoch. So epochs end when transfers end,
 *    and the owner may wait for an epoch.
 *  - A range that is reserved is changed by nobody else until commit or abort; the old
 *    mapping stays visible until commit.
 *  - Host clusters that the mapping let go of are used again only after the metadata that
 *    did so is durable and the epoch of that moment has passed (qcow2_free.c).
 *  - The driver answers with a prefix of what was asked, at least one byte, or a negative
 *    errno: checked here and in map.c, for every driver.
 *
 * docs/qcow2-ordering.md tells what must be durable before what.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block_int.h"
#include "hv/overflow.h"

uint64_t blk_size(const struct blk *b)
{
	return b->size;
}

bool blk_readonly(const struct blk *b)
{
	return b->readonly;
}

const char *blk_format_name(const struct blk *b)
{
	return blk_top(b)->drv->name;
}

uint32_t blk_cluster_size(const struct blk *b)
{
	return blk_top(b)->drv->granularity(blk_top(b));
}

void blk_get_stats(const struct blk *b, struct blk_stats *out)
{
	*out = (struct blk_stats){
		.meta_cache_bytes = atomic_load(&b->tables.bytes),
		.meta_cache_budget_bytes = b->tables.budget,
		.guard_refusals = atomic_load(&b->guard_refusals),
		.publishes = atomic_load(&b->publishes),
	};
}

unsigned blk_files(const struct blk *b)
{
	return b->images;
}

int blk_file_fd(const struct blk *b, unsigned file)
{
	assert(file < b->images);
	return b->image[file]->file.fd;
}

/* ---- the funnel -------------------------------------------------------------------- */

/* The caller's contract: a range inside the disk, and no queue open. */
static int funnel_range(const struct blk *b, uint64_t off, uint64_t len, bool write)
{
	assert(!b->queues);
	if (!range_ok(off, len, b->size))
		return -EINVAL;
	if (!write)
		return 0;
	if (b->readonly)
		return -EROFS;
	return atomic_load(&b->corrupt) ? -EUCLEAN : 0;
}

/* The driver's contract: zero or a negative errno. */
static int funnel_result(int r)
{
	assert(r <= 0 && r > -4096);
	return r == -EAGAIN ? -EIO : r;
}

int blk_pread(struct blk *b, uint64_t off, void *buf, size_t len)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct iov_cursor c = iov_begin(&iov, 1);
	int r = funnel_range(b, off, len, false);

	return r ? r : funnel_result(blk_own_read(b, off, len, &c));
}

int blk_pwrite(struct blk *b, uint64_t off, const void *buf, size_t len)
{
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
	struct iov_cursor c = iov_begin(&iov, 1);
	int r = funnel_range(b, off, len, true);

	if (!r)
		r = funnel_result(blk_own_write(b, off, len, &c));
	if (!r && b->cache == BLK_CACHE_WRITETHROUGH)
		r = blk_flush(b);
	return r;
}

int blk_pwrite_zeroes(struct blk *b, uint64_t off, uint64_t len, bool unmap)
{
	int r = funnel_range(b, off, len, true);

	if (!r)
		r = funnel_result(blk_own_zero(b, off, len, unmap));
	if (!r && b->cache == BLK_CACHE_WRITETHROUGH)
		r = blk_flush(b);
	return r;
}

int blk_pdiscard(struct blk *b, uint64_t off, uint64_t len)
{
	int r = funnel_range(b, off, len, true);

	return r ? r : funnel_result(blk_own_discard(b, off, len));
}

int blk_flush(struct blk *b)
{
	assert(!b->queues);
	if (b->readonly)
		return 0;
	return funnel_result(blk_own_flush(b));
}

int blk_map_sync(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	int r = funnel_range(b, off, 0, false);

	if (r)
		return r;
	len = MIN(len, b->size - off);
	if (!len) {
		*out = (struct blk_extent){ .kind = BLK_HOLE, .off = off };
		return 0;
	}
	return funnel_result(blk_own_map(b, off, len, out));
}
