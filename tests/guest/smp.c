/* SPDX-License-Identifier: MIT */
/* The other processors: INIT, SIPI, then each says which APIC ID it has. */
#include "acpi.h"

#define LAPIC UINT64_C(0xfee00000)
#define LAPIC_ID 0x20
#define LAPIC_SVR 0xf0
#define LAPIC_ICR_LOW 0x300
#define LAPIC_ICR_HIGH 0x310
#define ICR_INIT 0x4500
#define ICR_STARTUP 0x4600

extern uint8_t ap_begin[], ap_end[];
/* Filled by start.S. Extended topology (leaf 0xb): EDX is the x2APIC ID, EBX of level 1 how
 * many there are. */
extern uint32_t ap_arrived, ap_apic_id[AP_MAX], ap_threads[AP_MAX];
void ap_main(unsigned index);

uint32_t ap_arrived, ap_apic_id[AP_MAX], ap_threads[AP_MAX];
static struct {
	volatile uint32_t done;
	volatile uint64_t counter;
} ap[AP_MAX];
static volatile uint32_t counting;

void ap_main(unsigned index)
{
	if (index < AP_MAX)
		ap[index].done = 1;
	for (;;) {
		while (counting && index < AP_MAX)
			ap[index].counter++;
		pause_cpu();
	}
}

static void lapic_write(unsigned reg, uint32_t v)
{
	mmio_write32((void *)(LAPIC + reg), v);
}

static void start_cpu(uint32_t apic_id)
{
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR_LOW, ICR_INIT);
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR_LOW, ICR_STARTUP | AP_TRAMPOLINE >> 12);
}

static const char *start_all(unsigned n)
{
	struct madt_cpu cpu[AP_MAX];
	uint32_t self = mmio_read32((void *)(LAPIC + LAPIC_ID)) >> 24;
	uint64_t end = deadline_ms(PATIENCE_MS);

	if (acpi_cpus(cpu, AP_MAX) != n || n > AP_MAX)
		return why("the MADT has %u processors", acpi_cpus(cpu, AP_MAX));
	memcpy((void *)AP_TRAMPOLINE, ap_begin, (size_t)(ap_end - ap_begin));
	lapic_write(LAPIC_SVR, 0x1ff);
	for (unsigned i = 0; i < n; i++)
		if (cpu[i].apic_id != self)
			start_cpu(cpu[i].apic_id);
	for (unsigned i = 0; i + 1 < n; i++)
		while (!ap[i].done)
			if (expired(end))
				return why("%u of %u arrived", i, n - 1);
	return NULL;
}

static bool in_madt(uint32_t id, unsigned n)
{
	struct madt_cpu cpu[AP_MAX];

	acpi_cpus(cpu, AP_MAX);
	for (unsigned i = 0; i < n; i++)
		if (cpu[i].apic_id == id)
			return true;
	return false;
}

static const char *check_ids(unsigned n)
{
	uint32_t seen[AP_MAX] = { [AP_MAX - 1] = cpuid_real(0xb, 0).d };

	for (unsigned i = 0; i + 1 < n; i++) {
		if (ap_threads[i] != n)
			return why("CPUID counts %u threads", ap_threads[i]);
		if (!in_madt(ap_apic_id[i], n))
			return why("APIC ID %u is not in the MADT", ap_apic_id[i]);
		if (ap_apic_id[i] == seen[AP_MAX - 1])
			return "another processor has our APIC ID";
		for (unsigned j = 0; j < i; j++)
			if (seen[j] == ap_apic_id[i])
				return why("APIC ID %u twice", seen[j]);
		seen[i] = ap_apic_id[i];
		say("CPU %u threads %u\n", ap_apic_id[i], ap_threads[i]);
	}
	return NULL;
}

/* smp=N - start N-1 others; CPUID and MADT agree on who they are. */
static const char *word_smp(const char *arg)
{
	unsigned n = (unsigned)parse_size(&arg);
	const char *bad = start_all(n);

	return bad ? bad : check_ids(n);
}
WORD("smp", word_smp);

/* smp-run - the others count: all of them make progress. */
static const char *word_smp_run(const char *arg)
{
	uint64_t end = deadline_ms(PATIENCE_MS);

	(void)arg;
	counting = 1;
	for (unsigned i = 0; i < ap_arrived; i++)
		while (!ap[i].counter)
			if (expired(end))
				return why("processor %u stands still", i);
	counting = 0;
	return NULL;
}
WORD("smp-run", word_smp_run);
