/* SPDX-License-Identifier: MIT */
/* acpi.h - finding ACPI tables, and what they say about power. */
#ifndef GUEST_ACPI_H
#define GUEST_ACPI_H

#include "guest.h"

#define GED_PORT 0x610	/* vmm's generic event device; a real guest has it from the DSDT */

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table[8];
	uint32_t oem_revision, creator_id, creator_revision;
} __attribute__((packed));

struct acpi_power {
	bool hw_reduced;
	uint64_t sleep_port, pm1a_port, reset_port;
	uint8_t reset_value, s5;
};

/** acpi_table - the first table with @signature, checksum right; NULL. "DSDT" through the FADT. */
const struct acpi_header *acpi_table(const char *signature);
bool acpi_power_find(struct acpi_power *p);

struct madt_cpu {
	uint32_t apic_id, flags;
};
/** acpi_cpus - local APIC and x2APIC entries of the MADT; returns how many there are. */
unsigned acpi_cpus(struct madt_cpu *cpu, unsigned max);
/** acpi_ecam - base address of PCI segment 0's ECAM, 0: none. */
uint64_t acpi_ecam(void);

#endif
