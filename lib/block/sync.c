/* SPDX-License-Identifier: MIT */
/*
 * The owner's I/O: what the sync calls do, and what the metadata thread does for requests
 * that no queue thread can serve (compressed clusters, zeroing, unaligned O_DIRECT).
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "block_int.h"

int blk_own_read_extent(struct blk *b, const struct blk_extent *x, struct iov_cursor *c)
{
	struct blk_image *img;
	const uint8_t *cluster;
	int r;

	switch (x->kind) {
	case BLK_DATA: return bfile_read_iov(&b->image[x->file]->file, c, x->len, x->host_off);
	case BLK_COMPRESSED:
		img = b->image[x->file];
		r = img->drv->decompress(img, x, &cluster);
		if (r)
			return r;
		iov_copy_in(c, cluster + x->off % img->drv->granularity(img), x->len);
		return 0;
	case BLK_ZERO:
	case BLK_HOLE: break;
	}
	iov_zero(c, x->len);
	return 0;
}

int blk_own_read(struct blk *b, uint64_t off, uint64_t len, struct iov_cursor *c)
{
	struct blk_extent x;

	for (; len; off += x.len, len -= x.len) {
		int r = blk_own_map(b, off, len, &x);

		if (!r)
			r = blk_own_read_extent(b, &x, c);
		if (r)
			return r;
	}
	return 0;
}

/*
 * A disk that was probed as raw must not become an image of a structured format under the
 * guest's hands: the next open would follow what the guest wrote there (CVE-2008-2004). The
 * sector is copied first: what is checked is what is written, whatever the guest does to
 * its memory meanwhile.
 */
static int guarded_write(struct blk *b, uint64_t off, uint64_t *len, struct iov_cursor *c)
{
	struct blk_image *img = blk_top(b);
	uint64_t n = MIN(*len, 512 - off);
	int r = 0;

	if (n < 512)
		r = bfile_pread(&img->file, b->guard, 512, 0);
	if (r)
		return r;
	iov_copy_out(c, b->guard + off, n);
	if (blk_is_image_header(b->guard)) {
		atomic_fetch_add(&b->guard_refusals, 1);
		return -EIO;
	}
	*len = n;
	return bfile_pwrite(&img->file, b->guard + off, n, off);
}

/* Write the part of the range for which clusters have to be found first. */
static int write_reserved(struct blk *b, uint64_t off, uint64_t *len, struct iov_cursor *c)
{
	struct blk_image *img = blk_top(b);
	struct blk_resv rv;
	int r = img->drv->reserve(img, off, *len, &rv);

	if (r)
		return r;
	*len = rv.data_end - off;
	r = bfile_write_iov(&img->file, c, *len, rv.host_off + (off - rv.off));
	if (r) {
		img->drv->abort(img, &rv);
		return r;
	}
	return img->drv->commit(img, &rv);
}

static int write_some(struct blk *b, uint64_t off, uint64_t *len, struct iov_cursor *c)
{
	struct blk_image *img = blk_top(b);
	struct blk_extent x;
	int r;

	if (img->probed && img->drv == &blk_raw_driver && off < 512)
		return guarded_write(b, off, len, c);
	r = blk_own_map(b, off, *len, &x);
	if (r)
		return r;
	if (!x.in_place)
		return write_reserved(b, off, len, c);
	*len = x.len;
	return bfile_write_iov(&img->file, c, x.len, x.host_off);
}

int blk_own_write(struct blk *b, uint64_t off, uint64_t len, struct iov_cursor *c)
{
	for (uint64_t n; len; off += n, len -= n) {
		int r;

		n = len;
		r = write_some(b, off, &n, c);
		if (r == -EUCLEAN)
			blk_own_corrupt(b, 0);
		if (r)
			return r;
	}
	return 0;
}

/* Zeros as data, for clusters that are only partly covered and for formats without a flag. */
static int zero_by_writing(struct blk *b, uint64_t off, uint64_t len)
{
	static const uint8_t zeros[KIB(64)] __attribute__((aligned(4096)));
	struct blk_extent x;

	for (; len; off += x.len, len -= x.len) {
		int r = blk_own_map(b, off, MIN(len, sizeof(zeros)), &x);
		struct iovec iov = { .iov_base = (void *)zeros, .iov_len = x.len };
		struct iov_cursor c = iov_begin(&iov, 1);

		if (!r && x.kind != BLK_ZERO && x.kind != BLK_HOLE)
			r = blk_own_write(b, off, x.len, &c);
		if (r)
			return r;
	}
	return 0;
}

