/* SPDX-License-Identifier: MIT */
/* Word-wise searches in bit arrays. */
#include "hv/bitmap.h"

static size_t bitmap_next(const uint64_t *map, size_t bits, size_t from, uint64_t flip)
{
	size_t words = BITMAP_WORDS(bits);
	size_t w = from / 64;
	uint64_t v;

	if (from >= bits)
		return bits;
	v = (map[w] ^ flip) & (UINT64_MAX << (from % 64));
	while (!v && ++w < words)
		v = map[w] ^ flip;
	if (!v)
		return bits;
	return MIN(bits, w * 64 + (size_t)__builtin_ctzll(v));
}

size_t bitmap_next_zero(const uint64_t *map, size_t bits, size_t from)
{
	return bitmap_next(map, bits, from, UINT64_MAX);
}

size_t bitmap_next_set(const uint64_t *map, size_t bits, size_t from)
{
	return bitmap_next(map, bits, from, 0);
}
