/* SPDX-License-Identifier: MIT */
/* LVM2's text metadata: the grammar, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../../lib/guestfs/lvm_priv.h"

static struct lvm_text *parse(const char *s)
{
	return lvm_text_parse(strdup(s));
}

static void sections_strings_numbers_and_lists(void **state)
{
	struct lvm_text *t =
		parse("# a comment\nvg0 {\n id = \"a\\\"b\" # more\n seqno=7\n"
		      " pv { list = [ \"x\", 12 , \"y\" ]\n empty = [] }\n}\nversion = 1\n");
	int vg, list, el;
	uint64_t n = 0;

	assert_non_null(t);
	vg = lvm_text_find(t, 0, "vg0");
	assert_true(lvm_text_is_section(t, vg));
	assert_string_equal(lvm_text_string(t, lvm_text_find(t, vg, "id")), "a\"b");
	assert_true(lvm_text_number(t, lvm_text_find(t, vg, "seqno"), &n));
	assert_int_equal(n, 7);
	list = lvm_text_find(t, lvm_text_find(t, vg, "pv"), "list");
	el = lvm_text_first(t, list);
	assert_string_equal(lvm_text_string(t, el), "x");
	assert_true(lvm_text_number(t, lvm_text_next(t, el), &n));
	assert_int_equal(n, 12);
	assert_int_equal(lvm_text_find(t, lvm_text_find(t, -1, "none"), "none"), -1);
	assert_false(lvm_text_number(t, el, &n));
	lvm_text_free(t);
}

static void damaged_text_is_refused(void **state)
{
	static const char *const bad[] = {
		"vg {",	      "vg { a = }",
		"}",	      "a = [ 1, ",
		"a = \"open", "a b",
		"= 1",	      "a { b { c { d { e { f { g { h { i { j { } } } } } } } } } }"
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_null(parse(bad[i]));
}

static void too_many_nodes_are_refused(void **state)
{
	size_t n = LVM_NODES_MAX + 10;
	char *s = malloc(4 * n + 1);

	for (size_t i = 0; i < n; i++)
		memcpy(s + 4 * i, "a=1\n", 4);
	s[4 * n] = 0;
	assert_null(lvm_text_parse(s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_strings_numbers_and_lists),
		cmocka_unit_test(damaged_text_is_refused),
		cmocka_unit_test(too_many_nodes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
