/* SPDX-License-Identifier: MIT */
/* source.h - where a kernel or an initrd is read from: a host file, or one inside an image. */
#ifndef HV_VMM_BOOT_SOURCE_H
#define HV_VMM_BOOT_SOURCE_H

#include "hv/base.h"

struct boot_source {
	const char *name;	/* for messages; borrowed */
	uint64_t size;		/* bytes */
	/* Exactly @len bytes at @off, within @size: 0 or -errno. Main thread. */
	int (*read)(void *ctx, uint64_t off, void *buf, size_t len);
	void *ctx;
};

#endif
