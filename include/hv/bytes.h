/* SPDX-License-Identifier: MIT */
/*
 * bytes.h - unaligned loads and stores of little- and big-endian integers.
 *
 * @p needs as many readable (writable) bytes as the name says; no alignment.
 */
#ifndef HV_BYTES_H
#define HV_BYTES_H

#include <endian.h>
#include <string.h>

#include "hv/base.h"

#define HV_DEFINE_LOAD(name, type, conv)          \
	static inline type name(const void *p)    \
	{                                         \
		type v_;                          \
		memcpy(&v_, p, sizeof(v_));       \
		return conv(v_);                  \
	}
#define HV_DEFINE_STORE(name, type, conv)              \
	static inline void name(void *p, type v)       \
	{                                              \
		type v_ = conv(v);                     \
		memcpy(p, &v_, sizeof(v_));            \
	}

HV_DEFINE_LOAD(load_le16, uint16_t, le16toh)
HV_DEFINE_LOAD(load_le32, uint32_t, le32toh)
HV_DEFINE_LOAD(load_le64, uint64_t, le64toh)
HV_DEFINE_LOAD(load_be16, uint16_t, be16toh)
HV_DEFINE_LOAD(load_be32, uint32_t, be32toh)
HV_DEFINE_LOAD(load_be64, uint64_t, be64toh)
HV_DEFINE_STORE(store_le16, uint16_t, htole16)
HV_DEFINE_STORE(store_le32, uint32_t, htole32)
HV_DEFINE_STORE(store_le64, uint64_t, htole64)
HV_DEFINE_STORE(store_be16, uint16_t, htobe16)
HV_DEFINE_STORE(store_be32, uint32_t, htobe32)
HV_DEFINE_STORE(store_be64, uint64_t, htobe64)

#undef HV_DEFINE_LOAD
#undef HV_DEFINE_STORE

/** load_le - the low @len bytes (1..8) at @p as a little-endian number. */
static inline uint64_t load_le(const void *p, unsigned len)
{
	uint64_t v = 0;

	memcpy(&v, p, len);
	return le64toh(v);
}

/** store_le - the low @len bytes (1..8) of @v at @p, little-endian. */
static inline void store_le(void *p, uint64_t v, unsigned len)
{
	v = htole64(v);
	memcpy(p, &v, len);
}

#endif
