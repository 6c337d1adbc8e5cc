/* SPDX-License-Identifier: MIT */
/* Version order and bounded strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../../lib/guestfs/boot_priv.h"

static void versions_ascend(void **state)
{
	static const char *const up[] = { "1.0~rc1",
					  "1.0",
					  "1.0.1",
					  "1.2",
					  "1.10",
					  "5.14.0-362.8.1",
					  "5.14.0-362.18.1",
					  "6.1.0-9-amd64",
					  "6.1.0-13-amd64",
					  "6.1.10",
					  "6.12" };

	for (size_t i = 0; i + 1 < ARRAY_SIZE(up); i++) {
		assert_true(boot_vercmp(up[i], up[i + 1]) < 0);
		assert_true(boot_vercmp(up[i + 1], up[i]) > 0);
		assert_int_equal(boot_vercmp(up[i], up[i]), 0);
	}
	assert_int_equal(boot_vercmp("1.01", "1.1"), 0);
	assert_true(boot_vercmp("a.1", "a.b") > 0);
}

static void text_stops_at_its_bound(void **state)
{
	struct text t = { 0 };

	for (unsigned i = 0; i < TEXT_MAX; i++)
		text_adds(&t, "ab");
	assert_true(t.failed);
	assert_true(t.len < TEXT_MAX);
	text_fini(&t);
	text_word(&t, "");
	text_word(&t, "a");
	text_word(&t, "");
	text_word(&t, "b");
	assert_string_equal(t.s, "a b");
	text_fini(&t);
}

static void lines_are_trimmed(void **state)
{
	char text[] = "  one \r\n\n two", *p = text;

	assert_string_equal(line_next(&p), "one");
	assert_string_equal(line_next(&p), "");
	assert_string_equal(line_next(&p), "two");
	assert_null(line_next(&p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(versions_ascend),
		cmocka_unit_test(text_stops_at_its_bound),
		cmocka_unit_test(lines_are_trimmed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
