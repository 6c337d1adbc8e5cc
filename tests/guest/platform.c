/* SPDX-License-Identifier: MIT */
/* What a guest finds besides PCI: the memory map, SMBIOS, the clock, who it runs on. */
#include "guest.h"

#define PAGE_4K 4096u

/* ---- memory --------------------------------------------------------------------------------------- */

extern uint64_t pdpt[512];

/* Map GiB number @g in 2 MiB pages, unless it is mapped. */
static void map_gib(uint64_t g)
{
	uint64_t *pd;

	if (g >= 512 || pdpt[g])
		return;
	pd = heap_alloc(4096, 4096);
	for (unsigned i = 0; i < 512; i++)
		pd[i] = (g << 30) + ((uint64_t)i << 21) + 0xe7;
	pdpt[g] = (uint64_t)pd + 0x27;
}

static bool touch(uint64_t gpa)
{
	volatile uint64_t *p = (volatile uint64_t *)gpa;
	uint64_t old = *p;
	bool good;

	*p = ~gpa;
	good = *p == ~gpa;
	*p = old;
	return good;
}

static bool overlap(const struct memory_range *a, const struct memory_range *b)
{
	return a->gpa < b->gpa + b->size && b->gpa < a->gpa + a->size;
}

/* memory=BYTES - RAM in the map adds up to that (less what is kept below 1 MiB), no ranges
 * overlap, and the first and last page of each RAM range holds what is written to it. */
static const char *word_memory(const char *arg)
{
	uint64_t want = parse_size(&arg), total = 0;

	for (unsigned i = 0; i < boot.n_ranges; i++) {
		const struct memory_range *r = &boot.range[i];

		say("RANGE 0x%lx + 0x%lx type %u\n", r->gpa, r->size, r->type);
		for (unsigned j = 0; j < i; j++)
			if (overlap(r, &boot.range[j]))
				return why("ranges %u and %u overlap", i, j);
		if (r->type != 1)
			continue;
		total += r->size;
		map_gib(r->gpa >> 30);
		map_gib((r->gpa + r->size / 2) >> 30);
		map_gib((r->gpa + r->size - 1) >> 30);
		if (!touch(r->gpa + r->size - PAGE_4K) || (r->gpa >= 0x10000 && !touch(r->gpa + r->size / 2)))
			return why("range %u is not RAM", i);
	}
	if (total > want || want - total > 0x100000)
		return why("0x%lx bytes of RAM", total);
	return NULL;
}
WORD("memory", word_memory);

/* ---- SMBIOS (DSP0134 3.x: entry point 5.2.2, structures 6) ------------------------------------------- */

struct smbios3 {
	char anchor[5];
	uint8_t checksum, length, major, minor, docrev, revision, reserved;
	uint32_t max_bytes;
	uint64_t table;
} __attribute__((packed));

static const struct smbios3 *find_smbios(void)
{
	for (uintptr_t p = 0xf0000; p < 0x100000; p += 16) {
		const struct smbios3 *s = (const void *)p;
		uint8_t sum = 0;

		if (memcmp(s->anchor, "_SM3_", 5))
			continue;
		for (unsigned i = 0; i < s->length; i++)
			sum = (uint8_t)(sum + ((const uint8_t *)s)[i]);
		return sum ? NULL : s;
	}
	return NULL;
}

/* String @n behind the formatted part of the structure at @p. */
static const char *smbios_string(const uint8_t *p, unsigned n)
{
	const char *s = (const char *)p + p[1];

	while (n > 1 && *s) {
		s += strlen(s) + 1;
		n--;
	}
	return n ? s : "";
}

static const uint8_t *smbios_next(const uint8_t *p)
{
	p += p[1];
	while (p[0] || p[1])
		p++;
	return p + 2;
}

/* smbios=NAME - all structures up to the end marker; prints the system's identity. */
static const char *word_smbios(const char *arg)
{
	const struct smbios3 *s = find_smbios();
	const uint8_t *p, *end;
	unsigned seen[128] = { 0 };

	(void)arg;
	if (!s)
		return "no SMBIOS 3 entry point, or its checksum is wrong";
	p = (const uint8_t *)s->table;
	end = p + s->max_bytes;
	for (; p < end && p[0] != 127; p = smbios_next(p)) {
		if (p[1] < 4)
			return why("a structure of %u bytes", p[1]);
		seen[p[0] & 127]++;
		if (p[0] != 1)
			continue;
		say("SYSTEM [%s] [%s] serial [%s] uuid ", smbios_string(p, p[4]), smbios_string(p, p[5]),
		    smbios_string(p, p[7]));
		for (unsigned i = 0; i < 16; i++)
			say("%02x", p[8 + i]);
		say("\n");
	}
	if (p >= end)
		return "no end marker within the table's size";
	if (!seen[0] || !seen[1] || !seen[3] || !seen[17])
		return "a structure that everybody expects is missing";
	return NULL;
}
WORD("smbios", word_smbios);

/* ---- the clock ------------------------------------------------------------------------------------------ */

static unsigned cmos(uint8_t reg)
{
	uint8_t v;

	out8(0x70, reg);
	v = in8(0x71);
	return (v >> 4) * 10u + (v & 0xf);
}

/* rtc - print the time of day as the clock has it (UTC). */
static const char *word_rtc(const char *arg)
{
	(void)arg;
	out8(0x70, 0x0b);
	if (in8(0x71) & 4)
		return "it is in binary mode";
	say("RTC %02u%02u-%02u-%02u %02u:%02u:%02u\n", cmos(0x32), cmos(9), cmos(8), cmos(7), cmos(4),
	    cmos(2), cmos(0));
	return NULL;
}
WORD("rtc", word_rtc);

/* rtc-set - set it an hour ahead; it goes on from there. */
static const char *word_rtc_set(const char *arg)
{
	unsigned hour = cmos(4), next = (hour + 1) % 24;

	(void)arg;
	out8(0x70, 4);
	out8(0x71, (uint8_t)(next / 10 << 4 | next % 10));
	return cmos(4) == next ? NULL : why("hour %u after setting %u", cmos(4), next);
}
WORD("rtc-set", word_rtc_set);

/* ---- CPUID ------------------------------------------------------------------------------------------------- */

/* cpuid=N - KVM's signature, N threads, all of them in one package, our own APIC ID. */
static const char *word_cpuid(const char *arg)
{
	uint64_t n = parse_size(&arg);
	struct cpuid sig = cpuid_real(0x40000000, 0), one = cpuid_real(1, 0), core;
	uint32_t lapic = *(volatile uint32_t *)UINT64_C(0xfee00020) >> 24;

	if (memcmp(&sig.b, "KVMKVMKVM\0\0", 12))
		return "no KVM signature";
	if (!(one.c >> 31 & 1))
		return "the hypervisor bit is not set";
	if (one.b >> 24 != lapic)
		return why("leaf 1 has APIC ID %u, the APIC %u", one.b >> 24, lapic);
	core = cpuid_real(0xb, 1);
	if ((core.c >> 8 & 0xff) != 2 || (core.b & 0xffff) != n)
		return why("leaf 0xb level 1: type %u, %u threads", core.c >> 8 & 0xff, core.b & 0xffff);
	if ((n - 1) >> (core.a & 0x1f))
		return why("a shift of %u is too small for %lu threads", core.a & 0x1f, n);
	return cpuid_real(0xb, 0).d == lapic ? NULL : "leaf 0xb has another APIC ID";
}
WORD("cpuid", word_cpuid);
