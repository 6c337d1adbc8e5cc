/* SPDX-License-Identifier: MIT */
/*
 * vmachine.h - a machine without KVM or a guest: buses, memory, a PCI bus, interrupts and
 * kicks recorded, and a driver for virtio-pci devices that the test itself plays.
 */
#ifndef HV_TESTS_VMACHINE_H
#define HV_TESTS_VMACHINE_H

#include <linux/virtio_ring.h>

#include "gmem.h"
#include "io/iothread.h"
#include "pci/pci.h"
#include "virtio/device.h"

#define VM_RAM_LEN MIB(8)
#define VM_IOEV_MAX 64
#define VM_FD_MAX 4096

struct vm_ioeventfd {
	uint64_t gpa;
	int fd;
};
struct vmachine {
	struct bus pio, mmio;
	struct irq irq;
	struct gmem gmem;
	struct pci_bus pci;
	uint8_t *ram;		/* at GPA 0 */
	uint64_t ram_next;	/* simple allocator for the driver */
	/* The recorder: what a KVM would know. */
	pthread_mutex_t lock;
	size_t n_routes;
	struct irq_route routes[IRQ_MSI_MAX];
	int gsi_fd[GSI_MSI_BASE + IRQ_MSI_MAX];	/* irqfd by GSI, -1: none */
	unsigned n_ioev;
	struct vm_ioeventfd ioev[VM_IOEV_MAX];
};

void vm_init(struct vmachine *m);
void vm_fini(struct vmachine *m);
/** vm_alloc - GPA of @len zeroed bytes, aligned to @align. */
uint64_t vm_alloc(struct vmachine *m, uint64_t len, uint64_t align);
static inline void *vm_ptr(struct vmachine *m, uint64_t gpa)
{
	return m->ram + gpa;
}

/* Configuration space through ECAM, and MMIO as a vCPU would. */
uint64_t vm_cfg_read(struct vmachine *m, unsigned slot, unsigned reg, unsigned len);
void vm_cfg_write(struct vmachine *m, unsigned slot, unsigned reg, uint64_t v, unsigned len);
uint64_t vm_mmio_read(struct vmachine *m, uint64_t gpa, unsigned len);
void vm_mmio_write(struct vmachine *m, uint64_t gpa, uint64_t v, unsigned len);
/** vm_irq_count - interrupts that vector fds of @data value have collected; clears them. */
uint64_t vm_irq_take(struct vmachine *m, uint32_t data);

/* ---- driver ---- */

#define DRV_QUEUES_MAX 8
struct drv_queue {
	uint16_t size, avail_idx, used_seen;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint64_t kick_gpa;
	int kick_fd;		/* the ioeventfd behind kick_gpa, -1: none */
	uint16_t next_desc;	/* descriptors are taken round robin */
	bool event_idx;
};
struct drv {
	struct vmachine *m;
	unsigned slot;
	uint64_t common, notify, device;	/* GPAs of the structures */
	uint32_t notify_mult;
	unsigned msix_cap;
	uint64_t msix_table;
	unsigned n_queues;
	struct drv_queue q[DRV_QUEUES_MAX];
	uint64_t features;
};
struct drv_buf {
	uint64_t gpa;
	uint32_t len;
	bool write;	/* by the device */
};

/** drv_find - read the capabilities of the device in @slot. */
void drv_find(struct drv *d, struct vmachine *m, unsigned slot);
/** drv_negotiate - reset, ACKNOWLEDGE … FEATURES_OK with what is both offered and wanted. */
bool drv_negotiate(struct drv *d, uint64_t want);
/** drv_setup_queues - all queues, MSI-X vector i (data 100 + i) for queue i, 99 for config. */
void drv_setup_queues(struct drv *d, unsigned n, uint16_t size);
void drv_ok(struct drv *d);
/** drv_start - all three. */
void drv_start(struct drv *d, uint64_t want, unsigned n_queues, uint16_t size);
uint8_t drv_status(struct drv *d);
/** drv_reset - write 0 and wait until 0 is read; false after five seconds. */
bool drv_reset(struct drv *d);
/** drv_add - one chain; not yet announced. Returns its head. */
uint16_t drv_add(struct drv *d, unsigned qi, const struct drv_buf *b, unsigned n);
/** drv_add_indirect - the same by an indirect table at @table. */
uint16_t drv_add_indirect(struct drv *d, unsigned qi, uint64_t table, const struct drv_buf *b,
			  unsigned n);
/** drv_publish - make added chains available and kick if the device wants it. */
void drv_publish(struct drv *d, unsigned qi);
/** drv_poll - next used element, without waiting. */
bool drv_poll(struct drv *d, unsigned qi, struct vring_used_elem *out);
/** drv_wait - the same, waiting up to five seconds. */
bool drv_wait(struct drv *d, unsigned qi, struct vring_used_elem *out);

#endif
