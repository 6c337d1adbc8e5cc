/* SPDX-License-Identifier: MIT */
/* mini_kernel.h - a vmlinux of a few pages with a relocation table, and payloads made of it. */
#ifndef HV_TESTS_MINI_KERNEL_H
#define HV_TESTS_MINI_KERNEL_H

#include "hv/base.h"

#define MINI_BASE UINT64_C(0x1000000) /* first segment, two pages; entry at its start */
#define MINI_DATA UINT64_C(0x1004080) /* second: MINI_DATA_FILE bytes and zeros up to a page */
#define MINI_DATA_FILE 0x1100
#define MINI_DATA_MEM 0x3000
#define MINI_END (MINI_DATA + MINI_DATA_MEM)
#define MINI_MAX KIB(64)

/* Where the table's places are: one of each kind. */
#define MINI_PLACE_64 (MINI_BASE + 0x100)
#define MINI_PLACE_INVERSE (MINI_BASE + 0x200)
#define MINI_PLACE_32 (MINI_DATA + 0x10)
#define MINI_VALUE 0x1122334455667788ull /* what is at each place before relocation */

enum mini_codec { MINI_GZIP, MINI_XZ, MINI_LZ4, MINI_ZSTD, MINI_CODECS };

/** mini_vmlinux - write it to @buf; @groups: 0 (no table), 2 or 3. Return: bytes. */
size_t mini_vmlinux(uint8_t buf[MINI_MAX], unsigned groups);
/** mini_pack - @data as a bzImage's payload, its size behind it. Return: a block to free. */
uint8_t *mini_pack(enum mini_codec codec, const uint8_t *data, size_t len, size_t *out_len);

#endif
