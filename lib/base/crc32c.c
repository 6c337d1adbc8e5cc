/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli, as in RFC 3720, appendix B.4), reflected, all ones before and after. */
#include <immintrin.h>
#include <string.h>

#include "hv/checksum.h"

#define CRC32C_POLY 0x82f63b78

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t table[256];

	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (unsigned b = 0; b < 8; b++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? CRC32C_POLY : 0);
	}
	crc = ~crc;
	while (len--)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
	return ~crc;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse(uint32_t crc, const uint8_t *p,
							     size_t len)
{
	uint64_t c = ~crc, word;

	for (; len >= sizeof(word); len -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		c = _mm_crc32_u64(c, word);
	}
	while (len--)
		c = _mm_crc32_u8((uint32_t)c, *p++);
	return ~(uint32_t)c;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	return __builtin_cpu_supports("sse4.2") ? crc32c_sse(crc, data, len)
						: crc32c_portable(crc, data, len);
}
