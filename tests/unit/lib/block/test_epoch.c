/* SPDX-License-Identifier: MIT */
/* Epochs: what was dropped is out of sight only when everybody who was inside has left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../../../lib/block/epoch.h"

static void nobody_inside_passes_at_once(void **state)
{
	struct epoch e = { 0 };
	struct epoch_slot s = { 0 };
	uint64_t tag = epoch_now(&e);

	assert_false(epoch_passed(&e, tag));
	epoch_advance(&e, &s);
	assert_true(epoch_passed(&e, tag));
}

static void one_who_began_earlier_holds_it(void **state)
{
	struct epoch e = { 0 };
	struct epoch_slot a = { 0 }, b = { .next = &a };
	unsigned ticket = epoch_enter(&e, &a);
	uint64_t tag = epoch_now(&e);

	for (int i = 0; i < 5; i++)
		epoch_advance(&e, &b);
	assert_false(epoch_passed(&e, tag));
	epoch_leave(&a, ticket);
	epoch_advance(&e, &b);
	assert_true(epoch_passed(&e, tag));
}

static void those_who_begin_later_do_not_hold_it(void **state)
{
	struct epoch e = { 0 };
	struct epoch_slot s = { 0 };
	unsigned old = epoch_enter(&e, &s), later;
	uint64_t tag = epoch_now(&e);

	epoch_advance(&e, &s);
	later = epoch_enter(&e, &s);
	epoch_leave(&s, old);
	epoch_advance(&e, &s);
	assert_true(epoch_passed(&e, tag));
	epoch_leave(&s, later);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_inside_passes_at_once),
		cmocka_unit_test(one_who_began_earlier_holds_it),
		cmocka_unit_test(those_who_begin_later_do_not_hold_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
