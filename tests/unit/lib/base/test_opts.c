/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "hv/opts.h"

static const char *const colours[] = { "red", "blue", NULL };

struct values {
	bool flag, given;
	const char *text;
	uint64_t size;
	unsigned n;
	int colour, calls;
};

static int count_call(void *target, const char *value, struct err *e)
{
	(void)e;
	*(int *)target += (int)strlen(value);
	return 0;
}

static int parse(struct values *v, struct err *e, const char **args, size_t *n, int argc, char **argv)
{
	const struct opt table[] = {
		{ "flag", 'f', OPT_FLAG, &v->flag, NULL, "h", .given = &v->given },
		{ "text", 't', OPT_STRING, &v->text, "T", "h" },
		{ "size", 's', OPT_SIZE, &v->size, "S", "h", 1, 10, 1000000 },
		{ "n", 'n', OPT_UINT, &v->n, "N", "h", 0, 1, 8 },
		{ "colour", 0, OPT_CHOICE, &v->colour, "C", "h", .choices = colours },
		{ "call", 'c', OPT_CALL, &v->calls, "X", "h", .call = count_call },
		{ 0 },
	};

	return opts_parse(table, argc, argv, args, n, e);
}

#define PARSE(v, e, args, n, ...)                                              \
	({                                                                     \
		char *argv_[] = { (char *)"prog", __VA_ARGS__ };               \
		parse(v, e, args, n, (int)ARRAY_SIZE(argv_), argv_);           \
	})

static void every_spelling_of_a_value_works(void **state)
{
	struct values v = { 0 };
	struct err e = { 0 };
	const char *args[2];
	size_t n = 2;

	(void)state;
	assert_int_equal(PARSE(&v, &e, args, &n, "--text=a", "--size", "64K", "-n3", "disk", "-c", "xy",
			       "-cz", "-f", "--colour", "blue"), 0);
	assert_string_equal(v.text, "a");
	assert_int_equal(v.size, 65536);
	assert_int_equal(v.n, 3);
	assert_int_equal(v.calls, 3);
	assert_int_equal(v.colour, 1);
	assert_true(v.flag && v.given);
	assert_int_equal(n, 1);
	assert_string_equal(args[0], "disk");
}

static void double_dash_ends_options(void **state)
{
	struct values v = { 0 };
	struct err e = { 0 };
	const char *args[2];
	size_t n = 2;

	(void)state;
	assert_int_equal(PARSE(&v, &e, args, &n, "--", "--flag", "-"), 0);
	assert_int_equal(n, 2);
	assert_false(v.flag);
}

static void mistakes_name_the_option(void **state)
{
	static const struct { char *word, *value; const char *says; } bad[] = {
		{ (char *)"--bogus", NULL, "--bogus: unknown option" },
		{ (char *)"-x", NULL, "-x: unknown option" },
		{ (char *)"--fla", NULL, "unknown option" },
		{ (char *)"--text", NULL, "--text: needs a value" },
		{ (char *)"--flag=1", NULL, "takes no value" },
		{ (char *)"-n", (char *)"9", "out of range" },
		{ (char *)"-n", (char *)"0", "out of range" },
		{ (char *)"--size", (char *)"5", "out of range" },
		{ (char *)"--size", (char *)"many", "not a size" },
		{ (char *)"--colour", (char *)"green", "not one of red, blue" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct values v = { 0 };
		struct err e = { 0 };
		char *argv[] = { (char *)"prog", bad[i].word, bad[i].value };
		size_t n = 0;

		assert_int_equal(parse(&v, &e, NULL, &n, bad[i].value ? 3 : 2, argv), -EINVAL);
		assert_non_null(strstr(e.msg, bad[i].says));
	}
}

static void one_operand_too_many_is_refused(void **state)
{
	struct values v = { 0 };
	struct err e = { 0 };
	const char *args[1];
	size_t n = 1;

	(void)state;
	assert_int_equal(PARSE(&v, &e, args, &n, "a", "b"), -EINVAL);
	assert_non_null(strstr(e.msg, "'b'"));
}

static void lists_take_keys_flags_and_doubled_commas(void **state)
{
	struct values v = { 0 };
	const struct opt table[] = {
		{ "text", 0, OPT_STRING, &v.text },
		{ "flag", 0, OPT_FLAG, &v.flag },
		{ 0 },
	};
	char good[] = "flag,text=a,,b", unknown[] = "bogus=1", bare[] = "text";
	struct err e = { 0 };

	(void)state;
	assert_int_equal(opts_list(table, good, "--disk", &e), 0);
	assert_true(v.flag);
	assert_string_equal(v.text, "a,b");
	assert_int_equal(opts_list(table, unknown, "--disk", &e), -EINVAL);
	assert_string_equal(e.msg, "--disk: unknown key 'bogus'");
	assert_int_equal(opts_list(table, bare, "--disk", &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_spelling_of_a_value_works),
		cmocka_unit_test(double_dash_ends_options),
		cmocka_unit_test(mistakes_name_the_option),
		cmocka_unit_test(one_operand_too_many_is_refused),
		cmocka_unit_test(lists_take_keys_flags_and_doubled_commas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
