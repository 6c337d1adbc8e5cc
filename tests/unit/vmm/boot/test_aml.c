/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "boot/aml.h"

static void expect(const struct aml *a, const void *bytes, size_t n)
{
	assert_int_equal(a->len, n);
	assert_memory_equal(a->buf, bytes, n);
}

#define EXPECT(a, ...)                                           \
	do {                                                     \
		const uint8_t want_[] = { __VA_ARGS__ };         \
		expect(a, want_, sizeof(want_));                 \
	} while (0)

static void integers_take_their_shortest_form(void **state)
{
	uint8_t buf[64];
	struct aml a;

	(void)state;
	aml_begin(&a, buf, sizeof(buf));
	aml_int(&a, 0);
	aml_int(&a, 1);
	aml_int(&a, 2);
	aml_int(&a, 0x100);
	aml_int(&a, 0x10000);
	aml_int(&a, 0x100000000);
	EXPECT(&a, 0x00, 0x01, 0x0a, 2, 0x0b, 0, 1, 0x0c, 0, 0, 1, 0, 0x0e, 0, 0, 0, 0, 1, 0, 0, 0);
	assert_true(aml_ok(&a));
}

static void names_are_padded_and_may_have_two_segments(void **state)
{
	uint8_t buf[64];
	struct aml a;

	(void)state;
	aml_begin(&a, buf, sizeof(buf));
	aml_name_ref(&a, "\\_SB");
	aml_name_ref(&a, "A.BC");
	EXPECT(&a, '\\', '_', 'S', 'B', '_', 0x2e, 'A', '_', '_', '_', 'B', 'C', '_', '_');
}

static void an_eisa_id_is_packed_big_endian(void **state)
{
	uint8_t buf[8];
	struct aml a;

	(void)state;
	aml_begin(&a, buf, sizeof(buf));
	aml_eisa_id(&a, "PNP0A08");
	EXPECT(&a, 0x0c, 0x41, 0xd0, 0x0a, 0x08);
}

static void a_block_gets_its_length_when_closed(void **state)
{
	static uint8_t buf[8192], fill[5000];
	struct aml a;
	size_t n;

	(void)state;
	aml_begin(&a, buf, sizeof(buf));
	aml_scope(&a, "_SB_");
	assert_false(aml_ok(&a));	/* still open */
	aml_bytes(&a, fill, sizeof(fill));
	aml_close(&a);
	assert_true(aml_ok(&a));
	n = (size_t)(buf[1] & 0xf) | (size_t)buf[2] << 4 | (size_t)buf[3] << 12;
	assert_int_equal(buf[1] >> 6, 2);	/* two bytes follow */
	assert_int_equal(n, a.len - 1);
}

static void resources_give_the_buffer_its_size(void **state)
{
	uint8_t buf[64];
	struct aml a;

	(void)state;
	aml_begin(&a, buf, sizeof(buf));
	aml_crs_begin(&a);
	aml_crs_io(&a, 0x3f8, 8);
	aml_crs_end(&a);
	/* Name _CRS Buffer PkgLength WordConst 10: the I/O port and the end tag */
	EXPECT(&a, 0x08, '_', 'C', 'R', 'S', 0x11, 0x80 | 0, 1, 0, 0x0b, 10, 0, 0x47, 1, 0xf8, 3, 0xf8,
	       3, 1, 8, 0x79, 0);
}

static void a_full_buffer_is_remembered_and_nothing_written_past_it(void **state)
{
	uint8_t buf[65];

	(void)state;
	for (size_t cap = 0; cap < 64; cap++) {
		struct aml a;

		memset(buf, 0xee, sizeof(buf));
		aml_begin(&a, buf, cap);
		aml_device(&a, "DEV0");
		aml_name_string(&a, "_HID", "A string that is rather long for this buffer");
		aml_crs_begin(&a);
		aml_crs_interrupt(&a, 4);
		aml_crs_end(&a);
		aml_close(&a);
		assert_false(aml_ok(&a));
		for (size_t i = cap; i < sizeof(buf); i++)
			assert_int_equal(buf[i], 0xee);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_take_their_shortest_form),
		cmocka_unit_test(names_are_padded_and_may_have_two_segments),
		cmocka_unit_test(an_eisa_id_is_packed_big_endian),
		cmocka_unit_test(a_block_gets_its_length_when_closed),
		cmocka_unit_test(resources_give_the_buffer_its_size),
		cmocka_unit_test(a_full_buffer_is_remembered_and_nothing_written_past_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
