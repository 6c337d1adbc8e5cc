/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "bus.h"
#include "gmem.h"

static void echo_read(void *dev, uint64_t off, void *data, unsigned len)
{
	memset(data, (int)(*(uint8_t *)dev + off), len);
}
static void store_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	(void)off;
	(void)len;
	*(uint8_t *)dev = *(const uint8_t *)data;
}
static const struct bus_ops ops = { echo_read, store_write };

static void accesses_reach_the_range_they_lie_in(void **state)
{
	uint8_t a = 0x10, b = 0x20;
	uint32_t v = 0;
	struct bus bus;

	(void)state;
	assert_int_equal(bus_init(&bus), 0);
	assert_int_equal(bus_add(&bus, 0x100, 8, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0x108, 4, &ops, &b), 0);
	bus_read(&bus, 0x103, &v, 1);
	assert_int_equal(v & 0xff, 0x13);
	bus_read(&bus, 0x108, &v, 4);
	assert_int_equal(v, 0x20202020);
	bus_write(&bus, 0x109, "\x55", 1);
	assert_int_equal(b, 0x55);
	bus_fini(&bus);
}

static void nobody_reads_as_ones_and_is_counted(void **state)
{
	uint8_t a = 0;
	uint32_t v = 0;
	struct bus bus;

	(void)state;
	assert_int_equal(bus_init(&bus), 0);
	assert_int_equal(bus_add(&bus, 0x100, 2, &ops, &a), 0);
	bus_read(&bus, 0xff, &v, 2);	/* starts before */
	assert_int_equal(v, 0xffff);
	bus_read(&bus, 0x101, &v, 4);	/* ends behind */
	assert_int_equal(v, 0xffffffff);
	bus_write(&bus, UINT64_MAX, "x", 1);
	assert_int_equal(bus.unclaimed, 3);
	bus_fini(&bus);
}

static void overlaps_and_wraps_are_refused(void **state)
{
	uint8_t a = 0;
	struct bus bus;

	(void)state;
	assert_int_equal(bus_init(&bus), 0);
	assert_int_equal(bus_add(&bus, 0x100, 0x10, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0x10f, 1, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0xf0, 0x11, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x110, 1, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, UINT64_MAX, 2, &ops, &a), -ERANGE);
	assert_int_equal(bus_add(&bus, 5, 0, &ops, &a), -ERANGE);
	bus_del(&bus, 0x100, &a);
	assert_int_equal(bus_add(&bus, 0xf0, 0x20, &ops, &a), 0);
	bus_fini(&bus);
}

static void guest_memory_is_bounded_without_wrapping(void **state)
{
	uint8_t ram[64] = { 0 }, out[8];
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_init_flat(&m, 0x1000, ram, sizeof(ram)), 0);
	assert_ptr_equal(gmem_ptr(&m, 0x1000, 64), ram);
	assert_ptr_equal(gmem_ptr(&m, 0x1040, 0), ram + 64);
	assert_null(gmem_ptr(&m, 0x1000, 65));
	assert_null(gmem_ptr(&m, 0xfff, 1));
	assert_null(gmem_ptr(&m, 0x1001, UINT64_MAX));
	assert_null(gmem_ptr(&m, UINT64_MAX, 1));
	assert_int_equal(gmem_write(&m, 0x103c, "1234", 4), 0);
	assert_int_equal(gmem_read(&m, 0x103c, out, 4), 0);
	assert_memory_equal(out, "1234", 4);
	assert_int_equal(gmem_read(&m, 0x103d, out, 4), -EFAULT);
	gmem_fini(&m);
}

static void memory_is_laid_around_the_hole(void **state)
{
	struct gmem m;
	struct err e = { 0 };
	const struct gmem_table *t;

	(void)state;
	assert_int_equal(gmem_init(&m, GIB(5), false, &e), 0);
	t = atomic_load(&m.table);
	assert_int_equal(t->n, 2);
	assert_int_equal(t->region[0].size, GIB(3));
	assert_int_equal(t->region[1].gpa, GIB(4));
	assert_int_equal(t->region[1].size, GIB(2));
	assert_null(gmem_ptr(&m, GIB(3), 1));
	assert_non_null(gmem_ptr(&m, GIB(6) - 1, 1));
	assert_null(gmem_ptr(&m, GIB(3) - 1, 2));
	gmem_fini(&m);
}

static void writes_are_marked_while_logging(void **state)
{
	static uint8_t ram[8 * 4096];
	uint64_t map[1] = { 0 };
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_init_flat(&m, 0, ram, sizeof(ram)), 0);
	atomic_store(&m.dirty, map);
	assert_int_equal(gmem_write(&m, 4095, "ab", 2), 0);
	gmem_done_write(&m, 7 * 4096, 1);
	gmem_done_write(&m, 7 * 4096, UINT64_MAX);	/* wraps: ignored */
	gmem_done_write(&m, 0, 0);
	assert_int_equal(map[0], 0x83);
	atomic_store(&m.dirty, NULL);
	gmem_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accesses_reach_the_range_they_lie_in),
		cmocka_unit_test(nobody_reads_as_ones_and_is_counted),
		cmocka_unit_test(overlaps_and_wraps_are_refused),
		cmocka_unit_test(guest_memory_is_bounded_without_wrapping),
		cmocka_unit_test(memory_is_laid_around_the_hole),
		cmocka_unit_test(writes_are_marked_while_logging),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
