/* SPDX-License-Identifier: MIT */
/* seed.h - a NoCloud seed disk (label CIDATA) in memory, so that a cloud image lets one in. */
#ifndef HV_VMM_BOOT_SEED_H
#define HV_VMM_BOOT_SEED_H

#include "hv/base.h"
#include "hv/err.h"

struct seed_cfg {
	const char *vm_name;	/* instance-id, and the host name unless given */
	const char *hostname;	/* NULL: @vm_name */
	const char *ssh_keys;	/* lines of an authorized_keys file; NULL for none */
	const char *user_data;	/* the user's own document; NULL: one is made */
};

/** seed_meta_data/seed_user_data - the documents, malloc'd; NULL without memory. */
char *seed_meta_data(const struct seed_cfg *cfg);
char *seed_user_data(const struct seed_cfg *cfg);
/**
 * seed_build - write a FAT image with both documents into the empty file @fd
 *
 * Return: 0; -EINVAL for a host name or key that cannot be put into YAML; -ENOSPC for
 * documents past 1 MiB.
 */
int seed_build(int fd, const struct seed_cfg *cfg, struct err *e);

#endif
