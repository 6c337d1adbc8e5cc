/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "hv/bitmap.h"
#include "hv/err.h"
#include "hv/iov.h"
#include "hv/overflow.h"

static void a_cursor_crosses_entries_and_empty_ones(void **state)
{
	char a[3] = "abc", b[2] = "de", out[6] = { 0 };
	const struct iovec iov[] = { { NULL, 0 }, { a, 3 }, { NULL, 0 }, { b, 2 } };
	struct iov_cursor c = iov_begin(iov, 4);

	(void)state;
	assert_int_equal(iov_left(&c), 5);
	assert_int_equal(iov_copy_out(&c, out, 4), 4);
	assert_memory_equal(out, "abcd", 4);
	assert_int_equal(iov_copy_out(&c, out, 9), 1);
	assert_int_equal(iov_left(&c), 0);
	c = iov_begin(iov, 4);
	assert_int_equal(iov_skip(&c, 2), 2);
	assert_int_equal(iov_copy_in(&c, "XYZ!", 4), 3);
	assert_memory_equal(a, "abX", 3);
	assert_memory_equal(b, "YZ", 2);
}

static void a_slice_that_does_not_fit_leaves_the_cursor(void **state)
{
	char a[3], b[2];
	const struct iovec iov[] = { { a, 3 }, { b, 2 } };
	struct iov_cursor c = iov_begin(iov, 2);
	struct iovec out[2];

	(void)state;
	assert_int_equal(iov_slice(&c, 4, out, 1), -E2BIG);
	assert_int_equal(iov_slice(&c, 6, out, 2), -EINVAL);
	assert_int_equal(iov_left(&c), 5);
	assert_int_equal(iov_slice(&c, 4, out, 2), 2);
	assert_ptr_equal(out[1].iov_base, b);
	assert_int_equal(out[1].iov_len, 1);
	assert_int_equal(iov_left(&c), 1);
}

static void totals_that_overflow_saturate(void **state)
{
	const struct iovec iov[] = { { NULL, SIZE_MAX }, { NULL, 2 } };

	(void)state;
	assert_true(iov_total(iov, 2) == SIZE_MAX);
}

static void range_ok_cannot_wrap(void **state)
{
	(void)state;
	assert_true(range_ok(0, 10, 10));
	assert_true(range_ok(10, 0, 10));
	assert_false(range_ok(10, 1, 10));
	assert_false(range_ok(UINT64_MAX, 2, 10));
	assert_false(range_ok(1, UINT64_MAX, 10));
}

static void bitmap_searches_stop_at_the_end(void **state)
{
	uint64_t map[2] = { UINT64_MAX, 1 };

	(void)state;
	assert_int_equal(bitmap_next_zero(map, 128, 0), 65);
	assert_int_equal(bitmap_next_zero(map, 65, 0), 65);
	assert_int_equal(bitmap_next_set(map, 128, 65), 128);
	assert_int_equal(bitmap_next_set(map, 128, 64), 64);
}

static void an_error_is_one_printable_line_with_its_context(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(err_set(&e, -EIO, "disk\x1b[2J\n: bad"), -EIO);
	assert_string_equal(e.msg, "disk?[2J?: bad");
	assert_int_equal(err_wrap(&e, -EIO, "starting VM '%s'", "a"), -EIO);
	assert_string_equal(e.msg, "starting VM 'a': disk?[2J?: bad");
	err_hint(&e, "try %d", 1);
	assert_string_equal(e.msg, "starting VM 'a': disk?[2J?: bad (try 1)");
	assert_int_equal(err_set(NULL, -ENOMEM, "x"), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cursor_crosses_entries_and_empty_ones),
		cmocka_unit_test(a_slice_that_does_not_fit_leaves_the_cursor),
		cmocka_unit_test(totals_that_overflow_saturate),
		cmocka_unit_test(range_ok_cannot_wrap),
		cmocka_unit_test(bitmap_searches_stop_at_the_end),
		cmocka_unit_test(an_error_is_one_printable_line_with_its_context),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
