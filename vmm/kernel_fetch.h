/* SPDX-License-Identifier: MIT */
/*
 * kernel_fetch.h - the machine's side of the kernel cache: get the kernel unpacked, by the
 * launcher, or from the last boot once the launcher has left.
 */
#ifndef HV_VMM_KERNEL_FETCH_H
#define HV_VMM_KERNEL_FETCH_H

#include "boot/source.h"
#include "hv/checksum.h"
#include "hv/log.h"
#include "link.h"

/* Lives as long as the machine process; zeroed but for @kept_fd = -1. */
struct kernel_fetch {
	int link_fd;
	int kept_fd; /* the last boot's kimage, a file of the cache; -1 for none */
	uint8_t kept_digest[SHA256_BYTES];
};
struct kernel_fetched {
	int fd; /* kimage, the caller's; -1: the guest unpacks the kernel itself */
	char how[96];
	uint32_t order; /* LINK_STOP or LINK_KILL came meanwhile; 0: none */
};

/** kernel_fetch - have @kernel's payload unpacked; what hinders it goes to @log, as a note. */
void kernel_fetch(struct kernel_fetch *f, const struct boot_source *kernel, struct log_ctx *log,
		  struct kernel_fetched *out);
/** kernel_fetch_fini - release what is kept. */
void kernel_fetch_fini(struct kernel_fetch *f);

#endif
