/* SPDX-License-Identifier: MIT */
/* console.h - virtio-console, one port (VIRTIO 1.2, 5.3). */
#ifndef HV_VMM_VIRTIO_CONSOLE_H
#define HV_VMM_VIRTIO_CONSOLE_H

#include "virtio/device.h"

struct virtio_console_cfg {
	int in_fd;	/* bytes for the guest; -1: none; dup'ed, should not block */
	int out_fd;	/* bytes from the guest; -1: dropped; dup'ed, should not block */
	uint16_t cols, rows;	/* 0: unknown */
	struct iothread *thread;
};

int virtio_console_new(const struct virtio_console_cfg *cfg, struct virtio_dev **out,
		       struct err *e);
/** virtio_console_resize - the terminal has a new size. Main thread. */
void virtio_console_resize(struct virtio_dev *d, uint16_t cols, uint16_t rows);

#endif
