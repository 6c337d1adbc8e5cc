/* SPDX-License-Identifier: MIT */
/*
 * base.h - the vocabulary every file shares: attributes, sizes, small macros.
 *
 * Layer: base; includes nothing of this project.
 */
#ifndef HV_BASE_H
#define HV_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HV_VERSION "0.1.0"

#define HV_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define HV_UNUSED __attribute__((unused))
#define HV_WARN_UNUSED __attribute__((warn_unused_result))
#define HV_NORETURN __attribute__((noreturn))
#define HV_PACKED __attribute__((packed))
#define HV_CACHELINE __attribute__((aligned(64)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT32(n) (UINT32_C(1) << (n))
#define BIT64(n) (UINT64_C(1) << (n))
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b)                      \
	({                             \
		__typeof__(a) a_ = (a); \
		__typeof__(b) b_ = (b); \
		a_ < b_ ? a_ : b_;     \
	})
#define MAX(a, b)                      \
	({                             \
		__typeof__(a) a_ = (a); \
		__typeof__(b) b_ = (b); \
		a_ > b_ ? a_ : b_;     \
	})

/* @align is a power of two; ALIGN_UP wraps at the type's end: check first with overflow.h. */
#define ALIGN_DOWN(x, align) ((x) & ~((__typeof__(x))(align)-1))
#define ALIGN_UP(x, align) ALIGN_DOWN((x) + ((__typeof__(x))(align)-1), align)
#define IS_ALIGNED(x, align) (((x) & ((__typeof__(x))(align)-1)) == 0)
#define IS_POW2(x) ((x) != 0 && ((x) & ((x)-1)) == 0)
#define DIV_ROUND_UP(n, d) (((n) / (d)) + ((n) % (d) != 0))

#endif
