/* SPDX-License-Identifier: MIT */
/*
 * unpacked.h - start a bzImage by its kernel proper, which was unpacked on the host: vmm does
 * what the bzImage's own loader (arch/x86/boot/compressed) would do in the guest.
 */
#ifndef HV_VMM_BOOT_UNPACKED_H
#define HV_VMM_BOOT_UNPACKED_H

#include <asm/bootparam.h>

#include "kernel.h"

/* What the kernel is told about how it was loaded. */
struct unpacked_done {
	uint64_t rip;
	bool kaslr;
};

/**
 * unpacked_load - place @k->image and the initrds; at random offsets unless "nokaslr"
 *
 * Return: 0 with *@p and *@done; anything else: the bzImage is to be loaded as it is.
 */
int unpacked_load(const struct kernel_load *k, const struct setup_header *h,
		  struct kernel_placed *p, struct unpacked_done *done, struct err *e);

#endif
