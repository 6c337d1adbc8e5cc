/* SPDX-License-Identifier: MIT */
/* Discovery, negotiation and split virtqueues (VIRTIO 1.2, 2.7, 3.1, 4.1). */
#include "virtio.h"

#define VIRTIO_VENDOR 0x1af4
#define MODERN_BASE 0x1040
#define VQ_INDIRECT_MAX 16

static bool is_type(const struct pci_fn *f, unsigned type)
{
	if (f->vendor != VIRTIO_VENDOR)
		return false;
	if (f->device >= MODERN_BASE)
		return f->device == MODERN_BASE + type;
	return pci_read(f, PCI_SUBSYSTEM_ID, 2) == type;	/* transitional */
}

static volatile void *area(const struct pci_fn *f, unsigned cap)
{
	uint64_t bar = pci_bar(f, pci_read(f, cap + offsetof(struct virtio_pci_cap, bar), 1));

	return (volatile void *)(bar + pci_read(f, cap + offsetof(struct virtio_pci_cap, offset), 4));
}

const char *virtio_find(struct virtio *d, unsigned type, unsigned nth)
{
	unsigned cap;

	*d = (struct virtio){ 0 };
	if (!pci_nth(&d->pci, is_type, type, nth))
		return why("no virtio device of type %u", type);
	pci_enable(&d->pci);
	for (unsigned i = 0; (cap = pci_cap(&d->pci, PCI_CAP_ID_VNDR, i)); i++) {
		switch (pci_read(&d->pci, cap + offsetof(struct virtio_pci_cap, cfg_type), 1)) {
		case VIRTIO_PCI_CAP_COMMON_CFG: d->common = area(&d->pci, cap); break;
		case VIRTIO_PCI_CAP_DEVICE_CFG: d->config = area(&d->pci, cap); break;
		case VIRTIO_PCI_CAP_ISR_CFG: d->isr = area(&d->pci, cap); break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			d->notify = area(&d->pci, cap);
			d->notify_multiplier = pci_read(&d->pci, cap + sizeof(struct virtio_pci_cap), 4);
			break;
		}
	}
	return d->common && d->notify ? NULL : "virtio capabilities are missing";
}

uint64_t virtio_features(struct virtio *d)
{
	uint64_t f;

	d->common->device_feature_select = 0;
	f = d->common->device_feature;
	d->common->device_feature_select = 1;
	return f | (uint64_t)d->common->device_feature << 32;
}

const char *virtio_reset(struct virtio *d)
{
	uint64_t end = deadline_ms(PATIENCE_MS);

	d->common->device_status = 0;
	while (d->common->device_status)
		if (expired(end))
			return "the device does not finish its reset";
	return NULL;
}

const char *virtio_negotiate(struct virtio *d, uint64_t want)
{
	const char *bad = virtio_reset(d);
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	if (bad)
		return bad;
	d->common->device_status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
	d->common->device_status = status;
	d->features = virtio_features(d) & (want | BIT64(VIRTIO_F_VERSION_1));
	d->common->guest_feature_select = 0;
	d->common->guest_feature = (uint32_t)d->features;
	d->common->guest_feature_select = 1;
	d->common->guest_feature = (uint32_t)(d->features >> 32);
	d->common->device_status = status | VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(d->common->device_status & VIRTIO_CONFIG_S_FEATURES_OK))
		return why("features 0x%lx are not accepted", d->features);
	return NULL;
}

void virtio_ready(struct virtio *d)
{
	d->common->device_status |= VIRTIO_CONFIG_S_DRIVER_OK;
}

static void set64(volatile uint32_t *lo, volatile uint32_t *hi, const void *p)
{
	*lo = (uint32_t)(uintptr_t)p;
	*hi = (uint32_t)((uintptr_t)p >> 32);
}

static void queue_memory(struct virtio *d, struct vq *q)
{
	q->desc = heap_alloc(q->size * sizeof(struct vring_desc), 4096);
	q->avail = heap_alloc(6 + 2u * q->size, 64);
	q->used = heap_alloc(6 + 8u * q->size, 64);
	if (virtio_has(d, VIRTIO_RING_F_INDIRECT_DESC))
		q->indirect = heap_alloc((size_t)q->size * VQ_INDIRECT_MAX * sizeof(struct vring_desc), 64);
	for (uint16_t i = 0; i < q->size; i++)
		q->desc[i].next = (uint16_t)(i + 1);
	q->n_free = q->size;
	q->event_idx = virtio_has(d, VIRTIO_RING_F_EVENT_IDX);
}

