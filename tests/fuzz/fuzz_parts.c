/* SPDX-License-Identifier: MIT */
/* Partition tables and magic numbers; GPT's checksums are made right, so that what they guard is
 * reached. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../support/gfs_support.h"
#include "hv/bytes.h"
#include "hv/overflow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend_gpt(uint8_t *d, size_t size, size_t at, size_t sector)
{
	uint8_t *h = d + at;
	uint64_t off, len;
	uint32_t n;

	if (!range_ok(at, sector, size) || memcmp(h, "EFI PART", 8))
		return;
	n = load_le32(h + 12);
	if (!mul_u64(load_le64(h + 72), sector, &off) ||
	    !mul_u64(load_le32(h + 80), load_le32(h + 84), &len) || n > sector || n < 20)
		return;
	if (range_ok(off, len, size))
		store_le32(h + 88, (uint32_t)crc32(0, d + off, (uInt)len));
	store_le32(h + 16, 0);
	store_le32(h + 16, (uint32_t)crc32(0, h, n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem_disk m = { malloc(size + 1), size };
	struct gfs_source src = mem_source(&m);
	struct gfs *g;

	memcpy(m.data, data, size);
	mend_gpt(m.data, size, 512, 512);
	mend_gpt(m.data, size, 4096, 4096);
	if (size >= 512)
		mend_gpt(m.data, size, size / 512 * 512 - 512, 512);
	if (!gfs_open_sources(&src, 1, &g, NULL)) {
		gfs_exercise(g);
		gfs_close(g);
	}
	free(m.data);
	return 0;
}
