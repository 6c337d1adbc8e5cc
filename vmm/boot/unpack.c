/* SPDX-License-Identifier: MIT */
/* A bzImage's payload through the compression libraries, from one buffer into another. */
#include "unpack.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "hv/bytes.h"

#define CLAIM_BYTES 4
#define GZIP_WINDOW_BITS (15 + 16) /* zlib: largest window, gzip's header and trailer */
#define LZ4_LEGACY_MAGIC 0x184c2102
#define LZ4_LEGACY_BLOCK MIB(8) /* unpacked, all blocks but the last */

/* *@out_len: in, room; out, bytes made. 0 or -errno. */
struct unpack_codec {
	const char *name;
	uint8_t magic[6];
	size_t magic_len;
	bool claim_follows; /* the size stands behind the stream, not in its own trailer */
	int (*decode)(const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len);
};

static int unpack_gzip(const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len)
{
	z_stream z = { .next_in = (uint8_t *)in,
		       .avail_in = (uInt)in_len,
		       .next_out = out,
		       .avail_out = (uInt)*out_len };
	int r;

	if (inflateInit2(&z, GZIP_WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	r = inflate(&z, Z_FINISH);
	*out_len -= z.avail_out;
	inflateEnd(&z);
	if (r == Z_MEM_ERROR)
		return -ENOMEM;
	return r == Z_STREAM_END ? 0 : -EBADMSG;
}

static int unpack_xz(const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len)
{
	uint64_t memory = UNPACK_MEMORY_MAX;
	size_t in_pos = 0, out_pos = 0;
	lzma_ret r = lzma_stream_buffer_decode(&memory, 0, NULL, in, &in_pos, in_len, out, &out_pos,
					       *out_len);

	*out_len = out_pos;
	if (r == LZMA_MEM_ERROR || r == LZMA_MEMLIMIT_ERROR)
		return -ENOMEM;
	return r == LZMA_OK ? 0 : -EBADMSG;
}

/* Magic, then blocks: packed size (le32), data. The magic may come again: files joined. */
static int unpack_lz4(const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len)
{
	size_t pos = 0, made = 0;

	while (in_len - pos >= sizeof(uint32_t)) {
		size_t packed = load_le32(in + pos);
		int n;

		pos += sizeof(uint32_t);
		if (packed == LZ4_LEGACY_MAGIC)
			continue;
		if (!packed || packed > in_len - pos)
			return -EBADMSG;
		n = LZ4_decompress_safe((const char *)in + pos, (char *)out + made, (int)packed,
					(int)MIN(LZ4_LEGACY_BLOCK, (uint64_t)(*out_len - made)));
		if (n < 0)
			return -EBADMSG;
		pos += packed;
		made += (size_t)n;
	}
	*out_len = made;
	return pos == in_len ? 0 : -EBADMSG;
}

static int unpack_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len)
{
	size_t n = ZSTD_decompress(out, *out_len, in, in_len);

	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
	*out_len = n;
	return 0;
}

static const struct unpack_codec codecs[] = {
	{ "gzip", { 0x1f, 0x8b, 8 }, 3, false, unpack_gzip },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, true, unpack_xz },
	{ "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4, true, unpack_lz4 },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, true, unpack_zstd },
};

static const struct unpack_codec *unpack_find(const uint8_t *in, size_t in_len)
{
	for (size_t i = 0; i < ARRAY_SIZE(codecs); i++)
		if (in_len > codecs[i].magic_len + CLAIM_BYTES &&
		    !memcmp(in, codecs[i].magic, codecs[i].magic_len))
			return &codecs[i];
	return NULL;
}

uint64_t unpack_claimed_bytes(const uint8_t *in, size_t in_len)
{
	return in_len < CLAIM_BYTES ? 0 : load_le32(in + in_len - CLAIM_BYTES);
}

int unpack_payload(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len, struct err *e)
{
	const struct unpack_codec *c;
	size_t made = out_len;
	int r;

	if (in_len > UNPACK_IN_MAX || out_len > UNPACK_OUT_MAX)
		return err_set(e, -E2BIG, "kernel payload: too large");
	c = unpack_find(in, in_len);
	if (!c)
		return err_set(e, -ENOTSUP, "kernel payload: not gzip, xz, lz4 or zstd");
	r = c->decode(in, c->claim_follows ? in_len - CLAIM_BYTES : in_len, out, &made);
	if (!r && made != out_len)
		r = -EBADMSG;
	return r ? err_set(e, r, "kernel payload: %s: %s", c->name, strerror(-r)) : 0;
}
