/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/e820.h"
#include "boot/smbios.h"
#include "gmem.h"
#include "hv/bytes.h"
#include "layout.h"

#define RAM MIB(2)

static uint8_t *ram;
static struct gmem mem;

static int setup(void **state)
{
	(void)state;
	ram = calloc(1, RAM);
	return !ram || gmem_init_flat(&mem, 0, ram, RAM);
}

static int teardown(void **state)
{
	(void)state;
	gmem_fini(&mem);
	free(ram);
	return 0;
}

/* The entry point, checked: where the structures are and how long. */
static const uint8_t *tables(uint32_t *len)
{
	const uint8_t *e = ram + LAYOUT_SMBIOS;
	uint8_t sum = 0;

	assert_memory_equal(e, "_SM3_", 5);
	for (unsigned i = 0; i < e[6]; i++)
		sum = (uint8_t)(sum + e[i]);
	assert_int_equal(sum, 0);
	assert_int_equal(e[7], 3);
	*len = load_le32(e + 12);
	assert_true(load_le64(e + 16) + *len <= LAYOUT_SMBIOS_END);
	return ram + load_le64(e + 16);
}

/* Walk all structures; returns the one of @type, NULL if there is none. */
static const uint8_t *structure(uint8_t type)
{
	uint32_t len, off = 0;
	const uint8_t *t = tables(&len), *found = NULL;
	uint16_t handle = 0;
	bool ended = false;

	while (off < len) {
		const uint8_t *s = t + off;

		assert_false(ended);
		assert_true(s[1] >= 4 && s[1] <= len - off);
		assert_true(load_le16(s + 2) > handle);	/* unique and growing */
		handle = load_le16(s + 2);
		if (s[0] == type)
			found = s;
		ended = s[0] == 127;
		for (off += s[1]; t[off] || t[off + 1]; off++)
			assert_true(off + 2 < len);
		off += 2;
	}
	assert_true(ended);
	assert_int_equal(off, len);
	return found;
}

static const char *string_of(const uint8_t *s, unsigned index)
{
	const char *p = (const char *)s + s[1];

	while (--index)
		p += strlen(p) + 1;
	return p;
}

static void structures_walk_to_the_end_marker(void **state)
{
	struct smbios_cfg cfg = { .name = "web", .memory_bytes = MIB(512), .cpus = 1 };
	const uint8_t *sys, *dev;
	uint8_t uuid[16];

	(void)state;
	assert_int_equal(smbios_write(&mem, &cfg, NULL), 0);
	assert_non_null(structure(0));
	sys = structure(1);
	assert_non_null(sys);
	assert_string_equal(string_of(sys, sys[7]), "web");	/* serial number */
	smbios_uuid("web", uuid);
	assert_int_equal(load_le32(sys + 8), load_be32(uuid));
	assert_memory_equal(sys + 16, uuid + 8, 8);
	assert_non_null(structure(3));
	assert_null(structure(11));
	dev = structure(17);
	assert_int_equal(load_le16(dev + 12), 512);
	assert_int_equal(load_le16(dev + 4), load_le16(structure(16) + 2));
	assert_int_equal(load_le64(structure(16) + 15), MIB(512));
}

static void large_memory_uses_the_extended_size(void **state)
{
	struct smbios_cfg cfg = { .name = "big", .memory_bytes = GIB(256), .cpus = 1 };
	const uint8_t *dev;

	(void)state;
	assert_int_equal(smbios_write(&mem, &cfg, NULL), 0);
	dev = structure(17);
	assert_int_equal(load_le16(dev + 12), 0x7fff);
	assert_int_equal(load_le32(dev + 28), GIB(256) >> 20);
}

static void oem_strings_are_carried_even_empty_ones(void **state)
{
	const char *const oem[] = { "ds=nocloud", "", "x" };
	struct smbios_cfg cfg = { .name = "n", .memory_bytes = MIB(2), .cpus = 1,
				  .oem_strings = oem, .n_oem_strings = 3 };
	const uint8_t *s;

	(void)state;
	assert_int_equal(smbios_write(&mem, &cfg, NULL), 0);
	s = structure(11);
	assert_int_equal(s[4], 3);
	assert_string_equal(string_of(s, 1), "ds=nocloud");
	assert_string_equal(string_of(s, 2), " ");
	assert_string_equal(string_of(s, 3), "x");
}

static void too_many_strings_are_refused(void **state)
{
	static char text[256];
	const char *oem[64];
	struct smbios_cfg cfg = { .name = "n", .memory_bytes = MIB(2), .cpus = 1,
				  .oem_strings = oem, .n_oem_strings = 64 };
	struct err e = { 0 };

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	for (size_t i = 0; i < ARRAY_SIZE(oem); i++)
		oem[i] = text;
	assert_int_equal(smbios_write(&mem, &cfg, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "OEM"));
}

static void the_uuid_depends_on_the_name_alone(void **state)
{
	uint8_t a[16], b[16];

	(void)state;
	smbios_uuid("debian-12", a);
	smbios_uuid("debian-12", b);
	assert_memory_equal(a, b, 16);
	assert_int_equal(a[6] >> 4, 8);
	assert_int_equal(a[8] >> 6, 2);
	smbios_uuid("debian-13", b);
	assert_memory_not_equal(a, b, 16);
	/* Written down so that an upgrade of vmm cannot change a VM's identity unnoticed. */
	smbios_uuid("", b);
	assert_int_equal(load_be64(b), 0x6c62272e07bb8142);
}

/* ---- e820 ------------------------------------------------------------------------------------ */

static void check_map(uint64_t bytes)
{
	struct gmem m;
	struct e820 t;
	uint64_t ram_bytes = 0, end = 0;
	bool ecam = false;

	assert_int_equal(gmem_init(&m, bytes, false, NULL), 0);
	e820_build(&m, &t);
	for (unsigned i = 0; i < t.n; i++) {
		assert_true(t.entry[i].size > 0);
		assert_true(t.entry[i].gpa >= end);	/* sorted, no overlap */
		end = t.entry[i].gpa + t.entry[i].size;
		if (t.entry[i].type == E820_RAM) {
			ram_bytes += t.entry[i].size;
			assert_non_null(gmem_ptr(&m, t.entry[i].gpa, t.entry[i].size));
		}
		ecam |= t.entry[i].type == E820_RESERVED && t.entry[i].gpa == LAYOUT_ECAM_BASE;
	}
	assert_true(ecam);
	assert_int_equal(ram_bytes, bytes - (LAYOUT_KERNEL_MIN - LAYOUT_EBDA));
	gmem_fini(&m);
}

static void the_memory_map_is_sorted_and_accounts_for_all_ram(void **state)
{
	(void)state;
	check_map(MIB(2));
	check_map(MIB(512));
	check_map(GIB(3));
	check_map(GIB(3) + MIB(1));
	check_map(GIB(64));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(structures_walk_to_the_end_marker),
		T(large_memory_uses_the_extended_size),
		T(oem_strings_are_carried_even_empty_ones),
		T(too_many_strings_are_refused),
		cmocka_unit_test(the_uuid_depends_on_the_name_alone),
		cmocka_unit_test(the_memory_map_is_sorted_and_accounts_for_all_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
