/* SPDX-License-Identifier: MIT */
/*
 * virtqueue.h - the device's side of a split virtqueue (VIRTIO 1.2, 2.7).
 *
 * One thread at a time. The driver is hostile: descriptors are copied once and the copies
 * checked; any violation sets @broken, after which nothing is popped or published until
 * the queue is started anew.
 */
#ifndef HV_VMM_VIRTQUEUE_H
#define HV_VMM_VIRTQUEUE_H

#include <sys/uio.h>

#include "gmem.h"
#include "hv/base.h"

#define VQ_SIZE_MAX 1024	/* no device of ours offers larger queues */
#define VQ_IOV_MAX 1024		/* iovecs of one chain (IOV_MAX) */

struct vring_desc;
struct vring_avail;
struct vring_used;

/* One request: @iov, in the caller's storage, has n_out readable, then n_in writable pieces. */
struct vq_chain {
	struct iovec *iov;	/* set by the caller before vq_pop() */
	unsigned iov_max;	/* likewise: room in @iov */
	unsigned n_out, n_in;
	uint64_t bytes_out, bytes_in;
	uint16_t head;		/* what vq_push() wants */
};

struct virtqueue {
	struct gmem *mem;
	uint16_t size;
	bool event_idx;		/* VIRTIO_F_EVENT_IDX negotiated */
	bool indirect;		/* VIRTIO_F_INDIRECT_DESC negotiated */
	bool broken;
	const struct vring_desc *desc;	/* HVAs, cached by vq_start() */
	struct vring_avail *avail;
	struct vring_used *used;
	uint64_t used_gpa;
	uint16_t avail_idx;	/* next entry of the available ring to look at */
	uint16_t avail_seen;	/* the driver's index as last read */
	uint16_t used_idx;	/* next entry of the used ring to fill */
	uint16_t used_published;
	uint16_t used_signalled;	/* used index at the last interrupt decision */
	bool kicks_on;
};

/**
 * vq_start - take a queue over from the driver
 * @desc, @avail, @used: GPAs; each ring lies in one RAM region and is aligned (2.7)
 *
 * Return: 0, -EINVAL (size, alignment) or -EFAULT.
 */
int vq_start(struct virtqueue *vq, struct gmem *mem, uint16_t size, uint64_t desc, uint64_t avail,
	     uint64_t used, uint64_t features);
/** vq_has_avail - true if vq_pop() would find a chain (or an error). */
bool vq_has_avail(struct virtqueue *vq);
/**
 * vq_pop - take the next chain
 *
 * Return: 0; -EAGAIN if there is none; else the queue is now broken: -EPROTO (loop, index
 * out of range, wrong flags, writable before readable, more in flight than the queue has),
 * -EFAULT (not RAM), -E2BIG (more pieces than iov_max).
 */
int vq_pop(struct virtqueue *vq, struct vq_chain *c);
/** vq_unpop - put the chain popped last back; it was not touched. */
void vq_unpop(struct virtqueue *vq);
/** vq_push - hand a chain back; @len bytes of its writable part were written. Not yet visible. */
void vq_push(struct virtqueue *vq, uint16_t head, uint32_t len);
/** vq_publish - make pushed chains visible to the driver. */
void vq_publish(struct virtqueue *vq);
/** vq_need_irq - after vq_publish(): does the driver want an interrupt for what is new? */
bool vq_need_irq(struct virtqueue *vq);
/** vq_kicks_off - tell the driver that kicks are not needed. */
void vq_kicks_off(struct virtqueue *vq);
/** vq_kicks_on - ask for a kick; true if chains came in meanwhile (look again). */
bool vq_kicks_on(struct virtqueue *vq);
/** vq_done_write - the first @len bytes at @iov (pieces of a chain) were written: dirty log. */
void vq_done_write(struct virtqueue *vq, const struct iovec *iov, unsigned n, uint64_t len);
/** vq_iov_cut_front - drop the first @len bytes of the *@n entries at *@iov, in place. */
static inline void vq_iov_cut_front(struct iovec **iov, unsigned *n, size_t len)
{
	while (*n && len >= (*iov)->iov_len) {
		len -= (*iov)->iov_len;
		++*iov;
		--*n;
	}
	if (*n) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + len;
		(*iov)->iov_len -= len;
	}
}

#endif
