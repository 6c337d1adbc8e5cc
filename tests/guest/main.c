/* SPDX-License-Identifier: MIT */
/*
 * Runs the words of the command line. A file adds a word with WORD("text", function); the
 * linker collects them. "name=ARG" calls the function with ARG. Words with a console= or
 * root= in them are for somebody else.
 */
#include "guest.h"

#define PVH_MAGIC 0x336ec578

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_gpa, cmdline_gpa, rsdp_gpa, memmap_gpa;
	uint32_t memmap_entries, reserved;
};

extern const struct word words_begin[], words_end[];
extern uint32_t start_info_gpa;
void guest_main(void);

uint32_t start_info_gpa __attribute__((section(".data"))) = 0;
uint64_t tsc_khz = 2500000;
struct boot_info boot;

/* Take everything out of low memory: other processors start there. */
static void boot_info_read(void)
{
	const struct start_info *si = (const void *)(uintptr_t)start_info_gpa;
	const struct memory_range *map = (const void *)si->memmap_gpa;
	const char *cmdline = (const char *)si->cmdline_gpa;

	if (si->magic != PVH_MAGIC) {
		say("FAIL: no PVH start information at 0x%x\n", start_info_gpa);
		power_off();
	}
	boot.rsdp = si->rsdp_gpa;
	for (unsigned i = 0; si->version >= 1 && i < si->memmap_entries && i < MEMORY_RANGES_MAX; i++)
		boot.range[boot.n_ranges++] = map[i];
	if (cmdline)
		memcpy(boot.cmdline, cmdline, MIN(strlen(cmdline), sizeof(boot.cmdline) - 1));
}

static bool word_is(const char *text, const char *name, const char **arg)
{
	size_t n = strlen(name);

	if (strncmp(text, name, n) || (text[n] && text[n] != '='))
		return false;
	*arg = text + n + (text[n] == '=');
	return true;
}

static bool word_run(const char *text)
{
	const char *arg, *bad;

	for (const struct word *w = words_begin; w < words_end; w++) {
		if (!word_is(text, w->name, &arg))
			continue;
		bad = w->run(arg);
		if (bad)
			say("TEST %s: FAIL: %s\n", text, bad);
		else
			say("TEST %s: ok\n", text);
		return !bad;
	}
	say("TEST %s: FAIL: no such test\n", text);
	return false;
}

static const char *const foreign[] = { "console=", "root=", "ds=" };

static bool word_foreign(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		if (!strncmp(text, foreign[i], strlen(foreign[i])))
			return true;
	return false;
}

static unsigned run_all(char *p)
{
	unsigned failures = 0;

	while (*p) {
		char *word = p;

		while (*p && *p != ' ')
			p++;
		if (*p)
			*p++ = 0;
		if (*word && !word_foreign(word))
			failures += !word_run(word);
	}
	return failures;
}

void guest_main(void)
{
	irq_init();
	serial_init();
	boot_info_read();
	say("END failures=%u\n", run_all(boot.cmdline));
	power_off();
}

/* tsc-khz=N - what one millisecond is. */
static const char *set_tsc(const char *arg)
{
	tsc_khz = parse_size(&arg);
	return NULL;
}
WORD("tsc-khz", set_tsc);

/* sleep=MS - let time pass. */
static const char *word_sleep(const char *arg)
{
	uint64_t end = deadline_ms(parse_size(&arg));

	while (!expired(end))
		pause_cpu();
	return NULL;
}
WORD("sleep", word_sleep);

/* say=TEXT - for scripts that wait for a line. */
static const char *word_say(const char *arg)
{
	say("SAY %s\n", arg);
	return NULL;
}
WORD("say", word_say);
