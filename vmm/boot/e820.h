/* SPDX-License-Identifier: MIT */
/* e820.h - the firmware's memory map as a kernel gets it at entry. */
#ifndef HV_VMM_BOOT_E820_H
#define HV_VMM_BOOT_E820_H

#include "hv/base.h"

#define E820_MAX 16
#define E820_RAM 1
#define E820_RESERVED 2

struct gmem;
struct e820_entry {
	uint64_t gpa, size;
	uint32_t type;
};
struct e820 {
	unsigned n;
	struct e820_entry entry[E820_MAX];
};

/** e820_build - RAM regions of @m around the reserved first MiB, plus ECAM as reserved. */
void e820_build(const struct gmem *m, struct e820 *out);

#endif
