/* SPDX-License-Identifier: MIT */
/* smbios.h - SMBIOS 3 tables: who this machine says it is. */
#ifndef HV_VMM_BOOT_SMBIOS_H
#define HV_VMM_BOOT_SMBIOS_H

#include "hv/base.h"
#include "hv/err.h"

struct gmem;

struct smbios_cfg {
	const char *name;	/* VM name: serial number, and what the UUID is derived from */
	uint64_t memory_bytes;
	unsigned cpus;
	const char *const *oem_strings;
	size_t n_oem_strings;
};

/** smbios_uuid - the UUID (RFC 9562, version 8) that belongs to @name; the same on every start. */
void smbios_uuid(const char *name, uint8_t uuid[16]);
/** smbios_write - entry point at LAYOUT_SMBIOS and tables behind it. -ENOSPC, -EFAULT. */
int smbios_write(struct gmem *m, const struct smbios_cfg *cfg, struct err *e);

#endif
