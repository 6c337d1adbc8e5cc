/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/acpi.h"
#include "gmem.h"
#include "hv/bytes.h"
#include "layout.h"

#define RAM MIB(2)

struct fixture {
	struct gmem m;
	uint8_t *ram;
};

static int setup(void **state)
{
	static struct fixture f;

	f.ram = calloc(1, RAM);
	*state = &f;
	return !f.ram || gmem_init_flat(&f.m, 0, f.ram, RAM);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	gmem_fini(&f->m);
	free(f->ram);
	return 0;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* A whole, summed table inside the ACPI area. */
static const uint8_t *table_at(const struct fixture *f, uint64_t gpa, const char *signature)
{
	const uint8_t *t = f->ram + gpa;

	assert_true(gpa >= LAYOUT_ACPI_TABLES && gpa <= LAYOUT_ACPI_END - 36);
	assert_int_equal(gpa % 16, 0);
	assert_true(load_le32(t + 4) >= 36 && load_le32(t + 4) <= LAYOUT_ACPI_END - gpa);
	assert_memory_equal(t, signature, 4);
	assert_int_equal(sum(t, load_le32(t + 4)), 0);
	return t;
}

static const uint8_t *find(const struct fixture *f, const char *signature)
{
	const uint8_t *rsdp = f->ram + LAYOUT_RSDP, *xsdt;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(rsdp[15], 2);
	xsdt = table_at(f, load_le64(rsdp + 24), "XSDT");
	for (uint32_t off = 36; off < load_le32(xsdt + 4); off += 8)
		if (!memcmp(f->ram + load_le64(xsdt + off), signature, 4))
			return table_at(f, load_le64(xsdt + off), signature);
	fail_msg("no table %s", signature);
	return NULL;
}

static void every_table_is_found_whole_and_summed(void **state)
{
	struct fixture *f = *state;
	const uint8_t *fadt, *mcfg;

	assert_int_equal(acpi_write(&f->m, 2, NULL), 0);
	fadt = find(f, "FACP");
	find(f, "APIC");
	mcfg = find(f, "MCFG");
	table_at(f, load_le64(fadt + 140), "DSDT");
	assert_int_equal(load_le32(fadt + 40), load_le64(fadt + 140));
	assert_int_equal(load_le64(mcfg + 44), LAYOUT_ECAM_BASE);
	assert_int_equal(mcfg[55], 0);	/* last bus */
}

static void the_fadt_names_reset_and_sleep_and_no_legacy(void **state)
{
	struct fixture *f = *state;
	const uint8_t *t;

	assert_int_equal(acpi_write(&f->m, 1, NULL), 0);
	t = find(f, "FACP");
	assert_true(load_le32(t + 112) & BIT32(20));	/* hardware-reduced */
	assert_true(load_le32(t + 112) & BIT32(10));	/* reset register */
	assert_int_equal(t[116], 1);			/* I/O space */
	assert_int_equal(load_le64(t + 120), PORT_ACPI_RESET);
	assert_int_equal(t[128], ACPI_RESET_VALUE);
	assert_int_equal(load_le64(t + 248), PORT_ACPI_SLEEP_CTL);
	assert_int_equal(load_le64(t + 260), PORT_ACPI_SLEEP_STS);
	assert_int_equal(load_le64(t + 132), 0);	/* no FACS */
}

/* Walk the MADT: APIC IDs in order, one I/O APIC, LINT1 is NMI. */
static void check_madt(struct fixture *f, unsigned cpus)
{
	const uint8_t *t;
	unsigned id = 0, ioapic = 0, nmi = 0, xnmi = 0;
	uint32_t off = 44, len;

	memset(f->ram, 0, RAM);
	assert_int_equal(acpi_write(&f->m, cpus, NULL), 0);
	t = find(f, "APIC");
	len = load_le32(t + 4);
	assert_int_equal(load_le32(t + 36), LAYOUT_LAPIC_BASE);
	assert_int_equal(load_le32(t + 40), 0);	/* no 8259 */
	for (; off + 2 <= len; off += t[off + 1]) {
		const uint8_t *e = t + off;

		assert_true(e[1] >= 2 && e[1] <= len - off);
		switch (e[0]) {
		case 0:
			assert_true(id < 255);
			assert_int_equal(e[3], id++);
			assert_int_equal(load_le32(e + 4), 1);
			break;
		case 9:
			assert_true(id >= 255);
			assert_int_equal(load_le32(e + 4), id++);
			assert_int_equal(load_le32(e + 8), 1);
			break;
		case 1:
			assert_int_equal(load_le32(e + 4), LAYOUT_IOAPIC_BASE);
			ioapic++;
			break;
		case 4: nmi++; break;
		case 10: xnmi++; break;
		default: fail_msg("MADT entry of type %u", e[0]);
		}
	}
	assert_int_equal(off, len);
	assert_int_equal(id, cpus);
	assert_int_equal(ioapic, 1);
	assert_int_equal(nmi, 1);
	assert_int_equal(xnmi, cpus > 255 ? 1 : 0);
}

static void the_madt_lists_all_cpus_with_x2apic_past_254(void **state)
{
	static const unsigned cpus[] = { 1, 2, 3, 254, 255, 256, 300, 1024 };

	for (size_t i = 0; i < ARRAY_SIZE(cpus); i++)
		check_madt(*state, cpus[i]);
}

static void more_cpus_than_fit_are_refused_without_writing(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };

	assert_int_equal(acpi_write(&f->m, 100000, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "ACPI"));
	assert_int_equal(sum(f->ram + LAYOUT_RSDP, 36), 0);
	assert_int_equal(f->ram[LAYOUT_RSDP], 0);
	for (uint64_t gpa = LAYOUT_ACPI_END; gpa < RAM; gpa++)
		assert_int_equal(f->ram[gpa], 0);
}

static void memory_that_ends_below_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct gmem small;

	assert_int_equal(gmem_init_flat(&small, 0, f->ram, KIB(64)), 0);
	assert_int_equal(acpi_write(&small, 1, NULL), -EFAULT);
	gmem_fini(&small);
}

static const uint8_t *dsdt_find(struct fixture *f, const char *bytes, size_t n)
{
	const uint8_t *dsdt;

	assert_int_equal(acpi_write(&f->m, 1, NULL), 0);
	dsdt = f->ram + load_le64(find(f, "FACP") + 140);
	return memmem(dsdt, load_le32(dsdt + 4), bytes, n);
}

static void the_dsdt_names_the_devices_a_kernel_looks_for(void **state)
{
	static const char *const names[] = { "PCI0", "COM1", "ACPI0013", "QEMU0001", "PWRB",
					     "_S5_", "_EVT" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_non_null(dsdt_find(*state, names[i], strlen(names[i])));
	/* EISA IDs: PNP0A08, PNP0C0C */
	assert_non_null(dsdt_find(*state, "\x41\xd0\x0a\x08", 4));
	assert_non_null(dsdt_find(*state, "\x41\xd0\x0c\x0c", 4));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_table_is_found_whole_and_summed),
		T(the_fadt_names_reset_and_sleep_and_no_legacy),
		T(the_madt_lists_all_cpus_with_x2apic_past_254),
		T(more_cpus_than_fit_are_refused_without_writing),
		T(memory_that_ends_below_is_an_error),
		T(the_dsdt_names_the_devices_a_kernel_looks_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
