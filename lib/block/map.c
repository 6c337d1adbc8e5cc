/* SPDX-License-Identifier: MIT */
/* The chain's mapping: ask the top image, then what lies beneath. Any thread, never blocks. */
#include <errno.h>

#include "block_int.h"

/* A driver's answer must be a prefix of the question. */
static void check_answer(const struct blk_extent *x, uint64_t off, uint64_t len)
{
	assert(x->off == off && x->len >= 1 && x->len <= len);
}

/* Nothing more is beneath @img at @off: a backing file that ends early reads as zeros. */
static bool past_end(const struct blk_image *img, uint64_t off)
{
	return img->depth && off >= img->size;
}

static int chain_map_from(struct blk *b, unsigned depth, uint64_t off, uint64_t len,
			  struct blk_extent *out, unsigned *at)
{
	for (unsigned d = depth; d < b->images; d++) {
		struct blk_image *img = b->image[d];
		int r;

		if (past_end(img, off))
			break;
		len = MIN(len, img->size - off);
		*at = d;
		r = img->drv->map(img, off, len, out);
		if (r)
			return r;
		check_answer(out, off, len);
		out->depth = out->file = d;
		if (out->kind != BLK_HOLE) {
			out->in_place = out->in_place && d == 0 && !b->readonly;
			return 0;
		}
		len = out->len;
	}
	*out = (struct blk_extent){
		.kind = BLK_HOLE, .depth = b->images - 1, .off = off, .len = len
	};
	return 0;
}

int blk_chain_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out, unsigned *at)
{
	return chain_map_from(b, 0, off, len, out, at);
}

/* The owner's: as above, loading what is not in memory. */
static int own_map_from(struct blk *b, unsigned depth, uint64_t off, uint64_t len,
			struct blk_extent *out)
{
	unsigned at = 0;

	for (;;) {
		int r = chain_map_from(b, depth, off, len, out, &at);

		if (r == -EAGAIN)
			r = b->image[at]->drv->load(b->image[at], off);
		else if (!r)
			return 0;
		if (r == -EUCLEAN)
			blk_own_corrupt(b, at);
		if (r)
			return r;
	}
}

int blk_own_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	return own_map_from(b, 0, off, len, out);
}

int blk_own_read_from(struct blk *b, unsigned depth, uint64_t off, uint64_t len, void *buf)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct iov_cursor c = iov_begin(&iov, 1);

	while (len) {
		struct blk_extent x = { .kind = BLK_HOLE, .off = off, .len = len };
		int r = 0;

		if (depth < b->images)
			r = own_map_from(b, depth, off, len, &x);
		if (!r)
			r = blk_own_read_extent(b, &x, &c);
		if (r)
			return r;
		off += x.len;
		len -= x.len;
	}
	return 0;
}
