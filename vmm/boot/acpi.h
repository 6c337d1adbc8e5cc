/* SPDX-License-Identifier: MIT */
/* acpi.h - hardware-reduced ACPI tables for one VM, written below 1 MiB. */
#ifndef HV_VMM_BOOT_ACPI_H
#define HV_VMM_BOOT_ACPI_H

#include "hv/base.h"
#include "hv/err.h"

struct gmem;

/**
 * acpi_write - build RSDP, XSDT, FADT, MADT, MCFG and DSDT in guest memory
 * @cpus: vCPUs; APIC IDs are 0..@cpus-1
 *
 * Main thread, before entry. Return: 0 with the RSDP at LAYOUT_RSDP, or -ENOSPC/-EFAULT.
 */
int acpi_write(struct gmem *m, unsigned cpus, struct err *e);

#endif
