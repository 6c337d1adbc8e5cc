/* SPDX-License-Identifier: MIT */
/* virtio.h - a virtio 1.x driver over PCI (VIRTIO 1.2, 4.1), split queues, polled. */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "pci.h"

#define VIRTIO_QUEUES 34
#define VQ_SIZE_MAX 256

struct vq_buf {
	void *p;
	uint32_t len;
};
struct vq {
	uint16_t index, size;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct vring_desc *indirect;	/* VQ_INDIRECT_MAX a descriptor, or NULL */
	volatile uint16_t *notify;
	bool event_idx;
	uint16_t free_head, n_free, avail_idx, kicked_idx, used_idx;
	void *token[VQ_SIZE_MAX];
};
struct virtio {
	struct pci_fn pci;
	volatile struct virtio_pci_common_cfg *common;
	volatile uint8_t *config, *notify, *isr;
	uint32_t notify_multiplier;
	uint64_t features;
	struct vq q[VIRTIO_QUEUES];
};

/** virtio_find - the @nth device of @type (VIRTIO_ID_…); NULL or why not. */
const char *virtio_find(struct virtio *d, unsigned type, unsigned nth);
/** virtio_features - what the device offers. */
uint64_t virtio_features(struct virtio *d);
/** virtio_negotiate - reset, ACKNOWLEDGE, DRIVER, those of @want that are offered, FEATURES_OK. */
const char *virtio_negotiate(struct virtio *d, uint64_t want);
/** virtio_queue - set queue @i up, @size at most; @vector VIRTIO_MSI_NO_VECTOR for none. */
const char *virtio_queue(struct virtio *d, unsigned i, uint16_t size, uint16_t vector);
void virtio_ready(struct virtio *d);
const char *virtio_reset(struct virtio *d);

/** vq_add - a chain: @out readable buffers, then @in writable ones; false if it does not fit. */
bool vq_add(struct vq *q, const struct vq_buf *buf, unsigned out, unsigned in, void *token);
void vq_kick(struct vq *q);
/** vq_take - the token of a used chain, its length in *@len; NULL if there is none. */
void *vq_take(struct vq *q, uint32_t *len);
/** vq_wait - the same, with patience. */
void *vq_wait(struct vq *q, uint32_t *len);

static inline bool virtio_has(const struct virtio *d, unsigned bit)
{
	return d->features >> bit & 1;
}

#endif
