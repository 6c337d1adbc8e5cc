/* SPDX-License-Identifier: MIT */
/*
 * bitmap.h - bit arrays over 64-bit words. Caller's storage, caller's locking.
 */
#ifndef HV_BITMAP_H
#define HV_BITMAP_H

#include "hv/base.h"

#define BITMAP_WORDS(bits) (((bits) + 63) / 64)

static inline bool bitmap_test(const uint64_t *map, size_t bit)
{
	return map[bit / 64] >> (bit % 64) & 1;
}
static inline void bitmap_set(uint64_t *map, size_t bit)
{
	map[bit / 64] |= BIT64(bit % 64);
}
static inline void bitmap_clear(uint64_t *map, size_t bit)
{
	map[bit / 64] &= ~BIT64(bit % 64);
}
/** bitmap_next_zero - index of the first clear bit in [@from, @bits), or @bits. */
size_t bitmap_next_zero(const uint64_t *map, size_t bits, size_t from);
/** bitmap_next_set - index of the first set bit in [@from, @bits), or @bits. */
size_t bitmap_next_set(const uint64_t *map, size_t bits, size_t from);

#endif
