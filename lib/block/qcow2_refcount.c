/* SPDX-License-Identifier: MIT */
/* Counters of 1 to 64 bits in a refcount block; those below a byte start at its low end. */
#include "hv/bytes.h"
#include "qcow2.h"

uint64_t refcount_load(const void *block, uint64_t i, unsigned order)
{
	const uint8_t *p = block;

	switch (order) {
	case 3: return p[i];
	case 4: return load_be16(p + i * 2);
	case 5: return load_be32(p + i * 4);
	case 6: return load_be64(p + i * 8);
	default: return p[(i << order) / 8] >> ((i << order) % 8) & (BIT32(BIT32(order)) - 1);
	}
}

void refcount_store(void *block, uint64_t i, unsigned order, uint64_t v)
{
	uint8_t *p = block;
	unsigned shift;

	switch (order) {
	case 3: p[i] = (uint8_t)v; return;
	case 4: store_be16(p + i * 2, (uint16_t)v); return;
	case 5: store_be32(p + i * 4, (uint32_t)v); return;
	case 6: store_be64(p + i * 8, v); return;
	}
	shift = (unsigned)((i << order) % 8);
	p += (i << order) / 8;
	*p = (uint8_t)((*p & ~((BIT32(BIT32(order)) - 1) << shift)) | v << shift);
}
