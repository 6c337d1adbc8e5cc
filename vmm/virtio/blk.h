/* SPDX-License-Identifier: MIT */
/* blk.h - virtio-blk (VIRTIO 1.2, 5.2) over lib/block. */
#ifndef HV_VMM_VIRTIO_BLK_H
#define HV_VMM_VIRTIO_BLK_H

#include "hv/block.h"
#include "virtio/device.h"

#define VIRTIO_BLK_QUEUES_MAX 64

struct virtio_blk_cfg {
	struct blk *blk;	/* borrowed: outlives the device; the caller closes it after */
	unsigned queues;	/* 0: 1 */
	struct iothread *const *threads; /* queue i on threads[i % n_threads] */
	unsigned n_threads;
	const char *serial;	/* NULL: none; the first 20 bytes count; copied */
	bool discard;		/* offer DISCARD (write zeroes is always offered) */
	bool writethrough;	/* start with the write cache off */
};

int virtio_blk_new(const struct virtio_blk_cfg *cfg, struct virtio_dev **out, struct err *e);

#endif
