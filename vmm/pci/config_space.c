/* SPDX-License-Identifier: MIT */
/*
 * Configuration space: type 0 headers and capability lists, by 0xCF8/0xCFC and by ECAM.
 *
 * A device's 256 bytes are an array with a mask of writable bits; BARs and MSI-X are
 * derived from the array after each write (bar_update, msix_update), never kept beside it.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/overflow.h"
#include "pci/pci_priv.h"

#define ECAM_FUNC_LEN 4096
#define COMMAND_WRITABLE \
	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)

static void config_read(struct pci_dev *d, unsigned off, void *data, unsigned len)
{
	memset(data, 0, len);
	if (!range_ok(off, len, PCI_CONFIG_LEN))
		return;
	pthread_mutex_lock(&d->lock);
	if (d->ops->config_access)
		d->ops->config_access(d, off, len, false);
	memcpy(data, d->config + off, len);
	pthread_mutex_unlock(&d->lock);
}

static bool overlaps(unsigned off, unsigned len, unsigned start, unsigned size)
{
	return off < start + size && start < off + len;
}

static void config_write(struct pci_dev *d, unsigned off, const void *data, unsigned len)
{
	const uint8_t *bytes = data;

	if (!range_ok(off, len, PCI_CONFIG_LEN))
		return;
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < len; i++) {
		uint8_t mask = d->wmask[off + i];

		d->config[off + i] = (d->config[off + i] & (uint8_t)~mask) | (bytes[i] & mask);
	}
	if (overlaps(off, len, PCI_COMMAND, 2) ||
	    overlaps(off, len, PCI_BASE_ADDRESS_0, 4 * PCI_BARS))
		bar_update(d);
	if (d->msix.n && overlaps(off, len, d->msix.cap + PCI_MSIX_FLAGS, 2))
		msix_update(d);
	if (d->ops->config_access)
		d->ops->config_access(d, off, len, true);
	pthread_mutex_unlock(&d->lock);
}

/* Function 0 of a slot on bus 0, or NULL. @bdf: bus 15:8, device 7:3, function 2:0. */
static struct pci_dev *bus_find(struct pci_bus *b, unsigned bdf)
{
	if (bdf >> 8 || bdf & 7)
		return NULL;
	return atomic_load_explicit(&b->slot[bdf >> 3 & (PCI_SLOTS - 1)], memory_order_acquire);
}

/* ---- the two ways in (vCPU threads) --------------------------------------------------- */

static bool cf8_target(struct pci_bus *b, uint64_t off, unsigned len, struct pci_dev **d,
		       unsigned *reg)
{
	uint32_t a = atomic_load_explicit(&b->config_addr, memory_order_relaxed);

	if (off < 4 || (off & 3) + len > 4 || !(a & BIT32(31)))
		return false;
	*d = bus_find(b, a >> 8 & 0xffff);
	*reg = (a & 0xfc) + (unsigned)(off & 3);
	return *d != NULL;
}

static void cf8_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct pci_bus *b = dev;
	struct pci_dev *d;
	unsigned reg;

	memset(data, 0xff, len);
	if (off == 0 && len == 4)
		store_le32(data, atomic_load_explicit(&b->config_addr, memory_order_relaxed));
	else if (cf8_target(b, off, len, &d, &reg))
		config_read(d, reg, data, len);
}

static void cf8_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pci_bus *b = dev;
	struct pci_dev *d;
	unsigned reg;

	if (off == 0 && len == 4)
		atomic_store_explicit(&b->config_addr, load_le32(data) & ~3u,
				      memory_order_relaxed);
	else if (cf8_target(b, off, len, &d, &reg))
		config_write(d, reg, data, len);
}

static const struct bus_ops cf8_ops = { .read = cf8_read, .write = cf8_write };

static void ecam_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct pci_dev *d = bus_find(dev, (unsigned)(off / ECAM_FUNC_LEN));

	memset(data, 0xff, len);
	if (d && len <= 4)
		config_read(d, off % ECAM_FUNC_LEN, data, len);
}

static void ecam_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pci_dev *d = bus_find(dev, (unsigned)(off / ECAM_FUNC_LEN));

	if (d && len <= 4)
		config_write(d, off % ECAM_FUNC_LEN, data, len);
}

static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write };

/* ---- devices --------------------------------------------------------------------------- */

int pci_dev_init(struct pci_dev *d, const struct pci_ops *ops, const struct pci_ids *ids)
{
	*d = (struct pci_dev){ .ops = ops, .cap_end = PCI_STD_HEADER_SIZEOF };
	store_le16(d->config + PCI_VENDOR_ID, ids->vendor);
	store_le16(d->config + PCI_DEVICE_ID, ids->device);
	store_le32(d->config + PCI_REVISION_ID, ids->class_code << 8 | ids->revision);
	store_le16(d->config + PCI_SUBSYSTEM_VENDOR_ID, ids->subsys_vendor);
	store_le16(d->config + PCI_SUBSYSTEM_ID, ids->subsys);
	store_le16(d->wmask + PCI_COMMAND, COMMAND_WRITABLE);
	d->wmask[PCI_CACHE_LINE_SIZE] = 0xff;
	d->wmask[PCI_INTERRUPT_LINE] = 0xff;
	return -pthread_mutex_init(&d->lock, NULL);
}

