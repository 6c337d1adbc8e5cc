/* SPDX-License-Identifier: MIT */
/*
 * virtio over PCI, modern devices only (VIRTIO 1.2, 4.1).
 *
 * One 32 KiB BAR holds everything, a page for each structure, so that nothing shares a page
 * with the kicks that KVM takes for us:
 *
 *   0x0000 common   0x1000 isr   0x2000 device   0x3000 notify (4 bytes a queue)
 *   0x4000 MSI-X table           0x6000 pending bits
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/bytes.h"
#include "hv/overflow.h"
#include "pci/pci.h"
#include "virtio/device.h"

#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE_BASE 0x1040	/* 4.1.2.1: plus the device ID */
#define VIRTIO_PCI_SUBSYS 0x1100	/* 4.1.2.1: 0x40 or more */

#define BAR_INDEX 0
#define BAR_LEN KIB(32)
#define PART_LEN 0x1000
#define COMMON_OFF 0x0000
#define ISR_OFF 0x1000
#define DEVICE_OFF 0x2000
#define NOTIFY_OFF 0x3000
#define MSIX_TABLE_OFF 0x4000
#define MSIX_PBA_OFF 0x6000
#define NOTIFY_MULTIPLIER 4
#define ISR_QUEUE 1
#define ISR_CONFIG 2

static_assert(VIRTIO_QUEUES_MAX * NOTIFY_MULTIPLIER <= PART_LEN, "notify area");

struct virtio_pci {
	struct pci_dev pci;
	struct virtio_dev *vdev;
	unsigned window;	/* offset of VIRTIO_PCI_CAP_PCI_CFG in configuration space */
	/* What the driver selects; vCPUs that race here only confuse themselves. */
	_Atomic uint32_t dev_feat_sel, drv_feat_sel;
	_Atomic uint16_t queue_sel;
	_Atomic uint16_t config_vector;
	_Atomic uint16_t queue_vector[VIRTIO_QUEUES_MAX];
	_Atomic uint8_t isr;
};

/* ---- interrupts (any thread, no lock) --------------------------------------------------- */

static void vp_irq(struct virtio_pci *p, uint16_t vector, uint8_t isr)
{
	if (!msix_signal(&p->pci, vector))
		atomic_fetch_or(&p->isr, isr);
}

static void vp_queue_irq(void *ctx, unsigned queue)
{
	struct virtio_pci *p = ctx;

	vp_irq(p, atomic_load_explicit(&p->queue_vector[queue], memory_order_relaxed), ISR_QUEUE);
}

static void vp_config_irq(void *ctx)
{
	struct virtio_pci *p = ctx;

	vp_irq(p, atomic_load_explicit(&p->config_vector, memory_order_relaxed), ISR_CONFIG);
}

static const struct virtio_transport_ops vp_transport = {
	.queue_irq = vp_queue_irq,
	.config_irq = vp_config_irq,
};

/* ---- the common configuration structure, 4.1.4.3 ------------------------------------------ */

static uint32_t queue_read(struct virtio_pci *p, unsigned off)
{
	unsigned i = p->queue_sel;
	struct virtio_queue *q;
	uint32_t v = 0;

	if (i >= p->vdev->n_queues)
		return 0;	/* 4.1.4.3.1: size 0 says it is not there */
	q = &p->vdev->queue[i];
	pthread_mutex_lock(&p->vdev->lock);
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE: v = q->size; break;
	case VIRTIO_PCI_COMMON_Q_MSIX: v = p->queue_vector[i]; break;
	case VIRTIO_PCI_COMMON_Q_ENABLE: v = q->enabled; break;
	case VIRTIO_PCI_COMMON_Q_NOFF: v = i; break;
	case VIRTIO_PCI_COMMON_Q_DESCLO: v = (uint32_t)q->desc; break;
	case VIRTIO_PCI_COMMON_Q_DESCHI: v = (uint32_t)(q->desc >> 32); break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO: v = (uint32_t)q->avail; break;
	case VIRTIO_PCI_COMMON_Q_AVAILHI: v = (uint32_t)(q->avail >> 32); break;
	case VIRTIO_PCI_COMMON_Q_USEDLO: v = (uint32_t)q->used; break;
	case VIRTIO_PCI_COMMON_Q_USEDHI: v = (uint32_t)(q->used >> 32); break;
	}
	pthread_mutex_unlock(&p->vdev->lock);
	return v;
}

