/* SPDX-License-Identifier: MIT */
/* ACPI 6.4: RSDP 5.2.5, XSDT 5.2.8, FADT 5.2.9, MADT 5.2.12. */
#include "acpi.h"

enum {	/* FADT */
	FADT_DSDT = 40,
	FADT_PM1A_CNT = 64,
	FADT_FLAGS = 112,
	FADT_RESET_REG = 116,
	FADT_RESET_VALUE = 128,
	FADT_X_DSDT = 140,
	FADT_SLEEP_CONTROL = 244,
};
#define FADT_HW_REDUCED (1u << 20)
#define FADT_RESET_SUPPORTED (1u << 10)
#define GAS_ADDRESS 4
#define MADT_ENTRIES 44

static uint32_t get32(const void *p, size_t off)
{
	uint32_t v;

	memcpy(&v, (const char *)p + off, sizeof(v));
	return v;
}

static uint64_t get64(const void *p, size_t off)
{
	uint64_t v;

	memcpy(&v, (const char *)p + off, sizeof(v));
	return v;
}

static uint8_t sum(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *b++);
	return s;
}

static bool is_rsdp(const void *p)
{
	return !memcmp(p, "RSD PTR ", 8) && !sum(p, 20);
}

/* Where PVH says, else by scanning. */
static const void *find_rsdp(void)
{
	if (boot.rsdp && is_rsdp((const void *)boot.rsdp))
		return (const void *)boot.rsdp;
	for (uintptr_t p = 0xe0000; p < 0x100000; p += 16)
		if (is_rsdp((const void *)p))
			return (const void *)p;
	return NULL;
}

/* Entry @i of the XSDT, or of the RSDT where there is no XSDT. */
static const struct acpi_header *entry(unsigned i)
{
	const char *rsdp = find_rsdp();
	const struct acpi_header *root;
	bool wide;

	if (!rsdp)
		return NULL;
	wide = rsdp[15] >= 2 && get64(rsdp, 24);
	root = wide ? (const void *)get64(rsdp, 24) : (const void *)(uintptr_t)get32(rsdp, 16);
	if (sizeof(*root) + (i + 1) * (wide ? 8 : 4) > root->length)
		return NULL;
	return wide ? (const void *)get64(root, sizeof(*root) + i * 8) :
		      (const void *)(uintptr_t)get32(root, sizeof(*root) + i * 4);
}

const struct acpi_header *acpi_table(const char *signature)
{
	const struct acpi_header *t;

	if (!strcmp(signature, "DSDT")) {
		const struct acpi_header *fadt = acpi_table("FACP");

		if (!fadt)
			return NULL;
		t = fadt->length > FADT_X_DSDT + 8 ? (const void *)get64(fadt, FADT_X_DSDT) : NULL;
		if (!t)
			t = (const void *)(uintptr_t)get32(fadt, FADT_DSDT);
		return t && !sum(t, t->length) ? t : NULL;
	}
	for (unsigned i = 0; (t = entry(i)); i++)
		if (!memcmp(t->signature, signature, 4))
			return sum(t, t->length) ? NULL : t;
	return NULL;
}

/* Name (_S5, Package { TYPE, … }): 08 "_S5_" 12 PkgLength count, then 0a TYPE, 00 or 01. */
static uint8_t find_s5(void)
{
	const struct acpi_header *dsdt = acpi_table("DSDT");
	const uint8_t *p = (const uint8_t *)dsdt;

	for (size_t i = sizeof(*dsdt); dsdt && i + 10 <= dsdt->length; i++) {
		if (memcmp(p + i, "_S5_\x12", 5))
			continue;
		p += i + 5;
		p += 1 + (*p >> 6);	/* PkgLength */
		p++;			/* count */
		return *p == 0x0a ? p[1] : *p;
	}
	return 0;
}

bool acpi_power_find(struct acpi_power *p)
{
	const struct acpi_header *fadt = acpi_table("FACP");
	uint32_t flags;

	if (!fadt)
		return false;
	flags = get32(fadt, FADT_FLAGS);
	*p = (struct acpi_power){ .hw_reduced = flags & FADT_HW_REDUCED,
				  .pm1a_port = get32(fadt, FADT_PM1A_CNT),
				  .s5 = find_s5() };
	if (flags & FADT_RESET_SUPPORTED) {
		p->reset_port = get64(fadt, FADT_RESET_REG + GAS_ADDRESS);
		p->reset_value = ((const uint8_t *)fadt)[FADT_RESET_VALUE];
	}
	if (p->hw_reduced)
		p->sleep_port = get64(fadt, FADT_SLEEP_CONTROL + GAS_ADDRESS);
	return true;
}

unsigned acpi_cpus(struct madt_cpu *cpu, unsigned max)
{
	const struct acpi_header *madt = acpi_table("APIC");
	const uint8_t *p = (const uint8_t *)madt;
	unsigned n = 0;

	for (size_t i = MADT_ENTRIES; madt && i + 2 <= madt->length && p[i + 1] >= 2; i += p[i + 1]) {
		if (p[i] != 0 && p[i] != 9)
			continue;
		if (n < max && p[i] == 0)
			cpu[n] = (struct madt_cpu){ p[i + 3], get32(p, i + 4) };
		else if (n < max)
			cpu[n] = (struct madt_cpu){ get32(p, i + 4), get32(p, i + 8) };
		n += p[i] == 9 || get32(p, i + 4) & 3;
	}
	return n;
}

uint64_t acpi_ecam(void)
{
	const struct acpi_header *mcfg = acpi_table("MCFG");

	return mcfg ? get64(mcfg, sizeof(*mcfg) + 8) : 0;
}

/* ---- words ------------------------------------------------------------------------------------ */

/* acpi - every table is whole, and those a guest needs are there. */
static const char *word_acpi(const char *arg)
{
	static const char *const needed[] = { "FACP", "APIC", "MCFG", "DSDT" };
	const char *rsdp = find_rsdp();
	const struct acpi_header *t;
	struct acpi_power p;

	(void)arg;
	if (!rsdp)
		return "no RSDP";
	if (rsdp[15] >= 2 && sum(rsdp, get32(rsdp, 20)))
		return "extended checksum of the RSDP";
	for (unsigned i = 0; (t = entry(i)); i++)
		if (sum(t, t->length))
			return why("checksum of table %u", i);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!acpi_table(needed[i]))
			return why("no sound %s", needed[i]);
	acpi_power_find(&p);
	say("ACPI hw_reduced=%u sleep=0x%lx reset=0x%lx/%u s5=%u ecam=0x%lx\n", p.hw_reduced,
	    p.sleep_port, p.reset_port, p.reset_value, p.s5, acpi_ecam());
	return NULL;
}
WORD("acpi", word_acpi);

/* madt=N - N processors, APIC IDs all different. */
static const char *word_madt(const char *arg)
{
	struct madt_cpu cpu[AP_MAX];
	unsigned n = acpi_cpus(cpu, AP_MAX);

	if (n != parse_size(&arg))
		return why("%u processors", n);
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < i; j++)
			if (cpu[i].apic_id == cpu[j].apic_id)
				return why("APIC ID %u twice", cpu[i].apic_id);
	return NULL;
}
WORD("madt", word_madt);
