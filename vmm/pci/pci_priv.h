/* SPDX-License-Identifier: MIT */
/* pci_priv.h - between the files of vmm/pci. Each call holds pci_dev.lock unless it says not. */
#ifndef HV_VMM_PCI_PRIV_H
#define HV_VMM_PCI_PRIV_H

#include "pci/pci.h"

/** bar_place - give @d's BARs addresses from @bus's window; -ENOSPC. Before the bus has @d. */
int bar_place(struct pci_bus *bus, struct pci_dev *d);
/** bar_update - map and unmap as COMMAND and the BAR registers say now. */
void bar_update(struct pci_dev *d);
/** bar_unmap_all - take every BAR off the bus. */
void bar_unmap_all(struct pci_dev *d);

/** msix_update - message control may have changed: route and mask vectors accordingly. */
void msix_update(struct pci_dev *d);
/** msix_reset - power-on table, nothing pending. */
void msix_reset(struct pci_dev *d);
void msix_fini(struct pci_dev *d);
/** msix_covers - true if the access is to the table or the PBA. No lock. */
bool msix_covers(const struct pci_dev *d, unsigned bar, uint64_t off, unsigned len);
/** msix_read/msix_write - such an access; take the lock themselves. */
void msix_read(struct pci_dev *d, uint64_t off, void *data, unsigned len);
void msix_write(struct pci_dev *d, uint64_t off, const void *data, unsigned len);

#endif