void pci_dev_fini(struct pci_dev *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->bus) {
		atomic_store(&d->bus->slot[d->slot], NULL);
		bar_unmap_all(d);
	}
	msix_fini(d);
	pthread_mutex_unlock(&d->lock);
	free(d->ioev);
	d->ioev = NULL;
	pthread_mutex_destroy(&d->lock);
}

int pci_dev_add_cap(struct pci_dev *d, uint8_t id, const void *body, const void *wmask,
		    unsigned len)
{
	unsigned off = d->cap_end;

	if (!range_ok(off, len + 2, PCI_CONFIG_LEN))
		return -ENOSPC;
	d->config[off] = id;
	memcpy(d->config + off + 2, body, len);
	if (wmask)
		memcpy(d->wmask + off + 2, wmask, len);
	d->config[d->cap_last ? d->cap_last + 1 : PCI_CAPABILITY_LIST] = (uint8_t)off;
	d->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	d->cap_last = off;
	d->cap_end = ALIGN_UP(off + len + 2, 4u);
	return (int)off;
}

/* ---- the bus --------------------------------------------------------------------------- */

int pci_bus_init(struct pci_bus *b, struct bus *pio, struct bus *mmio, struct irq *irq,
		 struct err *e)
{
	int r;

	*b = (struct pci_bus){ .pio = pio, .mmio = mmio, .irq = irq,
			       .mmio_next = LAYOUT_PCI_MMIO_BASE };
	r = bus_add(pio, PORT_PCI_ADDR, 8, &cf8_ops, b);
	if (r)
		return err_set(e, r, "PCI: ports 0xcf8..0xcff: %s", strerror(-r));
	r = bus_add(mmio, LAYOUT_ECAM_BASE, LAYOUT_ECAM_SIZE, &ecam_ops, b);
	if (r) {
		bus_del(pio, PORT_PCI_ADDR, b);
		return err_set(e, r, "PCI: ECAM range: %s", strerror(-r));
	}
	pthread_mutex_init(&b->lock, NULL);
	return 0;
}

void pci_bus_fini(struct pci_bus *b)
{
	bus_del(b->pio, PORT_PCI_ADDR, b);
	bus_del(b->mmio, LAYOUT_ECAM_BASE, b);
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		struct pci_dev *d = atomic_load(&b->slot[i]);

		if (d)
			d->ops->free(d);
	}
	pthread_mutex_destroy(&b->lock);
}

static int bus_pick_slot(struct pci_bus *b, int slot, struct err *e)
{
	if (slot != PCI_SLOT_ANY)
		return atomic_load(&b->slot[slot]) ?
			       err_set(e, -EEXIST, "PCI: slot %d is taken", slot) :
			       slot;
	for (int i = 0; i < PCI_SLOTS; i++)
		if (!atomic_load(&b->slot[i]))
			return i;
	return err_set(e, -ENOSPC, "PCI: all %d slots are taken", PCI_SLOTS);
}

int pci_bus_add(struct pci_bus *b, struct pci_dev *d, int slot, struct err *e)
{
	int r;

	assert(slot < PCI_SLOTS);
	pthread_mutex_lock(&b->lock);
	r = slot = bus_pick_slot(b, slot, e);
	if (slot < 0)
		goto out;
	r = bar_place(b, d);
	if (r) {
		err_set(e, r, "PCI: no room for BARs below 4 GiB");
		goto out;
	}
	store_le16(d->config + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	memcpy(d->power_on, d->config, sizeof(d->power_on));
	pthread_mutex_lock(&d->lock);
	d->bus = b;
	d->slot = (unsigned)slot;
	bar_update(d);
	pthread_mutex_unlock(&d->lock);
	atomic_store_explicit(&b->slot[slot], d, memory_order_release);
out:
	pthread_mutex_unlock(&b->lock);
	return r < 0 ? r : 0;
}

void pci_bus_reset(struct pci_bus *b)
{
	atomic_store(&b->config_addr, 0);
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		struct pci_dev *d = atomic_load(&b->slot[i]);

		if (!d)
			continue;
		pthread_mutex_lock(&d->lock);
		memcpy(d->config, d->power_on, sizeof(d->config));
		msix_reset(d);
		bar_update(d);
		pthread_mutex_unlock(&d->lock);
		if (d->ops->reset)
			d->ops->reset(d);
	}
}

void pci_bus_quiesce(struct pci_bus *b)
{
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		struct pci_dev *d = atomic_load(&b->slot[i]);

		if (d && d->ops->quiesce)
			d->ops->quiesce(d);
	}
}
