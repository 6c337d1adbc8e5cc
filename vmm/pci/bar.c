/* SPDX-License-Identifier: MIT */
/*
 * BARs: placed below 4 GiB before entry, moved when the guest rewrites them, and the
 * ioeventfds in them moved along.
 *
 * Sizing needs no state: the address bits below a BAR's size are not writable, so all ones
 * read back as the size mask (PCI 3.0, 6.2.5.1). A BAR is decoded if COMMAND says so and its
 * address is one that a guest may use; anything else, the all-ones of sizing too, is nowhere.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/overflow.h"
#include "pci/pci_priv.h"

static unsigned bar_reg(const struct pci_bar *bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar->index;
}

void pci_dev_add_bar(struct pci_dev *d, unsigned index, uint64_t size, bool is_64bit)
{
	struct pci_bar *bar = &d->bar[index];
	uint64_t mask = ~(size - 1);

	assert(index + is_64bit < PCI_BARS && !bar->size);
	assert(IS_POW2(size) && size >= 4096 && size <= GIB(1));
	*bar = (struct pci_bar){ .dev = d, .index = index, .size = size, .is_64bit = is_64bit };
	store_le32(d->wmask + bar_reg(bar), (uint32_t)mask);
	d->config[bar_reg(bar)] = PCI_BASE_ADDRESS_SPACE_MEMORY;
	if (is_64bit) {
		store_le32(d->wmask + bar_reg(bar) + 4, (uint32_t)(mask >> 32));
		d->config[bar_reg(bar)] |= PCI_BASE_ADDRESS_MEM_TYPE_64;
	}
}

int bar_place(struct pci_bus *bus, struct pci_dev *d)
{
	uint64_t at = bus->mmio_next;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &d->bar[i];

		if (!bar->size)
			continue;
		at = ALIGN_UP(at, bar->size);
		if (!range_ok(at - LAYOUT_PCI_MMIO_BASE, bar->size, LAYOUT_PCI_MMIO_SIZE))
			return -ENOSPC;
		store_le32(d->config + bar_reg(bar),
			   (uint32_t)at | (d->config[bar_reg(bar)] & 0xf));
		at += bar->size;
	}
	bus->mmio_next = at;
	return 0;
}

/* ---- accesses (vCPU threads, no lock) --------------------------------------------------- */

static void bar_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct pci_bar *bar = dev;

	if (msix_covers(bar->dev, bar->index, off, len))
		msix_read(bar->dev, off, data, len);
	else
		bar->dev->ops->bar_read(bar->dev, bar->index, off, data, len);
}

static void bar_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pci_bar *bar = dev;

	if (msix_covers(bar->dev, bar->index, off, len))
		msix_write(bar->dev, off, data, len);
	else
		bar->dev->ops->bar_write(bar->dev, bar->index, off, data, len);
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

/* ---- moving ------------------------------------------------------------------------------ */

int pci_dev_add_ioeventfd(struct pci_dev *d, unsigned bar, uint64_t off, int fd)
{
	struct pci_ioeventfd *v = reallocarray(d->ioev, d->n_ioev + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	d->ioev = v;
	v[d->n_ioev++] = (struct pci_ioeventfd){ .bar = bar, .off = off, .fd = fd };
	return 0;
}

/* Without one, the write exits to bar_write(), which does the same more slowly. */
static void ioeventfd_assign(struct pci_bar *bar, struct pci_ioeventfd *v)
{
	struct irq *irq = bar->dev->bus->irq;
	uint64_t gpa = bar->gpa + v->off;

	v->len = 0;
	if (irq_ioeventfd(irq, gpa, v->len, false, v->fd, true)) {
		v->len = 2;	/* what VIRTIO 1.2, 4.1.5.2 has drivers write */
		if (irq_ioeventfd(irq, gpa, v->len, false, v->fd, true))
			return;
	}
	v->gpa = gpa;
}

static void bar_unmap(struct pci_bar *bar)
{
	struct pci_dev *d = bar->dev;

	if (!bar->mapped)
		return;
	for (unsigned i = 0; i < d->n_ioev; i++) {
		struct pci_ioeventfd *v = &d->ioev[i];

		if (v->bar != bar->index || !v->gpa)
			continue;
		irq_ioeventfd(d->bus->irq, v->gpa, v->len, false, v->fd, false);
		v->gpa = 0;
	}
	bus_del(d->bus->mmio, bar->gpa, bar);
	bar->mapped = false;
}

static void bar_map(struct pci_bar *bar, uint64_t gpa)
{
	struct pci_dev *d = bar->dev;
	int r = bus_add(d->bus->mmio, gpa, bar->size, &bar_ops, bar);

	if (r) {
		log_guest(&d->log, "BAR %u cannot be at 0x%llx", bar->index,
			  (unsigned long long)gpa);
		return;
	}
	bar->gpa = gpa;
	bar->mapped = true;
	for (unsigned i = 0; i < d->n_ioev; i++)
		if (d->ioev[i].bar == bar->index)
			ioeventfd_assign(bar, &d->ioev[i]);
}

/* Where the registers put @bar; 0 if nowhere. */
static uint64_t bar_wanted(const struct pci_bar *bar)
{
	const uint8_t *c = bar->dev->config;
	uint64_t gpa = load_le32(c + bar_reg(bar)) & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK;

	if (!(load_le16(c + PCI_COMMAND) & PCI_COMMAND_MEMORY))
		return 0;
	if (bar->is_64bit)
		gpa |= (uint64_t)load_le32(c + bar_reg(bar) + 4) << 32;
	if (gpa < GIB(4))
		return gpa >= LAYOUT_PCI_MMIO_BASE &&
				       range_ok(gpa - LAYOUT_PCI_MMIO_BASE, bar->size,
						LAYOUT_PCI_MMIO_SIZE) ?
			       gpa :
			       0;
	return gpa < BIT64(52) ? gpa : 0;	/* as far as any CPU's physical address reaches */
}

void bar_update(struct pci_dev *d)
{
	if (!d->bus)
		return;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &d->bar[i];
		uint64_t want;

		if (!bar->size)
			continue;
		want = bar_wanted(bar);
		if (bar->mapped && want == bar->gpa)
			continue;
		bar_unmap(bar);
		if (want)
			bar_map(bar, want);
	}
}

void bar_unmap_all(struct pci_dev *d)
{
	for (unsigned i = 0; i < PCI_BARS; i++)
		bar_unmap(&d->bar[i]);
}
