/* SPDX-License-Identifier: MIT */
#include "vmachine.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hv/bytes.h"

/* ---- the recorder --------------------------------------------------------------------------- */

static int rec_set_routes(void *ctx, const struct irq_route *routes, size_t n)
{
	struct vmachine *m = ctx;

	pthread_mutex_lock(&m->lock);
	memcpy(m->routes, routes, n * sizeof(*routes));
	m->n_routes = n;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int rec_irqfd(void *ctx, int fd, unsigned gsi, bool assign)
{
	struct vmachine *m = ctx;

	pthread_mutex_lock(&m->lock);
	m->gsi_fd[gsi] = assign ? fd : -1;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int rec_ioeventfd(void *ctx, uint64_t addr, unsigned len, bool pio, int fd, bool assign)
{
	struct vmachine *m = ctx;
	int r = -ENOENT;

	pthread_mutex_lock(&m->lock);
	if (assign) {
		assert(m->n_ioev < VM_IOEV_MAX);
		m->ioev[m->n_ioev++] = (struct vm_ioeventfd){ .gpa = addr, .fd = fd };
		r = 0;
	}
	for (unsigned i = 0; !assign && i < m->n_ioev; i++) {
		if (m->ioev[i].gpa == addr && m->ioev[i].fd == fd) {
			m->ioev[i] = m->ioev[--m->n_ioev];
			r = 0;
		}
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static const struct irq_backend recorder = {
	.set_routes = rec_set_routes,
	.irqfd = rec_irqfd,
	.ioeventfd = rec_ioeventfd,
};

void vm_init(struct vmachine *m)
{
	struct err e = { 0 };
	int r;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	memset(m->gsi_fd, 0xff, sizeof(m->gsi_fd));
	m->ram = aligned_alloc(4096, VM_RAM_LEN);
	memset(m->ram, 0, VM_RAM_LEN);
	m->ram_next = 0x1000;
	r = gmem_init_flat(&m->gmem, 0, m->ram, VM_RAM_LEN);
	r = r ? r : bus_init(&m->pio);
	r = r ? r : bus_init(&m->mmio);
	r = r ? r : irq_init(&m->irq, &recorder, m, &e);
	r = r ? r : pci_bus_init(&m->pci, &m->pio, &m->mmio, &m->irq, &e);
	r = r ? r : pci_host_bridge_add(&m->pci, &e);
	assert(!r);
}

void vm_fini(struct vmachine *m)
{
	pci_bus_fini(&m->pci);
	irq_fini(&m->irq);
	bus_fini(&m->pio);
	bus_fini(&m->mmio);
	gmem_fini(&m->gmem);
	free(m->ram);
	pthread_mutex_destroy(&m->lock);
}

uint64_t vm_alloc(struct vmachine *m, uint64_t len, uint64_t align)
{
	uint64_t gpa = ALIGN_UP(m->ram_next, align);

	m->ram_next = gpa + len;
	assert(m->ram_next <= VM_RAM_LEN);
	memset(m->ram + gpa, 0, len);
	return gpa;
}

static uint64_t ecam_gpa(unsigned slot, unsigned reg)
{
	return LAYOUT_ECAM_BASE + ((uint64_t)slot << 15) + reg;
}

uint64_t vm_mmio_read(struct vmachine *m, uint64_t gpa, unsigned len)
{
	uint8_t b[8] = { 0 };

	bus_read(&m->mmio, gpa, b, len);
	return load_le(b, len);
}

void vm_mmio_write(struct vmachine *m, uint64_t gpa, uint64_t v, unsigned len)
{
	uint8_t b[8];

	store_le(b, v, 8);
	bus_write(&m->mmio, gpa, b, len);
}

uint64_t vm_cfg_read(struct vmachine *m, unsigned slot, unsigned reg, unsigned len)
{
	return vm_mmio_read(m, ecam_gpa(slot, reg), len);
}

void vm_cfg_write(struct vmachine *m, unsigned slot, unsigned reg, uint64_t v, unsigned len)
{
	vm_mmio_write(m, ecam_gpa(slot, reg), v, len);
}

uint64_t vm_irq_take(struct vmachine *m, uint32_t data)
{
	uint64_t n = 0;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->n_routes; i++) {
		int fd = m->gsi_fd[m->routes[i].gsi];

		if (m->routes[i].data != data || fd < 0)
			continue;
		if (read(fd, &n, sizeof(n)) < 0)
			n = 0;
		break;
	}
	pthread_mutex_unlock(&m->lock);
	return n;
}

/* ---- driver: finding and negotiating ------------------------------------------------------------ */

static uint64_t bar_gpa(struct drv *d, unsigned bar)
{
	unsigned reg = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t lo = vm_cfg_read(d->m, d->slot, reg, 4);
	uint64_t hi = lo & PCI_BASE_ADDRESS_MEM_TYPE_64 ? vm_cfg_read(d->m, d->slot, reg + 4, 4) : 0;

	return hi << 32 | (lo & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK);
}

static void take_virtio_cap(struct drv *d, unsigned cap)
{
	unsigned type = (unsigned)vm_cfg_read(d->m, d->slot, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1);
	unsigned bar = (unsigned)vm_cfg_read(d->m, d->slot, cap + VIRTIO_PCI_CAP_BAR, 1);
	uint64_t gpa = bar_gpa(d, bar) +
		       vm_cfg_read(d->m, d->slot, cap + VIRTIO_PCI_CAP_OFFSET, 4);

	if (type == VIRTIO_PCI_CAP_COMMON_CFG)
		d->common = gpa;
	else if (type == VIRTIO_PCI_CAP_DEVICE_CFG)
		d->device = gpa;
	else if (type == VIRTIO_PCI_CAP_NOTIFY_CFG) {
		d->notify = gpa;
		d->notify_mult = (uint32_t)vm_cfg_read(d->m, d->slot,
						       cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
	}
}

void drv_find(struct drv *d, struct vmachine *m, unsigned slot)
{
	*d = (struct drv){ .m = m, .slot = slot };
	for (unsigned cap = (unsigned)vm_cfg_read(m, slot, PCI_CAPABILITY_LIST, 1); cap;
	     cap = (unsigned)vm_cfg_read(m, slot, cap + 1, 1)) {
		unsigned id = (unsigned)vm_cfg_read(m, slot, cap, 1);

		if (id == PCI_CAP_ID_VNDR)
			take_virtio_cap(d, cap);
		else if (id == PCI_CAP_ID_MSIX) {
			uint64_t t = vm_cfg_read(m, slot, cap + PCI_MSIX_TABLE, 4);

			d->msix_cap = cap;
			d->msix_table = bar_gpa(d, t & 7) + (t & ~7u);
		}
	}
}

static uint64_t common_get(struct drv *d, unsigned off, unsigned len)
{
	return vm_mmio_read(d->m, d->common + off, len);
}

static void common_set(struct drv *d, unsigned off, uint64_t v, unsigned len)
{
	vm_mmio_write(d->m, d->common + off, v, len);
}

uint8_t drv_status(struct drv *d)
{
	return (uint8_t)common_get(d, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void add_status(struct drv *d, uint8_t bits)
{
	common_set(d, VIRTIO_PCI_COMMON_STATUS, drv_status(d) | bits, 1);
}

bool drv_reset(struct drv *d)
{
	common_set(d, VIRTIO_PCI_COMMON_STATUS, 0, 1);
	for (unsigned i = 0; i < 50000 && drv_status(d); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	return drv_status(d) == 0;
}

bool drv_negotiate(struct drv *d, uint64_t want)
{
	uint64_t offered = 0;

	if (!drv_reset(d))
		return false;
	add_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(d, VIRTIO_CONFIG_S_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		common_set(d, VIRTIO_PCI_COMMON_DFSELECT, i, 4);
		offered |= common_get(d, VIRTIO_PCI_COMMON_DF, 4) << (32 * i);
	}
	d->features = offered & want;
	for (unsigned i = 0; i < 2; i++) {
		common_set(d, VIRTIO_PCI_COMMON_GFSELECT, i, 4);
		common_set(d, VIRTIO_PCI_COMMON_GF, d->features >> (32 * i) & UINT32_MAX, 4);
	}
	add_status(d, VIRTIO_CONFIG_S_FEATURES_OK);
	return drv_status(d) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void set_vector(struct drv *d, unsigned vec, uint32_t data)
{
	uint64_t entry = d->msix_table + (uint64_t)vec * PCI_MSIX_ENTRY_SIZE;

	vm_mmio_write(d->m, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 0xfee00000, 4);
	vm_mmio_write(d->m, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0, 4);
	vm_mmio_write(d->m, entry + PCI_MSIX_ENTRY_DATA, data, 4);
	vm_mmio_write(d->m, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0, 4);
}

static int find_ioeventfd(struct vmachine *m, uint64_t gpa)
{
	for (unsigned i = 0; i < m->n_ioev; i++)
		if (m->ioev[i].gpa == gpa)
			return m->ioev[i].fd;
	return -1;
}

static void setup_queue(struct drv *d, unsigned i, uint16_t size)
{
	struct drv_queue *q = &d->q[i];
	uint64_t desc, avail, used;

	*q = (struct drv_queue){ .size = size,
				 .event_idx = d->features & BIT64(VIRTIO_RING_F_EVENT_IDX) };
	desc = vm_alloc(d->m, 16ull * size, 16);
	avail = vm_alloc(d->m, 6 + 2ull * size, 64);
	used = vm_alloc(d->m, 6 + 8ull * size, 64);
	q->desc = vm_ptr(d->m, desc);
	q->avail = vm_ptr(d->m, avail);
	q->used = vm_ptr(d->m, used);
	common_set(d, VIRTIO_PCI_COMMON_Q_SELECT, i, 2);
	common_set(d, VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
	common_set(d, VIRTIO_PCI_COMMON_Q_MSIX, i + 1, 2);
	common_set(d, VIRTIO_PCI_COMMON_Q_DESCLO, desc, 8);
	common_set(d, VIRTIO_PCI_COMMON_Q_AVAILLO, avail, 8);
	common_set(d, VIRTIO_PCI_COMMON_Q_USEDLO, used, 4);
	common_set(d, VIRTIO_PCI_COMMON_Q_USEDHI, 0, 4);
	q->kick_gpa = d->notify + common_get(d, VIRTIO_PCI_COMMON_Q_NOFF, 2) * d->notify_mult;
	q->kick_fd = find_ioeventfd(d->m, q->kick_gpa);
	common_set(d, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

void drv_setup_queues(struct drv *d, unsigned n, uint16_t size)
{
	assert(n <= DRV_QUEUES_MAX);
	d->n_queues = n;
	set_vector(d, 0, 99);
	for (unsigned i = 0; i < n; i++)
		set_vector(d, i + 1, 100 + i);
	vm_cfg_write(d->m, d->slot, d->msix_cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	common_set(d, VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (unsigned i = 0; i < n; i++)
		setup_queue(d, i, size);
}

void drv_ok(struct drv *d)
{
	add_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

void drv_start(struct drv *d, uint64_t want, unsigned n_queues, uint16_t size)
{
	bool ok = drv_negotiate(d, want | BIT64(VIRTIO_F_VERSION_1));

	assert(ok);
	drv_setup_queues(d, n_queues, size);
	drv_ok(d);
}

/* ---- driver: rings -------------------------------------------------------------------------------- */

static void announce(struct drv_queue *q, uint16_t head)
{
	q->avail->ring[q->avail_idx++ % q->size] = head;
}

uint16_t drv_add(struct drv *d, unsigned qi, const struct drv_buf *b, unsigned n)
{
	struct drv_queue *q = &d->q[qi];
	uint16_t head = q->next_desc % q->size;

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = q->next_desc++ % q->size;

		q->desc[at] = (struct vring_desc){
			.addr = b[i].gpa, .len = b[i].len,
			.flags = (b[i].write ? VRING_DESC_F_WRITE : 0) |
				 (i + 1 < n ? VRING_DESC_F_NEXT : 0),
			.next = q->next_desc % q->size };
	}
	announce(q, head);
	return head;
}

uint16_t drv_add_indirect(struct drv *d, unsigned qi, uint64_t table, const struct drv_buf *b,
			  unsigned n)
{
	struct drv_queue *q = &d->q[qi];
	struct vring_desc *t = vm_ptr(d->m, table);
	uint16_t head = q->next_desc++ % q->size;

	for (unsigned i = 0; i < n; i++)
		t[i] = (struct vring_desc){
			.addr = b[i].gpa, .len = b[i].len,
			.flags = (b[i].write ? VRING_DESC_F_WRITE : 0) |
				 (i + 1 < n ? VRING_DESC_F_NEXT : 0),
			.next = (uint16_t)(i + 1) };
	q->desc[head] = (struct vring_desc){ .addr = table, .len = n * 16,
					     .flags = VRING_DESC_F_INDIRECT };
	announce(q, head);
	return head;
}

static bool wants_kick(const struct drv_queue *q, uint16_t old)
{
	const uint16_t *avail_event = (const uint16_t *)&q->used->ring[q->size];

	__atomic_fetch_add((uint16_t *)&q->avail->flags, 0, __ATOMIC_SEQ_CST);
	if (q->event_idx)
		return vring_need_event(__atomic_load_n(avail_event, __ATOMIC_ACQUIRE),
					q->avail_idx, old);
	return !(__atomic_load_n(&q->used->flags, __ATOMIC_ACQUIRE) & VRING_USED_F_NO_NOTIFY);
}

void drv_publish(struct drv *d, unsigned qi)
{
	struct drv_queue *q = &d->q[qi];
	uint16_t old = q->avail->idx;
	static const uint64_t one = 1;

	__atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
	if (!wants_kick(q, old))
		return;
	if (q->kick_fd < 0)
		vm_mmio_write(d->m, q->kick_gpa, qi, 2);
	else if (write(q->kick_fd, &one, sizeof(one)) < 0)
		abort();
}

bool drv_poll(struct drv *d, unsigned qi, struct vring_used_elem *out)
{
	struct drv_queue *q = &d->q[qi];

	if (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) == q->used_seen)
		return false;
	*out = q->used->ring[q->used_seen++ % q->size];
	if (q->event_idx)	/* ask for an interrupt for the next one */
		__atomic_store_n(&q->avail->ring[q->size], q->used_seen, __ATOMIC_RELEASE);
	return true;
}

bool drv_wait(struct drv *d, unsigned qi, struct vring_used_elem *out)
{
	for (unsigned i = 0; i < 100000; i++) {
		if (drv_poll(d, qi, out))
			return true;
		nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
	}
	return false;
}