const char *virtio_queue(struct virtio *d, unsigned i, uint16_t size, uint16_t vector)
{
	struct vq *q = &d->q[i];

	*q = (struct vq){ .index = (uint16_t)i };
	d->common->queue_select = (uint16_t)i;
	q->size = MIN(MIN(size, VQ_SIZE_MAX), d->common->queue_size);
	if (!q->size)
		return why("there is no queue %u", i);
	queue_memory(d, q);
	d->common->queue_size = q->size;
	d->common->queue_msix_vector = vector;
	if (d->common->queue_msix_vector != vector)
		return why("queue %u does not take vector %u", i, vector);
	set64(&d->common->queue_desc_lo, &d->common->queue_desc_hi, q->desc);
	set64(&d->common->queue_avail_lo, &d->common->queue_avail_hi, q->avail);
	set64(&d->common->queue_used_lo, &d->common->queue_used_hi, q->used);
	q->notify = (volatile uint16_t *)(d->notify + d->common->queue_notify_off * d->notify_multiplier);
	if (vector == VIRTIO_MSI_NO_VECTOR)
		q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	d->common->queue_enable = 1;
	return d->common->queue_enable == 1 ? NULL : why("queue %u cannot be enabled", i);
}

/* ---- rings -------------------------------------------------------------------------------------- */

static void fill_desc(struct vring_desc *d, const struct vq_buf *b, bool in, bool more)
{
	d->addr = (uintptr_t)b->p;
	d->len = b->len;
	d->flags = (uint16_t)((in ? VRING_DESC_F_WRITE : 0) | (more ? VRING_DESC_F_NEXT : 0));
}

static void add_indirect(struct vq *q, const struct vq_buf *buf, unsigned out, unsigned n)
{
	struct vring_desc *head = &q->desc[q->free_head];
	struct vring_desc *t = q->indirect + (size_t)q->free_head * VQ_INDIRECT_MAX;
	struct vq_buf table = { t, (uint32_t)(n * sizeof(*t)) };

	for (unsigned i = 0; i < n; i++) {
		fill_desc(&t[i], &buf[i], i >= out, i + 1 < n);
		t[i].next = (uint16_t)(i + 1);
	}
	fill_desc(head, &table, false, false);
	head->flags = VRING_DESC_F_INDIRECT;
	q->free_head = head->next;
	q->n_free--;
}

static void add_direct(struct vq *q, const struct vq_buf *buf, unsigned out, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct vring_desc *d = &q->desc[q->free_head];

		fill_desc(d, &buf[i], i >= out, i + 1 < n);
		q->free_head = d->next;
	}
	q->n_free = (uint16_t)(q->n_free - n);
}

bool vq_add(struct vq *q, const struct vq_buf *buf, unsigned out, unsigned in, void *token)
{
	unsigned n = out + in;
	uint16_t head = q->free_head;
	bool indirect = q->indirect && n > 1 && n <= VQ_INDIRECT_MAX;

	if (q->n_free < (indirect ? 1 : n))
		return false;
	if (indirect)
		add_indirect(q, buf, out, n);
	else
		add_direct(q, buf, out, n);
	q->token[head] = token;
	q->avail->ring[q->avail_idx++ % q->size] = head;
	return true;
}

void vq_kick(struct vq *q)
{
	uint16_t old = q->kicked_idx, now = q->avail_idx;
	bool need;

	barrier();
	__atomic_store_n(&q->avail->idx, now, __ATOMIC_RELEASE);
	full_barrier();
	q->kicked_idx = now;
	if (q->event_idx) {
		uint16_t event = *(volatile uint16_t *)((uint8_t *)q->used->ring + 8u * q->size);

		need = (uint16_t)(now - event - 1) < (uint16_t)(now - old);
	} else {
		need = !(*(volatile uint16_t *)&q->used->flags & VRING_USED_F_NO_NOTIFY);
	}
	if (need && now != old)
		mmio_write16(q->notify, q->index);
}

static void free_chain(struct vq *q, uint16_t head)
{
	uint16_t last = head;
	unsigned n = 1;

	while (q->desc[last].flags & VRING_DESC_F_NEXT) {
		last = q->desc[last].next;
		n++;
	}
	q->desc[last].next = q->free_head;
	q->free_head = head;
	q->n_free = (uint16_t)(q->n_free + n);
}

void *vq_take(struct vq *q, uint32_t *len)
{
	const struct vring_used_elem *u;
	uint16_t head;

	if (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) == q->used_idx)
		return NULL;
	u = &q->used->ring[q->used_idx % q->size];
	head = (uint16_t)u->id;
	if (head >= q->size || !q->token[head]) {
		say("FAIL: queue %u: used entry %u is nobody's\n", q->index, u->id);
		power_off();
	}
	if (len)
		*len = u->len;
	q->used_idx++;
	if (q->event_idx && !(q->avail->flags & VRING_AVAIL_F_NO_INTERRUPT))
		q->avail->ring[q->size] = q->used_idx;
	free_chain(q, head);
	void *token = q->token[head];

	q->token[head] = NULL;
	return token;
}

void *vq_wait(struct vq *q, uint32_t *len)
{
	uint64_t end = deadline_ms(PATIENCE_MS);
	void *token;

	while (!(token = vq_take(q, len)))
		if (expired(end))
			return NULL;
	return token;
}
