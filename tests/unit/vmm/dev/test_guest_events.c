/* SPDX-License-Identifier: MIT */
/* What a guest reports by a port write: acpi_pm, i8042, pvpanic; and the GED that answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../../support/vmachine.h"
#include "dev/acpi_pm.h"
#include "dev/ged.h"
#include "dev/i8042.h"
#include "dev/pvpanic.h"

struct fixture {
	struct vmachine m;
	struct guest_event_sink sink;
	struct acpi_pm pm;
	struct i8042 kbd;
	struct pvpanic panic;
	struct ged ged;
	int last;	/* event, -1: none */
	unsigned n;
};

static void on_event(void *ctx, enum guest_event ev)
{
	struct fixture *f = ctx;

	f->last = (int)ev;
	f->n++;
}

static int setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	vm_init(&f.m);
	f.last = -1;
	f.sink = (struct guest_event_sink){ on_event, &f };
	*state = &f;
	return acpi_pm_init(&f.pm, &f.m.pio, &f.sink) || i8042_init(&f.kbd, &f.m.pio, &f.sink) ||
	       pvpanic_init(&f.panic, &f.m.pio, &f.sink) ||
	       ged_init(&f.ged, &f.m.pio, &f.m.irq, NULL);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ged_fini(&f->ged, &f->m.irq);
	vm_fini(&f->m);
	return 0;
}

static void out(struct fixture *f, uint16_t port, uint64_t v, unsigned len)
{
	bus_write(&f->m.pio, port, &v, len);
}

static uint32_t in(struct fixture *f, uint16_t port, unsigned len)
{
	uint32_t v = 0;

	bus_read(&f->m.pio, port, &v, len);
	return v;
}

static void sleep_type_s5_with_enable_powers_off(void **state)
{
	struct fixture *f = *state;

	out(f, PORT_ACPI_SLEEP_CTL, ACPI_SLEEP_TYPE_S5 << 2 | 0x20, 1);
	assert_int_equal(f->last, GUEST_EVENT_POWEROFF);
	assert_int_equal(f->n, 1);
}

static void other_sleep_types_and_no_enable_do_nothing(void **state)
{
	struct fixture *f = *state;

	for (unsigned v = 0; v < 256; v++)
		if ((v >> 2 & 7) != ACPI_SLEEP_TYPE_S5 || !(v & 0x20))
			out(f, PORT_ACPI_SLEEP_CTL, v, 1);
	out(f, PORT_ACPI_SLEEP_STS, 0xff, 1);
	assert_int_equal(f->n, 0);
	assert_int_equal(in(f, PORT_ACPI_SLEEP_CTL, 1), 0);
	assert_int_equal(in(f, PORT_ACPI_SLEEP_STS, 1), 0);
}

static void the_reset_register_takes_its_value_only(void **state)
{
	struct fixture *f = *state;

	out(f, PORT_ACPI_RESET, ACPI_RESET_VALUE + 1, 1);
	assert_int_equal(f->n, 0);
	out(f, PORT_ACPI_RESET, ACPI_RESET_VALUE, 1);
	assert_int_equal(f->last, GUEST_EVENT_RESET);
}

static void the_keyboard_controller_resets_and_keeps_nobody_waiting(void **state)
{
	struct fixture *f = *state;

	for (unsigned v = 0; v < 256; v++) {
		out(f, PORT_I8042_DATA, v, 1);
		if (v != 0xfe)
			out(f, PORT_I8042_CMD, v, 1);
	}
	assert_int_equal(f->n, 0);
	assert_int_equal(in(f, PORT_I8042_CMD, 1), 0);	/* input buffer empty */
	assert_int_equal(in(f, PORT_I8042_DATA, 1), 0);
	out(f, PORT_I8042_CMD, 0xfe, 1);
	assert_int_equal(f->last, GUEST_EVENT_RESET);
}

static void pvpanic_offers_and_reports_the_panic_bit(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, PORT_PVPANIC, 1), 1);
	out(f, PORT_PVPANIC, 0x2, 1);	/* "crash kernel loaded": not offered */
	assert_int_equal(f->n, 0);
	out(f, PORT_PVPANIC, 0x3, 1);
	assert_int_equal(f->last, GUEST_EVENT_PANIC);
}

static void ged_events_interrupt_and_stay_until_acknowledged(void **state)
{
	struct fixture *f = *state;
	uint64_t n = 0;

	assert_int_equal(in(f, PORT_GED, 4), 0);
	ged_raise(&f->ged, GED_EVENT_POWER_BUTTON);
	ged_raise(&f->ged, 0x80000000);
	assert_int_equal(read(f->m.gsi_fd[GSI_GED], &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 2);
	assert_int_equal(in(f, PORT_GED, 4), 0x80000001);
	assert_int_equal(in(f, PORT_GED + 3, 1), 0x80);
	out(f, PORT_GED + 3, 0x80, 1);	/* a byte clears its own bits */
	assert_int_equal(in(f, PORT_GED, 4), GED_EVENT_POWER_BUTTON);
	out(f, PORT_GED, 0xfffffffe, 4);	/* zeros keep */
	assert_int_equal(in(f, PORT_GED, 4), GED_EVENT_POWER_BUTTON);
	out(f, PORT_GED, GED_EVENT_POWER_BUTTON, 4);
	assert_int_equal(in(f, PORT_GED, 4), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(sleep_type_s5_with_enable_powers_off),
		T(other_sleep_types_and_no_enable_do_nothing),
		T(the_reset_register_takes_its_value_only),
		T(the_keyboard_controller_resets_and_keeps_nobody_waiting),
		T(pvpanic_offers_and_reports_the_panic_bit),
		T(ged_events_interrupt_and_stay_until_acknowledged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
