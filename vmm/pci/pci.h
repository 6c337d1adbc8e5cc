/* SPDX-License-Identifier: MIT */
/*
 * pci.h - one PCI root bus: configuration space, BARs, MSI-X. Knows no KVM and no virtio.
 *
 * Function 0 of up to 32 slots on bus 0, reached by ports 0xCF8/0xCFC and by ECAM. BARs are
 * placed when a device is added and decoded from the start: bare guests rely on it. There
 * are no interrupt pins: MSI-X only.
 *
 * Threads: vCPU threads come in at any time. Lock order: pci_dev.lock (configuration space,
 * BAR placement, MSI-X table), then what the device's own callbacks take, then struct irq
 * and struct bus. bar_read and bar_write run without pci_dev.lock, except through
 * config_access.
 */
#ifndef HV_VMM_PCI_H
#define HV_VMM_PCI_H

#include <pthread.h>
#include <stdatomic.h>

#include "bus.h"
#include "gmem.h"
#include "hv/base.h"
#include "hv/err.h"
#include "hv/log.h"
#include "irq.h"

#define PCI_SLOTS 32
#define PCI_BARS 6
#define PCI_CONFIG_LEN 256	/* bytes; what ECAM has beyond reads as 0 */
#define PCI_SLOT_ANY (-1)

struct pci_dev;
struct pci_bus;

struct pci_ops {
	/* @off is within the BAR and @off + @len too; MSI-X table and PBA are never passed on. */
	void (*bar_read)(struct pci_dev *d, unsigned bar, uint64_t off, void *data, unsigned len);
	void (*bar_write)(struct pci_dev *d, unsigned bar, uint64_t off, const void *data,
			  unsigned len);
	/*
	 * Optional: called under pci_dev.lock before configuration space is read (@write
	 * false) or after it was written, for capabilities that act (virtio's PCI window).
	 */
	void (*config_access)(struct pci_dev *d, unsigned off, unsigned len, bool write);
	/* Power-on state; only starts the stop of what other threads do. */
	void (*reset)(struct pci_dev *d);
	/* Optional: block until no other thread works for the device. Main thread only. */
	void (*quiesce)(struct pci_dev *d);
	/* Release the device and @d itself; it is quiet and off the bus. */
	void (*free)(struct pci_dev *d);
};

struct pci_ids {
	uint16_t vendor, device, subsys_vendor, subsys;
	uint8_t revision;
	uint32_t class_code;	/* 24 bits: base, sub, interface */
};

struct pci_bar {
	struct pci_dev *dev;
	unsigned index;
	uint64_t size;		/* bytes, a power of two; 0: not there */
	bool is_64bit;
	bool mapped;		/* on the MMIO bus at @gpa */
	uint64_t gpa;
};

/* A guest write to BAR @bar, offset @off, signals @fd. Moves with the BAR. */
struct pci_ioeventfd {
	unsigned bar;
	uint64_t off;
	int fd;			/* borrowed */
	unsigned len;		/* of the access KVM matches; 0: any */
	uint64_t gpa;		/* where it is assigned now; 0: nowhere */
};

struct msix_vector {
	struct irq_msi msi;
	uint32_t addr_lo, addr_hi, data, ctrl;	/* the table entry */
	bool routed;
};
struct msix {
	struct irq *irq;
	unsigned n;		/* vectors; 0: no MSI-X */
	unsigned cap;		/* offset of the capability */
	unsigned bar;
	uint64_t table_off, pba_off;
	struct msix_vector *vec;
	_Atomic bool enabled;	/* message control's enable bit */
};

struct pci_dev {
	const struct pci_ops *ops;
	struct pci_bus *bus;	/* NULL while not added */
	unsigned slot;
	pthread_mutex_t lock;
	struct log_ctx log;
	uint8_t config[PCI_CONFIG_LEN];
	uint8_t wmask[PCI_CONFIG_LEN];	/* bits the guest may change */
	uint8_t power_on[PCI_CONFIG_LEN];
	unsigned cap_end;	/* first free byte of configuration space */
	unsigned cap_last;	/* offset of the last capability; 0: none */
	struct pci_bar bar[PCI_BARS];
	struct msix msix;
	struct pci_ioeventfd *ioev;
	unsigned n_ioev;
};

struct pci_bus {
	struct bus *pio, *mmio;
	struct irq *irq;
	pthread_mutex_t lock;	/* adding and removing */
	_Atomic(struct pci_dev *) slot[PCI_SLOTS];
	_Atomic uint32_t config_addr;	/* port 0xCF8 */
	uint64_t mmio_next;	/* first unassigned address of the window */
};

/* ---- the bus: main thread, except what vCPU threads do through @pio and @mmio ---------- */

/** pci_bus_init - claim ports 0xCF8..0xCFF and the ECAM range; all three are borrowed. */
int pci_bus_init(struct pci_bus *b, struct bus *pio, struct bus *mmio, struct irq *irq,
		 struct err *e);
/** pci_bus_fini - free every device (quiet by now) and give the ranges back. */
void pci_bus_fini(struct pci_bus *b);
/**
 * pci_bus_add - put @d, owned by the bus from success on, into @slot (or PCI_SLOT_ANY)
 *
 * Places its BARs in the 32-bit window and enables memory decoding and bus mastering.
 * Return: 0; -ENOSPC, -EEXIST, -ENOMEM with a line in @e, and @d is still the caller's.
 */
int pci_bus_add(struct pci_bus *b, struct pci_dev *d, int slot, struct err *e);
/** pci_bus_reset - power-on state for all devices, BARs where they were; vCPUs are stopped. */
void pci_bus_reset(struct pci_bus *b);
/**
 * pci_bus_quiesce - reset all devices and wait until no I/O thread works for any
 *
 * Main thread, vCPUs stopped. Disks may be read by the synchronous calls of lib/block from
 * then on, until pci_bus_reset() readies the devices for a guest again.
 */
void pci_bus_quiesce(struct pci_bus *b);
/** pci_host_bridge_add - the bridge at 00:00.0. */
int pci_host_bridge_add(struct pci_bus *b, struct err *e);

/* ---- for device implementations, before pci_bus_add() ---------------------------------- */

int pci_dev_init(struct pci_dev *d, const struct pci_ops *ops, const struct pci_ids *ids);
/** pci_dev_fini - release what the pci_dev_* calls made; takes @d off the bus. */
void pci_dev_fini(struct pci_dev *d);
/**
 * pci_dev_add_cap - append a capability
 * @body:  what follows id and next pointer; @wmask: its writable bits, or NULL for none
 *
 * Return: offset of the capability in configuration space, or -ENOSPC.
 */
int pci_dev_add_cap(struct pci_dev *d, uint8_t id, const void *body, const void *wmask,
		    unsigned len);
/** pci_dev_add_bar - memory BAR of @size bytes (power of two, >= 4096); 64-bit takes two. */
void pci_dev_add_bar(struct pci_dev *d, unsigned index, uint64_t size, bool is_64bit);
/** pci_dev_add_msix - @n vectors, table and PBA at these offsets of @bar; 0 or -errno. */
int pci_dev_add_msix(struct pci_dev *d, struct irq *irq, unsigned bar, uint64_t table_off,
		     uint64_t pba_off, unsigned n);
/** pci_dev_add_ioeventfd - guest writes of any size at @off of @bar signal @fd; -ENOMEM. */
int pci_dev_add_ioeventfd(struct pci_dev *d, unsigned bar, uint64_t off, int fd);

/** msix_signal - raise vector @vec; false if MSI-X is off or there is no such vector. Any thread. */
bool msix_signal(struct pci_dev *d, unsigned vec);

#endif
