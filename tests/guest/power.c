/* SPDX-License-Identifier: MIT */
/* Ways to end: power-off, reset, panic, a fault nobody handles, standing still. */
#include "acpi.h"
#include "guest.h"

#define PORT_I8042 0x64
#define PORT_PVPANIC 0x505
#define SLEEP_ENABLE_REDUCED 0x20
#define SLEEP_ENABLE_PM1 0x2000
#define NO_MEMORY UINT64_C(0xd0000000)	/* in the PCI hole; no BAR is there */

static void stand_still(uint64_t arg)
{
	(void)arg;
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void wait_for_end(void)
{
	for (uint64_t end = deadline_ms(PATIENCE_MS); !expired(end);)
		pause_cpu();
}

void power_off(void)
{
	struct acpi_power p;

	if (acpi_power_find(&p)) {
		if (p.hw_reduced)
			out8((uint16_t)p.sleep_port, (uint8_t)(p.s5 << 2 | SLEEP_ENABLE_REDUCED));
		else
			out16((uint16_t)p.pm1a_port, (uint16_t)(p.s5 << 10 | SLEEP_ENABLE_PM1));
		wait_for_end();
	}
	say("FAIL: still here after power-off\n");
	for (;;)
		pause_cpu();
}

/* off - power off here and now. */
static const char *word_off(const char *arg)
{
	(void)arg;
	power_off();
}
WORD("off", word_off);

/* reset=i8042|acpi|triple */
static const char *word_reset(const char *arg)
{
	struct acpi_power p;

	if (!strcmp(arg, "triple")) {
		extern uint8_t idt[];

		memset(idt, 0, 4096);
		__asm__ volatile("ud2");
	} else if (!strcmp(arg, "acpi")) {
		if (!acpi_power_find(&p) || !p.reset_port)
			return "no ACPI reset register";
		out8((uint16_t)p.reset_port, p.reset_value);
	} else {
		out8(PORT_I8042, 0xfe);
	}
	wait_for_end();
	return "still here";
}
WORD("reset", word_reset);

/* panic - tell pvpanic, then stand still as a panicked kernel does. */
static const char *word_panic(const char *arg)
{
	(void)arg;
	if (!(in8(PORT_PVPANIC) & 1))
		return "no pvpanic device";
	say("PANICKING\n");
	out8(PORT_PVPANIC, 1);
	wait_for_end();
	return "still here";
}
WORD("panic", word_panic);

/* crash - run code where there is only I/O: KVM cannot, and says so. */
static const char *word_crash(const char *arg)
{
	(void)arg;
	say("CRASHING\n");
	((void (*)(void))NO_MEMORY)();
	return "still here";
}
WORD("crash", word_crash);

/* stuck=halt|spin - a guest that neither listens nor ends. */
static const char *word_stuck(const char *arg)
{
	say("STUCK\n");
	if (!strcmp(arg, "halt"))
		ring0(stand_still, 0);
	for (;;)
		pause_cpu();
	return NULL;
}
WORD("stuck", word_stuck);

/* button=SECONDS - wait for the power button (the generic event device's register). */
static const char *word_button(const char *arg)
{
	uint64_t end = deadline_ms(parse_size(&arg) * 1000);

	say("READY\n");
	while (!expired(end)) {
		uint32_t pending = in32(GED_PORT);

		if (!pending)
			continue;
		out32(GED_PORT, pending);
		if (in32(GED_PORT) & pending)
			return "the event cannot be cleared";
		say("BUTTON 0x%x\n", pending);
		return NULL;
	}
	return "nobody pressed it";
}
WORD("button", word_button);
