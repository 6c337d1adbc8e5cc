/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "dev/rtc.h"
#include "layout.h"

/* 2024-02-29 23:59:58 UTC, a Thursday. */
#define LEAP_NIGHT 1709251198

struct fixture {
	struct bus pio;
	struct rtc rtc;
};
static time_t host_time;

static time_t host_now(void)
{
	return host_time;
}

static int setup(void **state)
{
	static struct fixture f;

	host_time = LEAP_NIGHT;
	*state = &f;
	if (bus_init(&f.pio) || rtc_init(&f.rtc, &f.pio))
		return -1;
	f.rtc.now = host_now;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rtc_fini(&f->rtc);
	bus_fini(&f->pio);
	return 0;
}

static uint8_t get(struct fixture *f, uint8_t index)
{
	uint8_t v = 0;

	bus_write(&f->pio, PORT_RTC, &index, 1);
	bus_read(&f->pio, PORT_RTC + 1, &v, 1);
	return v;
}

static void put(struct fixture *f, uint8_t index, uint8_t v)
{
	bus_write(&f->pio, PORT_RTC, &index, 1);
	bus_write(&f->pio, PORT_RTC + 1, &v, 1);
}

static void time_reads_as_bcd(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, 0x00), 0x58);
	assert_int_equal(get(f, 0x02), 0x59);
	assert_int_equal(get(f, 0x04), 0x23);
	assert_int_equal(get(f, 0x06), 5);
	assert_int_equal(get(f, 0x07), 0x29);
	assert_int_equal(get(f, 0x08), 0x02);
	assert_int_equal(get(f, 0x09), 0x24);
	assert_int_equal(get(f, 0x32), 0x20);
}

static void data_mode_makes_it_binary(void **state)
{
	struct fixture *f = *state;

	put(f, 0x0b, 0x06);
	assert_int_equal(get(f, 0x00), 58);
	assert_int_equal(get(f, 0x04), 23);
	assert_int_equal(get(f, 0x09), 24);
	assert_int_equal(get(f, 0x0b), 0x06);
}

static void twelve_hour_mode_is_refused(void **state)
{
	struct fixture *f = *state;

	put(f, 0x0b, 0x00);
	assert_int_equal(get(f, 0x0b), 0x02);
}

static void it_runs_with_the_host(void **state)
{
	struct fixture *f = *state;

	host_time += 2;
	assert_int_equal(get(f, 0x00), 0x00);
	assert_int_equal(get(f, 0x04), 0x00);
	assert_int_equal(get(f, 0x07), 0x01);
	assert_int_equal(get(f, 0x08), 0x03);
	assert_int_equal(get(f, 0x0a) & 0x80, 0);	/* no update in progress */
	assert_int_equal(get(f, 0x0d), 0x80);	/* the battery is good */
}

static void a_time_set_under_the_set_bit_starts_when_it_falls(void **state)
{
	struct fixture *f = *state;

	put(f, 0x0b, 0x82);
	put(f, 0x00, 0x30);
	put(f, 0x02, 0x15);
	put(f, 0x04, 0x08);
	put(f, 0x07, 0x17);
	put(f, 0x08, 0x11);
	put(f, 0x09, 0x99);
	put(f, 0x32, 0x19);
	host_time += 1000;	/* frozen meanwhile */
	assert_int_equal(get(f, 0x00), 0x30);
	put(f, 0x0b, 0x02);
	assert_int_equal(get(f, 0x00), 0x30);
	assert_int_equal(get(f, 0x07), 0x17);
	assert_int_equal(get(f, 0x09), 0x99);
	assert_int_equal(get(f, 0x32), 0x19);
	assert_int_equal(get(f, 0x06), 4);	/* 17 November 1999 was a Wednesday */
	host_time += 45;
	assert_int_equal(get(f, 0x00), 0x15);
	assert_int_equal(get(f, 0x02), 0x16);
	/* The host's clock is not the guest's to set. */
	assert_int_equal(f->rtc.offset_s + host_time, 942826575);
}

static void a_single_register_can_be_set_while_running(void **state)
{
	struct fixture *f = *state;

	put(f, 0x04, 0x01);
	assert_int_equal(get(f, 0x04), 0x01);
	assert_int_equal(get(f, 0x02), 0x59);
	put(f, 0x06, 0x07);	/* the day of the week is computed */
	assert_int_equal(get(f, 0x06), 5);
}

static void free_bytes_are_memory_and_the_nmi_bit_is_ignored(void **state)
{
	struct fixture *f = *state;

	put(f, 0x40, 0xa5);
	assert_int_equal(get(f, 0x40), 0xa5);
	assert_int_equal(get(f, 0xc0), 0xa5);
	put(f, 0x7f, 0x11);
	assert_int_equal(get(f, 0x7f), 0x11);
	assert_int_equal(get(f, 0x00), 0x58);
}

static void the_index_port_reads_as_ones(void **state)
{
	struct fixture *f = *state;
	uint16_t v = 0;

	bus_read(&f->pio, PORT_RTC, &v, 1);
	assert_int_equal(v, 0xff);
	bus_read(&f->pio, PORT_RTC, &v, 2);
	assert_int_equal(v, 0xffff);
}

static void impossible_values_never_leave_the_calendar(void **state)
{
	struct fixture *f = *state;

	for (unsigned reg = 0; reg < 256; reg++)
		for (unsigned v = 0; v < 256; v += 51)
			put(f, (uint8_t)reg, (uint8_t)v);
	put(f, 0x0b, 0x02);
	for (int i = 0; i < 100; i++) {	/* each adds years */
		put(f, 0x08, 0xff);
		put(f, 0x32, 0xff);
	}
	put(f, 0x08, 0x01);
	put(f, 0x07, 0x01);
	assert_int_equal(get(f, 0x08), 0x01);
	assert_int_equal(get(f, 0x07), 0x01);
}

static void a_year_past_the_calendar_reads_as_the_epoch(void **state)
{
	struct fixture *f = *state;

	f->rtc.offset_s = INT64_MAX / 2;
	assert_int_equal(get(f, 0x07), 0x01);
	assert_int_equal(get(f, 0x08), 0x01);
	assert_int_equal(get(f, 0x32), 0x19);
	assert_int_equal(get(f, 0x09), 0x70);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(time_reads_as_bcd),
		T(data_mode_makes_it_binary),
		T(twelve_hour_mode_is_refused),
		T(it_runs_with_the_host),
		T(a_time_set_under_the_set_bit_starts_when_it_falls),
		T(a_single_register_can_be_set_while_running),
		T(free_bytes_are_memory_and_the_nmi_bit_is_ignored),
		T(the_index_port_reads_as_ones),
		T(impossible_values_never_leave_the_calendar),
		T(a_year_past_the_calendar_reads_as_the_epoch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
