/* SPDX-License-Identifier: MIT */
/*
 * kimage.h - an unpacked kernel (kimage_format.h) goes into guest memory.
 *
 * A file with this content comes out of a stranger's image by way of the helper: all of it is
 * checked by kimage_open() or at use. Main thread of the machine process, before entry.
 */
#ifndef HV_VMM_BOOT_KIMAGE_H
#define HV_VMM_BOOT_KIMAGE_H

#include "hv/err.h"
#include "kimage_format.h"

struct gmem;

struct kimage {
	int fd;			/* borrowed */
	struct kimage_header h; /* checked */
	uint64_t start, end;	/* GPAs as linked: of the first segment, behind the last */
};

/** kimage_open - read and check the header of @fd; -EBADMSG. */
int kimage_open(struct kimage *k, int fd, struct err *e);
/** kimage_relocatable - has it a relocation table? */
bool kimage_relocatable(const struct kimage *k);
/**
 * kimage_load - segments to where they were linked plus @phys_delta
 * @map: by private mapping of the file's pages, shared with all who have them, where that can be
 *
 * Guest memory there is zero. Return: 0, -ENOMEM if there is no RAM, -errno of reading.
 */
int kimage_load(const struct kimage *k, struct gmem *m, uint64_t phys_delta, bool map,
		struct err *e);
/**
 * kimage_relocate - adapt the loaded kernel to run @virt_delta bytes above where it was linked
 *
 * Return: 0; -EBADMSG for a place outside the kernel, memory being undefined then.
 */
int kimage_relocate(const struct kimage *k, struct gmem *m, uint64_t phys_delta,
		    uint64_t virt_delta, struct err *e);

#endif