static int raw_zero(struct blk *b, uint64_t off, uint64_t len, bool unmap)
{
	return bfile_write_zeroes(&blk_top(b)->file, off, len, unmap);
}

int blk_own_zero(struct blk *b, uint64_t off, uint64_t len, bool unmap)
{
	struct blk_image *img = blk_top(b);
	uint64_t cs = img->drv->granularity(img), end = off + len;
	uint64_t start = MIN(end, DIV_ROUND_UP(off, cs) * cs), stop;
	int r;

	if (!img->drv->zero)
		return raw_zero(b, off, len, unmap);
	stop = end == b->size ? end : MAX(start, ALIGN_DOWN(end, cs));
	r = zero_by_writing(b, off, start - off);
	if (!r && stop > start) {
		r = img->drv->zero(img, start, stop - start, unmap);
		if (r == -EUCLEAN)
			blk_own_corrupt(b, 0);
		if (r == -ENOTSUP)
			r = zero_by_writing(b, start, stop - start);
	}
	return r ? r : zero_by_writing(b, stop, end - stop);
}

int blk_own_discard(struct blk *b, uint64_t off, uint64_t len)
{
	struct blk_image *img = blk_top(b);
	uint64_t cs = img->drv->granularity(img), end = off + len, start;
	int r;

	start = MIN(end, DIV_ROUND_UP(off, cs) * cs);
	if (end != b->size)
		end = MAX(start, ALIGN_DOWN(end, cs));
	if (start == end)
		return 0;
	if (img->drv->zero)
		r = img->drv->zero(img, start, end - start, true);
	else
		r = bfile_falloc(&img->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start,
				 end - start);
	if (r == -EUCLEAN)
		blk_own_corrupt(b, 0);
	/* Discard is advice: a file that cannot punch holes keeps its bytes. */
	return r == -ENOTSUP || r == -EOPNOTSUPP || r == -ENODEV || r == -EINVAL ? 0 : r;
}

int blk_own_link(struct blk *b)
{
	struct blk_image *img = blk_top(b);
	int r;

	if (b->readonly || !atomic_load(&b->meta_dirty))
		return 0;
	if (atomic_load(&b->corrupt)) /* what we know of the image may be wrong: link nothing */
		return -EUCLEAN;
	r = img->drv->publish(img);
	if (!r) {
		atomic_store(&b->meta_dirty, false);
		atomic_fetch_add(&b->publishes, 1);
	}
	if (r == -EUCLEAN)
		blk_own_corrupt(b, 0);
	return r;
}

int blk_own_publish(struct blk *b)
{
	bool dirty = atomic_load(&b->meta_dirty);
	int r = blk_own_link(b);

	if (!r && dirty && !b->readonly)
		(void)blk_own_tidy(b); /* lowers refcounts, which makes it dirty again */
	return r;
}

bool blk_own_tidy(struct blk *b)
{
	struct blk_image *img = blk_top(b);

	return img->drv->tidy && img->drv->tidy(img);
}

int blk_own_settle(struct blk *b)
{
	bool more = true;
	int r = 0;

	/* Each turn frees a run at least; the bound is for the programmer's mistakes. */
	for (int i = 0; i < 1000000 && !r && (more || atomic_load(&b->meta_dirty)); i++) {
		if (b->readonly)
			break;
		more = blk_own_tidy(b);
		r = blk_own_publish(b);
	}
	return r;
}

int blk_own_flush(struct blk *b)
{
	if (b->cache == BLK_CACHE_UNSAFE || b->readonly)
		return 0;
	if (atomic_load(&b->meta_dirty))
		return blk_own_publish(b);
	return bfile_datasync(&blk_top(b)->file);
}

void blk_own_corrupt(struct blk *b, unsigned depth)
{
	struct blk_image *img = blk_top(b);

	if (depth || b->readonly || atomic_exchange(&b->corrupt, true))
		return;
	if (img->drv->corrupt)
		img->drv->corrupt(img);
}
