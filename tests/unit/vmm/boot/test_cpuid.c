/* SPDX-License-Identifier: MIT */
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/cpuid.h"

#define ROOM 32

/* A host's table in the order KVM gives it; leaf 0xb and 0x1f as the host has them. */
static struct kvm_cpuid2 *host_table(uint32_t max_leaf)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + ROOM * sizeof(c->entries[0]));
	const struct kvm_cpuid_entry2 e[] = {
		{ .function = 0, .eax = max_leaf },
		{ .function = 1, .ebx = 0x07100800, .ecx = 0x2, .edx = 0x1 << 12 },
		{ .function = 4, .index = 0, .eax = 0x1c004121 },	/* level 1 */
		{ .function = 4, .index = 3, .eax = 0x1c03c163 },	/* level 3 */
		{ .function = 4, .index = 4, .eax = 0 },
		{ .function = 0xb, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 77 },
		{ .function = 0x1f, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 77 },
		{ .function = 0x80000001, .ecx = 0x2 },
		{ .function = 0x80000008, .ecx = 0x700f },
		{ .function = 0x8000001d, .index = 3, .eax = 0x1c163 },
		{ .function = 0x8000001e, .eax = 77, .ebx = 0x101, .ecx = 0x300 },
	};

	assert_non_null(c);
	c->nent = ARRAY_SIZE(e);
	memcpy(c->entries, e, sizeof(e));
	return c;
}

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *c, uint32_t fn, uint32_t index)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == fn && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

/* The smallest n with 1 << n >= @cpus. */
static unsigned width(unsigned cpus)
{
	unsigned n = 0;

	while (1u << n < cpus)
		n++;
	return n;
}

static void check_topology(unsigned id, unsigned cpus)
{
	struct kvm_cpuid2 *c = host_table(0x1f);
	const struct kvm_cpuid_entry2 *l;

	cpuid_for_vcpu(c, ROOM, id, cpus, true);
	l = leaf(c, 1, 0);
	assert_int_equal(l->ebx >> 24, id & 0xff);
	assert_int_equal(l->ebx & 0xffff, 0x0800);	/* brand and CLFLUSH stay */
	assert_true(l->ecx & BIT32(21) && l->ecx & BIT32(24) && l->ecx & BIT32(31));
	assert_int_equal(!!(l->edx & BIT32(28)), cpus > 1);
	l = leaf(c, 0xb, 0);
	assert_int_equal(l->eax, 0);
	assert_int_equal(l->ebx, 1);
	assert_int_equal(l->ecx, 0x100);
	assert_int_equal(l->edx, id);
	l = leaf(c, 0xb, 1);
	assert_int_equal(l->eax, width(cpus));
	assert_int_equal(l->ebx, cpus);
	assert_int_equal(l->ecx, 0x201);
	assert_int_equal(l->edx, id);
	assert_int_equal(leaf(c, 0xb, 2)->ebx, 0);
	assert_null(leaf(c, 0x1f, 0));	/* could disagree */
	assert_int_equal(leaf(c, 0x8000001e, 0)->eax, id);
	assert_int_equal(leaf(c, 0x8000001e, 0)->ecx, 0);
	assert_int_equal(leaf(c, 0x80000008, 0)->ecx >> 12 & 0xf, width(cpus));
	assert_int_equal(!!(leaf(c, 0x80000001, 0)->ecx & 2), cpus > 1);
	free(c);
}

static void every_vcpu_finds_its_id_in_one_package_of_cores(void **state)
{
	static const unsigned cpus[] = { 1, 2, 3, 255, 300 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cpus); i++)
		for (unsigned id = 0; id < cpus[i]; id++)
			check_topology(id, cpus[i]);
}

static void caches_are_shared_from_level_three_on(void **state)
{
	struct kvm_cpuid2 *c = host_table(0x1f);

	(void)state;
	cpuid_for_vcpu(c, ROOM, 0, 4, false);
	assert_int_equal(leaf(c, 4, 0)->eax >> 14 & 0xfff, 0);
	assert_int_equal(leaf(c, 4, 0)->eax & 0x3fff, 0x121);
	assert_true((leaf(c, 4, 3)->eax >> 14 & 0xfff) >= 3);
	assert_int_equal(leaf(c, 4, 4)->eax, 0);	/* the end stays the end */
	assert_int_equal(leaf(c, 0x8000001d, 3)->eax >> 14 & 0xfff, 3);
	assert_false(leaf(c, 1, 0)->ecx & BIT32(24));
	free(c);
}

static void an_old_host_gets_no_topology_leaf(void **state)
{
	struct kvm_cpuid2 *c = host_table(0xa);

	(void)state;
	cpuid_for_vcpu(c, ROOM, 0, 2, false);
	assert_null(leaf(c, 0xb, 0));
	free(c);
}

static void a_table_without_room_is_not_overrun(void **state)
{
	struct kvm_cpuid2 *c = host_table(0x1f);
	uint32_t n = c->nent;

	(void)state;
	cpuid_for_vcpu(c, n, 0, 2, false);	/* two went, two of three came */
	assert_int_equal(c->nent, n);
	assert_non_null(leaf(c, 0xb, 1));
	assert_null(leaf(c, 0xb, 2));
	free(c);
}

static void mtrr_is_read_from_leaf_one(void **state)
{
	struct kvm_cpuid2 *c = host_table(1);

	(void)state;
	assert_true(cpuid_has_mtrr(c));
	c->entries[1].edx = 0;
	assert_false(cpuid_has_mtrr(c));
	c->nent = 1;
	assert_false(cpuid_has_mtrr(c));
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_vcpu_finds_its_id_in_one_package_of_cores),
		cmocka_unit_test(caches_are_shared_from_level_three_on),
		cmocka_unit_test(an_old_host_gets_no_topology_leaf),
		cmocka_unit_test(a_table_without_room_is_not_overrun),
		cmocka_unit_test(mtrr_is_read_from_leaf_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
