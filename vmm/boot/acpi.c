/* SPDX-License-Identifier: MIT */
/*
 * ACPI 6.4 tables for a machine without legacy hardware: no PIC, no PIT, no PM timer, no
 * FACS. The guest learns from here: its CPUs (MADT), ECAM (MCFG), the PCI windows, the
 * serial port, the clock, pvpanic, and the one GED that carries the power button (DSDT),
 * how to sleep and reset (FADT).
 */
#include "acpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aml.h"
#include "dev/ged.h"
#include "gmem.h"
#include "hv/bytes.h"
#include "layout.h"

#define ACPI_HEADER_BYTES 36
#define ACPI_RSDP_BYTES 36
#define ACPI_FADT_BYTES 276
#define ACPI_TABLES_MAX (LAYOUT_ACPI_END - LAYOUT_ACPI_TABLES)

#define FADT_WBINVD BIT32(0)
#define FADT_PWR_BUTTON BIT32(4)	/* the power button is a control-method device */
#define FADT_SLP_BUTTON BIT32(5)
#define FADT_RESET_REG_SUP BIT32(10)
#define FADT_HW_REDUCED BIT32(20)
#define BOOT_ARCH_NO_VGA BIT32(2)

#define GAS_SYSTEM_IO 1
#define GAS_BYTE_ACCESS 1

#define MADT_LAPIC 0
#define MADT_IOAPIC 1
#define MADT_LAPIC_NMI 4
#define MADT_X2APIC 9
#define MADT_X2APIC_NMI 10
#define MADT_ENABLED 1
#define XAPIC_ID_MAX 254

#define NOTIFY_BUTTON_PRESSED 0x80

/* Where the tables are being put together; offsets become GPAs by adding LAYOUT_ACPI_TABLES. */
struct acpi_build {
	uint8_t buf[ACPI_TABLES_MAX];
	size_t len;
	bool overflow;
};

static uint8_t acpi_checksum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

static uint8_t *acpi_take(struct acpi_build *b, size_t n)
{
	uint8_t *p = b->buf + b->len;

	if (n > sizeof(b->buf) - b->len) {
		b->overflow = true;
		return NULL;
	}
	memset(p, 0, n);
	b->len += n;
	return p;
}

static uint8_t *acpi_table_begin(struct acpi_build *b, const char *signature, uint8_t revision,
				 size_t bytes)
{
	uint8_t *t;

	b->len = MIN(ALIGN_UP(b->len, 16), sizeof(b->buf));
	t = acpi_take(b, bytes);
	if (!t)
		return NULL;
	memcpy(t, signature, 4);
	t[8] = revision;
	memcpy(t + 10, "HVVMM ", 6);
	memcpy(t + 16, "HVVMACPI", 8);
	store_le32(t + 24, 1);
	memcpy(t + 28, "HV  ", 4);
	store_le32(t + 32, 1);
	return t;
}

/* Length and checksum; returns the table's GPA. */
static uint64_t acpi_table_end(struct acpi_build *b, uint8_t *t)
{
	size_t n = (size_t)(b->buf + b->len - t);

	store_le32(t + 4, (uint32_t)n);
	t[9] = 0;
	t[9] = acpi_checksum(t, n);
	return LAYOUT_ACPI_TABLES + (uint64_t)(t - b->buf);
}

static void dsdt_serial(struct aml *a)
{
	aml_device(a, "COM1");
	aml_name_eisa(a, "_HID", "PNP0501");
	aml_name_int(a, "_UID", 0);
	aml_crs_begin(a);
	aml_crs_io(a, PORT_COM1, 8);
	aml_crs_interrupt(a, GSI_COM1);
	aml_crs_end(a);
	aml_close(a);
}

static void dsdt_rtc(struct aml *a)
{
	aml_device(a, "RTC_");
	aml_name_eisa(a, "_HID", "PNP0B00");
	aml_crs_begin(a);
	aml_crs_io(a, PORT_RTC, 2);
	aml_crs_end(a);
	aml_close(a);
}

static void dsdt_pvpanic(struct aml *a)
{
	aml_device(a, "PEVT");
	aml_name_string(a, "_HID", "QEMU0001");
	aml_name_int(a, "_STA", 0xf);
	aml_crs_begin(a);
	aml_crs_io(a, PORT_PVPANIC, 1);
	aml_crs_end(a);
	aml_close(a);
}

static void dsdt_power_button(struct aml *a)
{
	aml_device(a, "PWRB");
	aml_name_eisa(a, "_HID", "PNP0C0C");
	aml_name_int(a, "_UID", 0);
	aml_close(a);
}

