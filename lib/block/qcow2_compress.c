/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters, and a few of them kept unpacked: a guest reads 4 KiB at a time and
 * would otherwise unpack each cluster sixteen times.
 *
 * Deflate streams are raw, of a window of 4 KiB by QEMU's writer; other writers use up to
 * 32 KiB, so that is what is accepted. The stored length is in sectors and may run past the
 * stream's end, and past the file's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "qcow2.h"

#define SLOTS_MAX 16
#define CACHE_BYTES MIB(4)
#define ZSTD_WINDOW_LOG_MAX 23 /* 8 MiB: the frame's header names what is allocated */

struct cluster_slot {
	const struct blk_image *img;
	uint64_t host_off;
	uint64_t last_use;
	uint8_t *bytes;
	size_t cap;
};

struct cluster_cache {
	struct cluster_slot slot[SLOTS_MAX];
	uint64_t uses;
	uint8_t *packed;
	size_t packed_cap;
	ZSTD_DCtx *zstd;
	z_stream zlib;
	bool zlib_ready;
};

void cluster_cache_free(struct cluster_cache *c)
{
	if (!c)
		return;
	for (int i = 0; i < SLOTS_MAX; i++)
		free(c->slot[i].bytes);
	if (c->zlib_ready)
		inflateEnd(&c->zlib);
	ZSTD_freeDCtx(c->zstd);
	free(c->packed);
	free(c);
}

static struct cluster_cache *cache_get(struct blk *b)
{
	if (!b->tables.clusters)
		b->tables.clusters = calloc(1, sizeof(struct cluster_cache));
	return b->tables.clusters;
}

static int grow(uint8_t **buf, size_t *cap, size_t want)
{
	uint8_t *p;

	if (*cap >= want)
		return 0;
	p = aligned_alloc(4096, ALIGN_UP(want, 4096));
	if (!p)
		return -ENOMEM;
	free(*buf);
	*buf = p;
	*cap = want;
	return 0;
}

static int unpack_zlib(struct cluster_cache *c, size_t packed, uint8_t *out, size_t len)
{
	z_stream *z = &c->zlib;
	int r;

	if (!c->zlib_ready && inflateInit2(z, -15) != Z_OK)
		return -ENOMEM;
	c->zlib_ready = true;
	inflateReset(z);
	z->next_in = c->packed;
	z->avail_in = (uInt)packed;
	z->next_out = out;
	z->avail_out = (uInt)len;
	r = inflate(z, Z_FINISH);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && !z->avail_out ? 0 : -EIO;
}

static int unpack_zstd(struct cluster_cache *c, size_t packed, uint8_t *out, size_t len)
{
	ZSTD_inBuffer in = { .src = c->packed, .size = packed };
	ZSTD_outBuffer o = { .dst = out, .size = len };

	if (!c->zstd)
		c->zstd = ZSTD_createDCtx();
	if (!c->zstd)
		return -ENOMEM;
	ZSTD_DCtx_reset(c->zstd, ZSTD_reset_session_only);
	ZSTD_DCtx_setParameter(c->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	while (o.pos < o.size) {
		size_t before = o.pos + in.pos;
		size_t r = ZSTD_decompressStream(c->zstd, &o, &in);

		if (ZSTD_isError(r) || o.pos + in.pos == before)
			return -EIO;
	}
	return 0;
}

static struct cluster_slot *slot_pick(struct cluster_cache *c, const struct qcow2 *q,
				      uint64_t host_off, bool *hit)
{
	unsigned n = (unsigned)(CACHE_BYTES >> q->cluster_bits);
	struct cluster_slot *old = &c->slot[0];

	n = MIN(n, (unsigned)SLOTS_MAX);
	n = MAX(n, 2u);
	*hit = false;
	for (unsigned i = 0; i < n; i++) {
		struct cluster_slot *s = &c->slot[i];

		if (s->img == q->img && s->host_off == host_off) {
			*hit = true;
			return s;
		}
		if (s->last_use < old->last_use)
			old = s;
	}
	return old;
}

static int slot_fill(struct cluster_cache *c, struct qcow2 *q, struct cluster_slot *s,
		     const struct blk_extent *x)
{
	int r = grow(&s->bytes, &s->cap, q->cluster_size);

	s->img = NULL;
	if (!r)
		r = grow(&c->packed, &c->packed_cap, x->host_len);
	if (!r)
		r = bfile_pread(&q->img->file, c->packed, x->host_len, x->host_off);
	if (!r && q->compression == QCOW2_COMPRESSION_ZSTD)
		r = unpack_zstd(c, x->host_len, s->bytes, q->cluster_size);
	else if (!r)
		r = unpack_zlib(c, x->host_len, s->bytes, q->cluster_size);
	if (r)
		return r;
	s->img = q->img;
	s->host_off = x->host_off;
	return 0;
}

int qcow2_decompress(struct blk_image *img, const struct blk_extent *x, const uint8_t **out)
{
	struct qcow2 *q = qcow2_of(img);
	struct cluster_cache *c = cache_get(img->blk);
	struct cluster_slot *s;
	bool hit;
	int r;

	if (!c)
		return -ENOMEM;
	s = slot_pick(c, q, x->host_off, &hit);
	if (!hit) {
		r = slot_fill(c, q, s, x);
		if (r)
			return r;
	}
	s->last_use = ++c->uses;
	*out = s->bytes;
	return 0;
}