static uint32_t common_read(struct virtio_pci *p, unsigned off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT: return p->dev_feat_sel;
	case VIRTIO_PCI_COMMON_DF: return vdev_features(p->vdev, p->dev_feat_sel);
	case VIRTIO_PCI_COMMON_GFSELECT: return p->drv_feat_sel;
	case VIRTIO_PCI_COMMON_GF: return vdev_driver_features(p->vdev, p->drv_feat_sel);
	case VIRTIO_PCI_COMMON_MSIX: return p->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ: return p->vdev->n_queues;
	case VIRTIO_PCI_COMMON_STATUS: return vdev_status(p->vdev);
	case VIRTIO_PCI_COMMON_CFGGENERATION: return vdev_generation(p->vdev);
	case VIRTIO_PCI_COMMON_Q_SELECT: return p->queue_sel;
	default: return queue_read(p, off);
	}
}

static void set_lo(uint64_t *v, uint32_t lo)
{
	*v = (*v & ~(uint64_t)UINT32_MAX) | lo;
}

static void set_hi(uint64_t *v, uint32_t hi)
{
	*v = (uint32_t)*v | (uint64_t)hi << 32;
}

static void queue_set_size(struct virtio_pci *p, struct virtio_queue *q, uint32_t size)
{
	if (IS_POW2(size) && size <= q->size_max)
		q->size = (uint16_t)size;
	else
		p->vdev->guest_errors++;
}

static void queue_write(struct virtio_pci *p, unsigned off, uint32_t v)
{
	struct virtio_queue *q = vdev_queue_lock(p->vdev, p->queue_sel);

	if (!q)
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE: queue_set_size(p, q, v); break;
	case VIRTIO_PCI_COMMON_Q_ENABLE: q->enabled |= v == 1; break;	/* 4.1.4.3.2: never 0 */
	case VIRTIO_PCI_COMMON_Q_DESCLO: set_lo(&q->desc, v); break;
	case VIRTIO_PCI_COMMON_Q_DESCHI: set_hi(&q->desc, v); break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO: set_lo(&q->avail, v); break;
	case VIRTIO_PCI_COMMON_Q_AVAILHI: set_hi(&q->avail, v); break;
	case VIRTIO_PCI_COMMON_Q_USEDLO: set_lo(&q->used, v); break;
	case VIRTIO_PCI_COMMON_Q_USEDHI: set_hi(&q->used, v); break;
	}
	vdev_queue_unlock(p->vdev);
}

/* 4.1.5.1.2: a vector that is not there reads back as NO_VECTOR. */
static uint16_t vector_or_none(const struct virtio_pci *p, uint32_t v)
{
	return v < p->pci.msix.n ? (uint16_t)v : VIRTIO_MSI_NO_VECTOR;
}

static void vectors_reset(struct virtio_pci *p)
{
	p->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		p->queue_vector[i] = VIRTIO_MSI_NO_VECTOR;
	atomic_store(&p->isr, 0);
	p->queue_sel = 0;
}

static void status_write(struct virtio_pci *p, uint8_t status)
{
	if (!status)
		vectors_reset(p);
	vdev_set_status(p->vdev, status);
}

static void common_write(struct virtio_pci *p, unsigned off, uint32_t v)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT: p->dev_feat_sel = v; break;
	case VIRTIO_PCI_COMMON_GFSELECT: p->drv_feat_sel = v; break;
	case VIRTIO_PCI_COMMON_GF: vdev_set_features(p->vdev, p->drv_feat_sel, v); break;
	case VIRTIO_PCI_COMMON_MSIX: p->config_vector = vector_or_none(p, v); break;
	case VIRTIO_PCI_COMMON_STATUS: status_write(p, (uint8_t)v); break;
	case VIRTIO_PCI_COMMON_Q_SELECT: p->queue_sel = (uint16_t)v; break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		if (p->queue_sel < p->vdev->n_queues)
			p->queue_vector[p->queue_sel] = vector_or_none(p, v);
		break;
	default: queue_write(p, off, v); break;
	}
}

/*
 * Fields are read and written as wide as they are (4.1.3.1). 64-bit ones come as two dwords;
 * a qword access is taken as both.
 */
static unsigned common_width(unsigned off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION: return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
	case VIRTIO_PCI_COMMON_Q_NOFF: return 2;
	default: return off < VIRTIO_PCI_COMMON_Q_NDATA && off % 4 == 0 ? 4 : 0;
	}
}

