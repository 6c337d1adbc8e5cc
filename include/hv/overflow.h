/* SPDX-License-Identifier: MIT */
/*
 * overflow.h - size arithmetic on numbers that a hostile peer chose.
 */
#ifndef HV_OVERFLOW_H
#define HV_OVERFLOW_H

#include "hv/base.h"

/** add_u64/mul_u64/sub_u64 - *@out = a op b; false, with *@out undefined, if it does not fit. */
static inline bool HV_WARN_UNUSED add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}
static inline bool HV_WARN_UNUSED sub_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_sub_overflow(a, b, out);
}
static inline bool HV_WARN_UNUSED mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}
static inline bool HV_WARN_UNUSED add_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}
static inline bool HV_WARN_UNUSED mul_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

/** range_ok - true if [@off, @off + @len) lies within [0, @size); cannot wrap. */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return len <= size && off <= size - len;
}

#endif
