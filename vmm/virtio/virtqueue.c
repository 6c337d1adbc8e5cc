/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a split virtqueue (VIRTIO 1.2, 2.7).
 *
 *      descriptor table        available ring (driver)      used ring (device)
 *      [0] gpa len flags next  flags idx ring[size]         flags idx {id,len}[size]
 *      [1] ...                 used_event                   avail_event
 *
 * Invariants:
 *  - a descriptor is copied to the stack once and only the copy is looked at;
 *  - avail_idx - used_idx, chains in flight, never exceeds the queue's size, so callers may
 *    keep one slot a descriptor;
 *  - a chain has at most @size descriptors, which ends every loop of NEXT links;
 *  - nothing is written to guest memory once @broken is set.
 */
#include "virtio/virtqueue.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "hv/overflow.h"

#define DESC_LEN sizeof(struct vring_desc)
static_assert(DESC_LEN == 16, "VIRTIO 1.2, 2.7.5");

static uint16_t ring_load(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void ring_store(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* Full barrier between a store of ours and a load of what the driver stored. */
static void ring_fence(void)
{
#ifdef __SANITIZE_THREAD__	/* TSan knows no fences */
	static uint32_t dummy;

	__atomic_fetch_add(&dummy, 0, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* used_event and avail_event sit behind the other side's ring (2.7.6, 2.7.8). */
static const uint16_t *used_event(const struct virtqueue *vq)
{
	return &vq->avail->ring[vq->size];
}

static uint16_t *avail_event(const struct virtqueue *vq)
{
	return (uint16_t *)&vq->used->ring[vq->size];
}

static int vq_break(struct virtqueue *vq, int r)
{
	vq->broken = true;
	return r;
}

int vq_start(struct virtqueue *vq, struct gmem *mem, uint16_t size, uint64_t desc, uint64_t avail,
	     uint64_t used, uint64_t features)
{
	memset(vq, 0, sizeof(*vq));
	if (!IS_POW2(size) || size > VQ_SIZE_MAX)
		return -EINVAL;
	if (!IS_ALIGNED(desc, 16) || !IS_ALIGNED(avail, 2) || !IS_ALIGNED(used, 4))
		return -EINVAL;
	vq->mem = mem;
	vq->size = size;
	vq->event_idx = features & BIT64(VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = features & BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	vq->used_gpa = used;
	vq->kicks_on = true;
	vq->desc = gmem_ptr(mem, desc, DESC_LEN * size);
	vq->avail = gmem_ptr(mem, avail, 6 + 2 * (uint64_t)size);
	vq->used = gmem_ptr(mem, used, 6 + 8 * (uint64_t)size);
	if (!vq->desc || !vq->avail || !vq->used)
		return vq_break(vq, -EFAULT);
	return 0;
}

bool vq_has_avail(struct virtqueue *vq)
{
	if (vq->broken)
		return false;
	if (vq->avail_seen == vq->avail_idx)
		vq->avail_seen = ring_load(&vq->avail->idx);
	return vq->avail_seen != vq->avail_idx;
}

/* ---- walking a chain ----------------------------------------------------------------- */

struct vq_walk {
	const struct vring_desc *table;	/* host address, or NULL: read by @table_gpa */
	uint64_t table_gpa;
	unsigned entries;		/* of the table walked now */
	unsigned seen;			/* descriptors so far, indirect ones included */
	bool in_indirect;
};

static int walk_fetch(const struct virtqueue *vq, const struct vq_walk *w, unsigned i,
		      struct vring_desc *d)
{
	if (w->table) {
		memcpy(d, &w->table[i], DESC_LEN);
		return 0;
	}
	return gmem_read(vq->mem, w->table_gpa + i * DESC_LEN, d, DESC_LEN);
}

/* Table of @d's descriptors replaces the one being walked (2.7.5.3). */
static int walk_enter_indirect(struct virtqueue *vq, struct vq_walk *w, const struct vring_desc *d)
{
	if (!vq->indirect || w->in_indirect || d->flags & VRING_DESC_F_NEXT)
		return -EPROTO;
	if (!d->len || d->len % DESC_LEN || d->len / DESC_LEN > vq->size)
		return -EPROTO;
	w->table = gmem_ptr(vq->mem, d->addr, d->len);
	w->table_gpa = d->addr;
	w->entries = d->len / DESC_LEN;
	w->in_indirect = true;
	/* Host addresses of guest memory are page-aligned, so this is the guest's alignment. */
	if ((uintptr_t)w->table % _Alignof(struct vring_desc))
		w->table = NULL;
	return 0;
}

static int chain_add(struct vq_chain *c, bool writable, void *hva, size_t len)
{
	unsigned n = c->n_out + c->n_in;

	if (n == c->iov_max)
		return -E2BIG;
	c->iov[n] = (struct iovec){ .iov_base = hva, .iov_len = len };
	if (writable)
		c->n_in++;
	else
		c->n_out++;
	return 0;
}

/* A buffer that no single region holds: piece by piece, each up to its region's end. */
static int chain_add_split(struct virtqueue *vq, struct vq_chain *c, bool writable, uint64_t gpa,
			   uint64_t len)
{
	const struct gmem_table *t = atomic_load_explicit(&vq->mem->table, memory_order_acquire);

	for (unsigned i = 0; i < t->n && len; i++) {
		const struct gmem_region *r = &t->region[i];
		uint64_t part;
		int err;

		if (gpa < r->gpa || gpa - r->gpa >= r->size)
			continue;
		part = MIN(len, r->size - (gpa - r->gpa));
		err = chain_add(c, writable, r->hva + (gpa - r->gpa), part);
		if (err)
			return err;
		gpa += part;
		len -= part;
	}
	return len ? -EFAULT : 0;
}

static int chain_add_desc(struct virtqueue *vq, struct vq_chain *c, const struct vring_desc *d)
{
	bool writable = d->flags & VRING_DESC_F_WRITE;
	void *hva;

	if (!writable && c->n_in)
		return -EPROTO;	/* 2.7.4.2: readable ones come first */
	if (!d->len)
		return 0;
	*(writable ? &c->bytes_in : &c->bytes_out) += d->len;
	if (c->bytes_in + c->bytes_out > UINT32_MAX)
		return -EPROTO;	/* 2.7.4.2: at most 2^32 bytes in all */
	hva = gmem_ptr(vq->mem, d->addr, d->len);
	if (hva)
		return chain_add(c, writable, hva, d->len);
	return chain_add_split(vq, c, writable, d->addr, d->len);
}

static int vq_walk(struct virtqueue *vq, struct vq_chain *c)
{
	struct vq_walk w = { .table = vq->desc, .entries = vq->size };
	unsigned i = c->head;
	struct vring_desc d;
	int r;

	for (;;) {
		if (i >= w.entries || w.seen++ > vq->size)
			return -EPROTO;
		r = walk_fetch(vq, &w, i, &d);
		if (r)
			return r;
		if (d.flags & VRING_DESC_F_INDIRECT) {
			r = walk_enter_indirect(vq, &w, &d);
			if (r)
				return r;
			i = 0;
			continue;
		}
		r = chain_add_desc(vq, c, &d);
		if (r || !(d.flags & VRING_DESC_F_NEXT))
			return r;
		i = d.next;
	}
}

int vq_pop(struct virtqueue *vq, struct vq_chain *c)
{
	int r;

	if (!vq_has_avail(vq))
		return vq->broken ? -EPROTO : -EAGAIN;
	if ((uint16_t)(vq->avail_seen - vq->avail_idx) > vq->size)
		return vq_break(vq, -EPROTO);
	if ((uint16_t)(vq->avail_idx - vq->used_idx) >= vq->size)
		return vq_break(vq, -EPROTO);	/* more in flight than descriptors */
	c->head = __atomic_load_n(&vq->avail->ring[vq->avail_idx & (vq->size - 1)],
				  __ATOMIC_RELAXED);
	c->n_out = c->n_in = 0;
	c->bytes_out = c->bytes_in = 0;
	r = vq_walk(vq, c);
	if (r)
		return vq_break(vq, r);
	vq->avail_idx++;
	return 0;
}

void vq_unpop(struct virtqueue *vq)
{
	if (!vq->broken)
		vq->avail_idx--;
}

/* ---- the used ring and notifications --------------------------------------------------- */

void vq_push(struct virtqueue *vq, uint16_t head, uint32_t len)
{
	struct vring_used_elem *e;

	if (vq->broken)
		return;
	e = &vq->used->ring[vq->used_idx & (vq->size - 1)];
	e->id = head;
	e->len = len;
	gmem_done_write(vq->mem, vq->used_gpa + (uint64_t)((char *)e - (char *)vq->used),
			sizeof(*e));
	vq->used_idx++;
}

void vq_publish(struct virtqueue *vq)
{
	if (vq->broken || vq->used_published == vq->used_idx)
		return;
	ring_store(&vq->used->idx, vq->used_idx);
	gmem_done_write(vq->mem, vq->used_gpa, 4);
	vq->used_published = vq->used_idx;
}

bool vq_need_irq(struct virtqueue *vq)
{
	uint16_t old = vq->used_signalled, now = vq->used_published;

	if (vq->broken || old == now)
		return false;
	vq->used_signalled = now;
	/* The index must be visible before the driver's wish is read (2.7.7.1, 2.7.10). */
	ring_fence();
	if (!vq->event_idx)
		return !(ring_load(&vq->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return vring_need_event(ring_load(used_event(vq)), now, old);
}

void vq_kicks_off(struct virtqueue *vq)
{
	if (vq->broken || !vq->kicks_on)
		return;
	vq->kicks_on = false;
	if (vq->event_idx)
		return;	/* avail_event falls behind: one kick in 65536 chains */
	ring_store(&vq->used->flags, VRING_USED_F_NO_NOTIFY);
	gmem_done_write(vq->mem, vq->used_gpa, 4);
}

bool vq_kicks_on(struct virtqueue *vq)
{
	if (vq->broken)
		return false;
	vq->kicks_on = true;
	if (vq->event_idx) {
		ring_store(avail_event(vq), vq->avail_idx);
		gmem_done_write(vq->mem, vq->used_gpa + 4 + 8 * (uint64_t)vq->size, 2);
	} else {
		ring_store(&vq->used->flags, 0);
		gmem_done_write(vq->mem, vq->used_gpa, 4);
	}
	/* The wish must be visible before the index is looked at again. */
	ring_fence();
	return vq_has_avail(vq);
}

/* The GPA of a piece is looked up only while a dirty log is kept: chains carry host addresses. */
static void done_write_hva(struct virtqueue *vq, const uint8_t *hva, uint64_t len)
{
	const struct gmem_table *t = atomic_load_explicit(&vq->mem->table, memory_order_acquire);

	for (unsigned i = 0; i < t->n; i++) {
		const struct gmem_region *r = &t->region[i];

		if (hva >= r->hva && (uint64_t)(hva - r->hva) < r->size)
			gmem_done_write(vq->mem, r->gpa + (uint64_t)(hva - r->hva), len);
	}
}

void vq_done_write(struct virtqueue *vq, const struct iovec *iov, unsigned n, uint64_t len)
{
	if (__builtin_expect(!atomic_load_explicit(&vq->mem->dirty, memory_order_acquire), 1))
		return;
	for (unsigned i = 0; i < n && len; i++) {
		uint64_t part = MIN(len, iov[i].iov_len);

		done_write_hva(vq, iov[i].iov_base, part);
		len -= part;
	}
}
