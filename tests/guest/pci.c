/* SPDX-License-Identifier: MIT */
/* PCI 3.0 configuration by 0xcf8/0xcfc, and the same by ECAM to compare. */
#include "pci.h"

#include "acpi.h"

#define PORT_ADDR 0xcf8
#define PORT_DATA 0xcfc
#define LAPIC_ADDRESS 0xfee00000
#define MSIX_ENTRY_BYTES 16

uint32_t pci_read(const struct pci_fn *f, unsigned reg, unsigned len)
{
	uint32_t v;

	out32(PORT_ADDR, 0x80000000u | (uint32_t)f->slot << 11 | (uint32_t)f->fn << 8 | (reg & 0xfc));
	v = in32(PORT_DATA) >> (8 * (reg & 3));
	return len == 4 ? v : v & ((1u << 8 * len) - 1);
}

void pci_write(const struct pci_fn *f, unsigned reg, unsigned len, uint32_t v)
{
	out32(PORT_ADDR, 0x80000000u | (uint32_t)f->slot << 11 | (uint32_t)f->fn << 8 | (reg & 0xfc));
	if (len == 4)
		out32(PORT_DATA, v);
	else if (len == 2)
		out16((uint16_t)(PORT_DATA + (reg & 2)), (uint16_t)v);
	else
		out8((uint16_t)(PORT_DATA + (reg & 3)), (uint8_t)v);
}

bool pci_nth(struct pci_fn *out, bool (*match)(const struct pci_fn *f, unsigned arg), unsigned arg,
	     unsigned nth)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		struct pci_fn f = { .slot = (uint8_t)slot };
		uint32_t id = pci_read(&f, PCI_VENDOR_ID, 4);

		f.vendor = (uint16_t)id;
		f.device = (uint16_t)(id >> 16);
		if (f.vendor == 0xffff || !match(&f, arg) || nth--)
			continue;
		*out = f;
		return true;
	}
	return false;
}

unsigned pci_cap(const struct pci_fn *f, uint8_t id, unsigned nth)
{
	unsigned at;

	if (!(pci_read(f, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return 0;
	at = pci_read(f, PCI_CAPABILITY_LIST, 1);
	for (unsigned i = 0; at && i < 48; i++, at = pci_read(f, at + 1, 1))
		if (pci_read(f, at, 1) == id && !nth--)
			return at;
	return 0;
}

uint64_t pci_bar(const struct pci_fn *f, unsigned i)
{
	unsigned reg = PCI_BASE_ADDRESS_0 + 4 * i;
	uint64_t v = pci_read(f, reg, 4);

	if ((v & 7) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		v |= (uint64_t)pci_read(f, reg + 4, 4) << 32;
	return v & ~UINT64_C(0xf);
}

void pci_enable(const struct pci_fn *f)
{
	pci_write(f, PCI_COMMAND, 2,
		  pci_read(f, PCI_COMMAND, 2) | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* ---- MSI-X (PCI 3.0, 6.8.2) ----------------------------------------------------------------- */

static volatile uint8_t *msix_area(const struct pci_fn *f, unsigned reg)
{
	uint32_t v = pci_read(f, pci_cap(f, PCI_CAP_ID_MSIX, 0) + reg, 4);

	return (volatile uint8_t *)(pci_bar(f, v & 7) + (v & ~7u));
}

const char *msix_enable(const struct pci_fn *f)
{
	unsigned cap = pci_cap(f, PCI_CAP_ID_MSIX, 0);

	if (!cap)
		return "no MSI-X";
	pci_write(f, cap + PCI_MSIX_FLAGS, 2,
		  (pci_read(f, cap + PCI_MSIX_FLAGS, 2) & ~PCI_MSIX_FLAGS_MASKALL) |
			  PCI_MSIX_FLAGS_ENABLE);
	return NULL;
}

void msix_set(const struct pci_fn *f, unsigned i, uint8_t vector)
{
	volatile uint8_t *e = msix_area(f, PCI_MSIX_TABLE) + i * MSIX_ENTRY_BYTES;
	uint32_t self = mmio_read32((void *)(uintptr_t)(LAPIC_ADDRESS + 0x20)) >> 24;

	mmio_write32(e + PCI_MSIX_ENTRY_LOWER_ADDR, LAPIC_ADDRESS | self << 12);
	mmio_write32(e + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
	mmio_write32(e + PCI_MSIX_ENTRY_DATA, vector);
	mmio_write32(e + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
}

void msix_mask(const struct pci_fn *f, unsigned i, bool mask)
{
	mmio_write32(msix_area(f, PCI_MSIX_TABLE) + i * MSIX_ENTRY_BYTES + PCI_MSIX_ENTRY_VECTOR_CTRL,
		     mask);
}

bool msix_pending(const struct pci_fn *f, unsigned i)
{
	return mmio_read32(msix_area(f, PCI_MSIX_PBA) + i / 32 * 4) >> i % 32 & 1;
}

/* ---- words -------------------------------------------------------------------------------------- */

static bool any(const struct pci_fn *f, unsigned arg)
{
	(void)f;
	(void)arg;
	return true;
}

static bool in_ram(uint64_t gpa)
{
	for (unsigned i = 0; i < boot.n_ranges; i++)
		if (boot.range[i].type == 1 && gpa - boot.range[i].gpa < boot.range[i].size)
			return true;
	return false;
}

static const char *check_bars(const struct pci_fn *f)
{
	for (unsigned i = 0; i < 6; i++) {
		uint32_t low = pci_read(f, PCI_BASE_ADDRESS_0 + 4 * i, 4);

		if (!low || low & 1)
			continue;
		if (!(low & ~0xfu))
			return why("slot %u: BAR %u has no address", f->slot, i);
		if (in_ram(pci_bar(f, i)))
			return why("slot %u: BAR %u lies in RAM", f->slot, i);
		i += (low & 7) == PCI_BASE_ADDRESS_MEM_TYPE_64;
	}
	return NULL;
}

static const char *check_ecam(const struct pci_fn *f)
{
	uint64_t ecam = acpi_ecam() + ((uint64_t)f->slot << 15);

	for (unsigned reg = 0; acpi_ecam() && reg < 64; reg += 4)
		if (mmio_read32((void *)(ecam + reg)) != pci_read(f, reg, 4))
			return why("slot %u: register 0x%x differs in ECAM", f->slot, reg);
	return NULL;
}

/* pci - every function of bus 0: identity, BARs with addresses, ports and ECAM agree. */
static const char *word_pci(const char *arg)
{
	struct pci_fn f;
	const char *bad = NULL;

	(void)arg;
	for (unsigned i = 0; !bad && pci_nth(&f, any, 0, i); i++) {
		say("PCI %02x %04x:%04x class %06x\n", f.slot, f.vendor, f.device,
		    pci_read(&f, PCI_CLASS_REVISION, 4) >> 8);
		bad = check_bars(&f);
		if (!bad)
			bad = check_ecam(&f);
	}
	return bad;
}
WORD("pci", word_pci);