static bool common_is_qword(unsigned off, unsigned len)
{
	return len == 8 && off % 8 == 0 && off >= VIRTIO_PCI_COMMON_Q_DESCLO &&
	       off <= VIRTIO_PCI_COMMON_Q_USEDLO;
}

/* ---- the BAR ---------------------------------------------------------------------------- */

static void vp_bar_read(struct pci_dev *d, unsigned bar, uint64_t off, void *data, unsigned len)
{
	struct virtio_pci *p = container_of(d, struct virtio_pci, pci);
	unsigned at = (unsigned)off % PART_LEN;

	memset(data, 0, len);
	switch (off - at) {
	case COMMON_OFF:
		if (common_is_qword(at, len))
			store_le64(data, common_read(p, at) |
						 (uint64_t)common_read(p, at + 4) << 32);
		else if (common_width(at) == len)
			store_le(data, common_read(p, at), len);
		else
			log_guest(&p->vdev->log, "common configuration: read of 0x%x/%u", at, len);
		break;
	case ISR_OFF:	/* 4.1.4.5: reading clears */
		if (at == 0)
			store_le(data, atomic_exchange(&p->isr, 0), len);
		break;
	case DEVICE_OFF: vdev_config_read(p->vdev, at, data, len); break;
	}
}

static void notify_write(struct virtio_pci *p, unsigned at)
{
	static const uint64_t one = 1;
	unsigned i = at / NOTIFY_MULTIPLIER;

	/* A full counter is a kick already. */
	if (i < p->vdev->n_queues && write(p->vdev->queue[i].kick_fd, &one, sizeof(one)) < 0)
		return;
}

static void vp_bar_write(struct pci_dev *d, unsigned bar, uint64_t off, const void *data,
			 unsigned len)
{
	struct virtio_pci *p = container_of(d, struct virtio_pci, pci);
	unsigned at = (unsigned)off % PART_LEN;

	switch (off - at) {
	case COMMON_OFF:
		if (common_is_qword(at, len)) {
			common_write(p, at, load_le32(data));
			common_write(p, at + 4, load_le32((const uint8_t *)data + 4));
		} else if (common_width(at) == len) {
			common_write(p, at, (uint32_t)load_le(data, len));
		} else {
			log_guest(&p->vdev->log, "common configuration: write of 0x%x/%u", at, len);
		}
		break;
	case DEVICE_OFF: vdev_config_write(p->vdev, at, data, len); break;
	case NOTIFY_OFF: notify_write(p, at); break;
	}
}

/* ---- VIRTIO_PCI_CAP_PCI_CFG: the BAR through configuration space, 4.1.4.9 -------------------- */

static void vp_config_access(struct pci_dev *d, unsigned off, unsigned len, bool write)
{
	struct virtio_pci *p = container_of(d, struct virtio_pci, pci);
	uint8_t *cap = d->config + p->window;
	uint8_t *data = cap + sizeof(struct virtio_pci_cap);
	uint32_t at = load_le32(cap + VIRTIO_PCI_CAP_OFFSET);
	uint32_t n = load_le32(cap + VIRTIO_PCI_CAP_LENGTH);

	if (!p->window || off >= p->window + sizeof(struct virtio_pci_cfg_cap) ||
	    off + len <= p->window + sizeof(struct virtio_pci_cap))
		return;
	if ((n != 1 && n != 2 && n != 4) || at % n || cap[VIRTIO_PCI_CAP_BAR] != BAR_INDEX ||
	    !range_ok(at, n, MSIX_TABLE_OFF))
		return;
	if (write)
		vp_bar_write(d, BAR_INDEX, at, data, n);
	else
		vp_bar_read(d, BAR_INDEX, at, data, n);
}

static void vp_reset(struct pci_dev *d)
{
	struct virtio_pci *p = container_of(d, struct virtio_pci, pci);

	vectors_reset(p);
	p->dev_feat_sel = p->drv_feat_sel = 0;
	vdev_reset(p->vdev);
	vdev_unpark(p->vdev);
}

static void vp_quiesce(struct pci_dev *d)
{
	vdev_quiesce(container_of(d, struct virtio_pci, pci)->vdev);
}

static void vp_free(struct pci_dev *d)
{
	struct virtio_pci *p = container_of(d, struct virtio_pci, pci);

	pci_dev_fini(d);	/* before the kick fds go */
	vdev_free(p->vdev);
	free(p);
}

