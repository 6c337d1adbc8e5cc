/* SPDX-License-Identifier: MIT */
/* LVM2's text metadata, wrapped into a physical volume whose checksums are right. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../support/gfs_support.h"
#include "hv/bytes.h"

#define PV_BYTES MIB(2)
#define AREA_OFF 4096u
#define AREA_LEN (MIB(1) - AREA_OFF)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t lvm_crc(const uint8_t *p, size_t n)
{
	return ~(uint32_t)crc32(~0xf597a6cfu, p, (uInt)n);
}

static void put_pv(uint8_t *d, const uint8_t *text, size_t n)
{
	uint8_t *label = d + 512, *area = d + AREA_OFF;

	memcpy(label, "LABELONE", 8);
	store_le64(label + 8, 1);
	store_le32(label + 20, 32);
	memcpy(label + 24, "LVM2 001", 8);
	memset(label + 32, 'A', 32);
	store_le64(label + 64, PV_BYTES);
	store_le64(label + 72, MIB(1)); /* data area, its end, metadata area */
	store_le64(label + 104, AREA_OFF);
	store_le64(label + 112, AREA_LEN);
	store_le32(label + 16, lvm_crc(label + 20, 492));
	memcpy(area + 4, " LVM2 x[5A%r0N*>", 16);
	store_le32(area + 20, 1);
	store_le64(area + 24, AREA_OFF);
	store_le64(area + 32, AREA_LEN);
	store_le64(area + 40, 512);
	store_le64(area + 48, n);
	store_le32(area + 56, lvm_crc(text, n));
	store_le32(area, lvm_crc(area + 4, 508));
	memcpy(area + 512, text, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem_disk m = { calloc(1, PV_BYTES), PV_BYTES };
	struct gfs_source src = mem_source(&m);
	struct gfs *g;

	put_pv(m.data, data, MIN(size, (size_t)AREA_LEN - 512));
	if (!gfs_open_sources(&src, 1, &g, NULL)) {
		gfs_exercise(g);
		gfs_close(g);
	}
	free(m.data);
	return 0;
}
