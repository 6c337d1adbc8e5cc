/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "hv/size.h"

static void size_parse_takes_letters_as_powers_of_1024(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(size_parse("4096", 1, &v), 0);
	assert_int_equal(v, 4096);
	assert_int_equal(size_parse("512", MIB(1), &v), 0);
	assert_int_equal(v, MIB(512));
	assert_int_equal(size_parse("4g", MIB(1), &v), 0);
	assert_int_equal(v, GIB(4));
	assert_int_equal(size_parse("1TiB", 1, &v), 0);
	assert_int_equal(v, GIB(1024));
	assert_int_equal(size_parse("0", 1, &v), 0);
	assert_int_equal(v, 0);
}

static void size_parse_refuses_other_text(void **state)
{
	static const char *const bad[] = { "", "-1", "+1", " 1", "1 ", "x", "1X", "1GG", "1.5G", "0x10", "K" };
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(size_parse(bad[i], 1, &v), -EINVAL);
}

static void size_parse_notices_overflow(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(size_parse("18446744073709551615", 1, &v), 0);
	assert_int_equal(size_parse("18446744073709551616", 1, &v), -ERANGE);
	assert_int_equal(size_parse("16777216T", 1, &v), -ERANGE);
}

static void u64_parse_takes_hex_but_no_sign(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(u64_parse("0xff", &v), 0);
	assert_int_equal(v, 255);
	assert_int_equal(u64_parse("12", &v), 0);
	assert_int_equal(u64_parse("0x", &v), -EINVAL);
	assert_int_equal(u64_parse("-3", &v), -EINVAL);
	assert_int_equal(u64_parse("3z", &v), -EINVAL);
}

static void size_format_keeps_whole_numbers_whole(void **state)
{
	char b[24];

	(void)state;
	assert_string_equal(size_format(512, b, sizeof(b)), "512 B");
	assert_string_equal(size_format(MIB(512), b, sizeof(b)), "512 MiB");
	assert_string_equal(size_format(GIB(3) / 2, b, sizeof(b)), "1.5 GiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(size_parse_takes_letters_as_powers_of_1024),
		cmocka_unit_test(size_parse_refuses_other_text),
		cmocka_unit_test(size_parse_notices_overflow),
		cmocka_unit_test(u64_parse_takes_hex_but_no_sign),
		cmocka_unit_test(size_format_keeps_whole_numbers_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