static const struct pci_ops vp_ops = {
	.bar_read = vp_bar_read,
	.bar_write = vp_bar_write,
	.config_access = vp_config_access,
	.reset = vp_reset,
	.quiesce = vp_quiesce,
	.free = vp_free,
};

/* ---- making one -------------------------------------------------------------------------- */

static int add_virtio_cap(struct virtio_pci *p, uint8_t type, uint32_t off, uint32_t len,
			  uint32_t extra, unsigned extra_len, const struct virtio_pci_cfg_cap *wmask)
{
	struct virtio_pci_notify_cap c = {
		.cap = { .cap_len = (uint8_t)(sizeof(c.cap) + extra_len), .cfg_type = type,
			 .bar = BAR_INDEX, .offset = htole32(off), .length = htole32(len) },
		.notify_off_multiplier = htole32(extra),
	};

	return pci_dev_add_cap(&p->pci, PCI_CAP_ID_VNDR, &c.cap.cap_len,
			       wmask ? &wmask->cap.cap_len : NULL,
			       (unsigned)(sizeof(c.cap) - 2 + extra_len));
}

static int add_caps(struct virtio_pci *p)
{
	static const struct virtio_pci_cfg_cap window_wmask = {
		.cap = { .bar = 0xff, .offset = UINT32_MAX, .length = UINT32_MAX },
		.pci_cfg_data = { 0xff, 0xff, 0xff, 0xff },
	};
	unsigned n = p->vdev->n_queues, config_len = p->vdev->ops->config_len;
	int r = add_virtio_cap(p, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFF,
			       sizeof(struct virtio_pci_common_cfg), 0, 0, NULL);

	if (r >= 0)
		r = add_virtio_cap(p, VIRTIO_PCI_CAP_ISR_CFG, ISR_OFF, 1, 0, 0, NULL);
	if (r >= 0 && config_len)
		r = add_virtio_cap(p, VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFF, config_len, 0, 0,
				   NULL);
	if (r >= 0)
		r = add_virtio_cap(p, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFF,
				   n * NOTIFY_MULTIPLIER, NOTIFY_MULTIPLIER, 4, NULL);
	if (r >= 0)
		r = add_virtio_cap(p, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, 4, &window_wmask);
	if (r < 0)
		return r;
	p->window = (unsigned)r;
	return 0;
}

static int add_parts(struct virtio_pci *p, struct irq *irq)
{
	int r = add_caps(p);

	if (r)
		return r;
	pci_dev_add_bar(&p->pci, BAR_INDEX, BAR_LEN, true);
	/* A vector a queue and one for configuration changes. */
	r = pci_dev_add_msix(&p->pci, irq, BAR_INDEX, MSIX_TABLE_OFF, MSIX_PBA_OFF,
			     p->vdev->n_queues + 1);
	for (unsigned i = 0; !r && i < p->vdev->n_queues; i++)
		r = pci_dev_add_ioeventfd(&p->pci, BAR_INDEX, NOTIFY_OFF + i * NOTIFY_MULTIPLIER,
					  p->vdev->queue[i].kick_fd);
	return r;
}

int virtio_pci_add(struct pci_bus *bus, struct virtio_dev *d, struct gmem *mem, struct irq *irq,
		   struct err *e)
{
	struct pci_ids ids = { .vendor = VIRTIO_PCI_VENDOR,
			       .device = (uint16_t)(VIRTIO_PCI_DEVICE_BASE + d->ops->device_id),
			       .subsys_vendor = VIRTIO_PCI_VENDOR, .subsys = VIRTIO_PCI_SUBSYS,
			       .revision = 1, .class_code = d->ops->class_code };
	struct virtio_pci *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "%s: out of memory", d->ops->name);
	pci_dev_init(&p->pci, &vp_ops, &ids);
	p->pci.log.vm = d->log.vm;
	p->pci.log.dev = d->ops->name;
	p->vdev = d;
	vectors_reset(p);
	r = add_parts(p, irq);
	if (r) {
		err_set(e, r, "%s: %s", d->ops->name, strerror(-r));
		goto out;
	}
	d->mem = mem;
	d->transport = &vp_transport;
	d->transport_ctx = p;
	r = pci_bus_add(bus, &p->pci, PCI_SLOT_ANY, e);
	if (!r)
		return 0;
	d->transport = NULL;
out:
	pci_dev_fini(&p->pci);
	free(p);
	return r;
}