/* _EVT reads what is pending, acknowledges it, then notifies: an event that comes in
 * between raises the interrupt again. */
static void dsdt_ged(struct aml *a)
{
	aml_device(a, "GED_");
	aml_name_string(a, "_HID", "ACPI0013");
	aml_name_int(a, "_UID", 0);
	aml_crs_begin(a);
	aml_crs_interrupt(a, GSI_GED);
	aml_crs_end(a);
	aml_io_region(a, "GEDR", PORT_GED, 4);
	aml_dword_field(a, "GEDR", "GEVT");
	aml_method(a, "_EVT", 1);
	aml_store_name_to(a, "GEVT", AML_LOCAL0);
	aml_store_local_to(a, AML_LOCAL0, "GEVT");
	aml_if_and(a, AML_LOCAL0, GED_EVENT_POWER_BUTTON);
	aml_notify(a, "\\_SB_.PWRB", NOTIFY_BUTTON_PRESSED);
	aml_close(a);
	aml_close(a);
	aml_close(a);
}

static void dsdt_pci(struct aml *a)
{
	aml_device(a, "PCI0");
	aml_name_eisa(a, "_HID", "PNP0A08");
	aml_name_eisa(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	aml_name_int(a, "_CCA", 1);
	aml_crs_begin(a);
	aml_crs_bus_range(a, 0, 0);
	aml_crs_io(a, PORT_PCI_ADDR, 8);
	aml_crs_memory_window(a, LAYOUT_PCI_MMIO_BASE, LAYOUT_PCI_MMIO_SIZE);
	aml_crs_end(a);
	aml_close(a);
}

/* A motherboard resource, so that the guest takes ECAM for reserved. */
static void dsdt_ecam(struct aml *a)
{
	aml_device(a, "MBRD");
	aml_name_eisa(a, "_HID", "PNP0C02");
	aml_name_int(a, "_UID", 0);
	aml_crs_begin(a);
	aml_crs_memory_fixed(a, LAYOUT_ECAM_BASE, LAYOUT_ECAM_SIZE);
	aml_crs_end(a);
	aml_close(a);
}

static void dsdt_sleep(struct aml *a)
{
	aml_name(a, "_S5_");
	aml_package(a, 4);
	aml_int(a, ACPI_SLEEP_TYPE_S5);
	for (int i = 0; i < 3; i++)
		aml_int(a, 0);
	aml_close(a);
}

static uint64_t acpi_dsdt(struct acpi_build *b)
{
	uint8_t *t = acpi_table_begin(b, "DSDT", 2, ACPI_HEADER_BYTES);
	struct aml a;

	if (!t)
		return 0;
	aml_begin(&a, b->buf + b->len, sizeof(b->buf) - b->len);
	aml_scope(&a, "\\_SB_");
	dsdt_pci(&a);
	dsdt_ecam(&a);
	dsdt_serial(&a);
	dsdt_rtc(&a);
	dsdt_pvpanic(&a);
	dsdt_power_button(&a);
	dsdt_ged(&a);
	aml_close(&a);
	dsdt_sleep(&a);
	if (!aml_ok(&a)) {
		b->overflow = true;
		return 0;
	}
	b->len += a.len;
	return acpi_table_end(b, t);
}

static void acpi_gas_port(uint8_t *p, uint16_t port)
{
	p[0] = GAS_SYSTEM_IO;
	p[1] = 8;	/* bits */
	p[3] = GAS_BYTE_ACCESS;
	store_le64(p + 4, port);
}

/* ACPI 6.4, 5.2.9; offsets as in its table. */
static uint64_t acpi_fadt(struct acpi_build *b, uint64_t dsdt)
{
	uint8_t *t = acpi_table_begin(b, "FACP", 6, ACPI_FADT_BYTES);

	if (!t)
		return 0;
	store_le32(t + 40, (uint32_t)dsdt);
	store_le16(t + 109, BOOT_ARCH_NO_VGA);
	store_le32(t + 112, FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG_SUP |
				    FADT_HW_REDUCED);
	acpi_gas_port(t + 116, PORT_ACPI_RESET);
	t[128] = ACPI_RESET_VALUE;
	t[131] = 4;	/* minor version */
	store_le64(t + 140, dsdt);
	acpi_gas_port(t + 244, PORT_ACPI_SLEEP_CTL);
	acpi_gas_port(t + 256, PORT_ACPI_SLEEP_STS);
	memcpy(t + 268, "HVVMM", 5);
	return acpi_table_end(b, t);
}

static void madt_cpu(struct acpi_build *b, unsigned id)
{
	uint8_t *p = acpi_take(b, id <= XAPIC_ID_MAX ? 8 : 16);

	if (!p)
		return;
	if (id <= XAPIC_ID_MAX) {
		p[0] = MADT_LAPIC;
		p[1] = 8;
		p[2] = p[3] = (uint8_t)id;
		store_le32(p + 4, MADT_ENABLED);
	} else {
		p[0] = MADT_X2APIC;
		p[1] = 16;
		store_le32(p + 4, id);
		store_le32(p + 8, MADT_ENABLED);
		store_le32(p + 12, id);
	}
}

static void madt_tail(struct acpi_build *b, unsigned cpus)
{
	uint8_t *ioapic = acpi_take(b, 12);
	uint8_t *nmi = acpi_take(b, 6);
	uint8_t *xnmi = cpus > XAPIC_ID_MAX + 1 ? acpi_take(b, 12) : NULL;

	if (ioapic) {
		ioapic[0] = MADT_IOAPIC;
		ioapic[1] = 12;
		store_le32(ioapic + 4, LAYOUT_IOAPIC_BASE);
	}
	if (nmi) {	/* LINT1 of all processors is NMI */
		nmi[0] = MADT_LAPIC_NMI;
		nmi[1] = 6;
		nmi[2] = 0xff;
		nmi[5] = 1;
	}
	if (xnmi) {
		xnmi[0] = MADT_X2APIC_NMI;
		xnmi[1] = 12;
		store_le32(xnmi + 4, UINT32_MAX);
		xnmi[8] = 1;
	}
}

static uint64_t acpi_madt(struct acpi_build *b, unsigned cpus)
{
	uint8_t *t = acpi_table_begin(b, "APIC", 5, ACPI_HEADER_BYTES + 8);

	if (!t)
		return 0;
	store_le32(t + 36, LAYOUT_LAPIC_BASE);	/* flags 0: no 8259 */
	for (unsigned id = 0; id < cpus; id++)
		madt_cpu(b, id);
	madt_tail(b, cpus);
	return b->overflow ? 0 : acpi_table_end(b, t);
}

static uint64_t acpi_mcfg(struct acpi_build *b)
{
	uint8_t *t = acpi_table_begin(b, "MCFG", 1, ACPI_HEADER_BYTES + 8 + 16);

	if (!t)
		return 0;
	store_le64(t + 44, LAYOUT_ECAM_BASE);	/* segment 0, buses 0..0 */
	return acpi_table_end(b, t);
}

static uint64_t acpi_xsdt(struct acpi_build *b, const uint64_t *tables, size_t n)
{
	uint8_t *t = acpi_table_begin(b, "XSDT", 1, ACPI_HEADER_BYTES + n * 8);

	if (!t)
		return 0;
	for (size_t i = 0; i < n; i++)
		store_le64(t + ACPI_HEADER_BYTES + i * 8, tables[i]);
	return acpi_table_end(b, t);
}

static void acpi_rsdp(uint8_t r[ACPI_RSDP_BYTES], uint64_t xsdt)
{
	memset(r, 0, ACPI_RSDP_BYTES);
	memcpy(r, "RSD PTR ", 8);
	memcpy(r + 9, "HVVMM ", 6);
	r[15] = 2;
	store_le32(r + 20, ACPI_RSDP_BYTES);
	store_le64(r + 24, xsdt);
	r[8] = acpi_checksum(r, 20);
	r[32] = acpi_checksum(r, ACPI_RSDP_BYTES);
}

int acpi_write(struct gmem *m, unsigned cpus, struct err *e)
{
	struct acpi_build *b = calloc(1, sizeof(*b));
	uint8_t rsdp[ACPI_RSDP_BYTES];
	uint64_t tables[3], xsdt;
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "ACPI tables");
	tables[0] = acpi_fadt(b, acpi_dsdt(b));
	tables[1] = acpi_madt(b, cpus);
	tables[2] = acpi_mcfg(b);
	xsdt = acpi_xsdt(b, tables, ARRAY_SIZE(tables));
	acpi_rsdp(rsdp, xsdt);
	r = b->overflow ? -ENOSPC : gmem_write(m, LAYOUT_ACPI_TABLES, b->buf, b->len);
	if (!r)
		r = gmem_write(m, LAYOUT_RSDP, rsdp, sizeof(rsdp));
	free(b);
	return r ? err_set(e, r, "ACPI tables do not fit below 1 MiB") : 0;
}
