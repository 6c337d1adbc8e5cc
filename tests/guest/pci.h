/* SPDX-License-Identifier: MIT */
/* pci.h - configuration space of bus 0, BARs, capabilities, MSI-X. */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include <linux/pci_regs.h>

#include "guest.h"

struct pci_fn {
	uint8_t slot, fn;
	uint16_t vendor, device;
};

uint32_t pci_read(const struct pci_fn *f, unsigned reg, unsigned len);
void pci_write(const struct pci_fn *f, unsigned reg, unsigned len, uint32_t v);
/** pci_nth - the @nth function of bus 0 that @match likes. */
bool pci_nth(struct pci_fn *out, bool (*match)(const struct pci_fn *f, unsigned arg), unsigned arg,
	     unsigned nth);
/** pci_cap - offset of the @nth capability @id, 0: none. */
unsigned pci_cap(const struct pci_fn *f, uint8_t id, unsigned nth);
/** pci_bar - address of memory BAR @i. */
uint64_t pci_bar(const struct pci_fn *f, unsigned i);
/** pci_enable - memory decoding and bus mastering on. */
void pci_enable(const struct pci_fn *f);

/** msix_enable - switch MSI-X on; all vectors unmasked that msix_set() sets. */
const char *msix_enable(const struct pci_fn *f);
/** msix_set - entry @i raises @vector on the boot processor. */
void msix_set(const struct pci_fn *f, unsigned i, uint8_t vector);
void msix_mask(const struct pci_fn *f, unsigned i, bool mask);
bool msix_pending(const struct pci_fn *f, unsigned i);

#endif
