/* SPDX-License-Identifier: MIT */
/* rng.h - virtio-rng (VIRTIO 1.2, 5.4). */
#ifndef HV_VMM_VIRTIO_RNG_H
#define HV_VMM_VIRTIO_RNG_H

#include "virtio/device.h"

struct virtio_rng_cfg {
	int fd;		/* /dev/urandom or the like, opened by the launcher; dup'ed */
	struct iothread *thread;
};

int virtio_rng_new(const struct virtio_rng_cfg *cfg, struct virtio_dev **out, struct err *e);

#endif
