/* SPDX-License-Identifier: MIT */
/*
 * acpi_dump - write the ACPI tables of a machine into files, for iasl.
 * usage: acpi_dump CPUS DIR   makes DIR/dsdt.dat, facp.dat, apic.dat, mcfg.dat
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi.h"
#include "gmem.h"
#include "hv/bytes.h"
#include "layout.h"

static int dump(const uint8_t *ram, uint64_t gpa, const char *dir, const char *name)
{
	char path[4096];
	uint32_t len = load_le32(ram + gpa + 4);
	FILE *f;
	int bad;

	snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
	f = fopen(path, "we");
	if (!f)
		return -1;
	bad = fwrite(ram + gpa, 1, len, f) != len;
	return fclose(f) || bad ? -1 : 0;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "facp", "apic", "mcfg" };
	uint8_t *ram = calloc(1, MIB(1));
	uint64_t xsdt;
	struct gmem m;
	struct err e = { 0 };

	if (argc != 3 || !ram || gmem_init_flat(&m, 0, ram, MIB(1)))
		return 2;
	if (acpi_write(&m, (unsigned)atoi(argv[1]), &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	xsdt = load_le64(ram + LAYOUT_RSDP + 24);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (dump(ram, load_le64(ram + xsdt + 36 + 8 * i), argv[2], names[i]))
			return 1;
	if (dump(ram, load_le64(ram + load_le64(ram + xsdt + 36) + 140), argv[2], "dsdt"))
		return 1;
	gmem_fini(&m);
	free(ram);
	return 0;
}
