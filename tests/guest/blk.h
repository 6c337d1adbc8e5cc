/* SPDX-License-Identifier: MIT */
/* blk.h - virtio-blk (VIRTIO 1.2, 5.2), requests in flight on several queues. */
#ifndef GUEST_BLK_H
#define GUEST_BLK_H

#include <linux/virtio_blk.h>

#include "virtio.h"

#define SECTOR 512u
#define BLK_SLOTS_MAX 128
#define BLK_DATA_MAX (1u << 20)	/* bytes of one request */

/* A request in flight. */
struct blk_slot {
	struct virtio_blk_outhdr head;
	uint8_t status;
	bool busy;
	unsigned queue;
	uint64_t off;		/* bytes */
	uint32_t len, type;
	uint8_t *data;
};
struct blk {
	struct virtio v;
	uint64_t bytes;
	unsigned queues;
	unsigned depth;		/* slots in use, over all queues */
	uint32_t chunk;		/* bytes of one request */
	unsigned pieces;	/* data buffers of one request */
	struct blk_slot slot[BLK_SLOTS_MAX];
};

extern struct blk blk;	/* the disk that words work on */
/** blk_open - set up disk @nth with the options given so far; NULL or why not. */
const char *blk_open(unsigned nth);
/** blk_need - the disk is open: words call it first; opens disk 0. */
const char *blk_need(void);
/** blk_submit - start the request in @s; @data_in: the device writes the data. */
void blk_submit(struct blk_slot *s, unsigned queue);
/** blk_reap - one that is complete, or NULL. */
struct blk_slot *blk_reap(void);
/** blk_free_slot - a slot that is not busy, or NULL. */
struct blk_slot *blk_free_slot(void);
/** blk_one - one request from start to end; its status, or a number above 255 after a time-out. */
unsigned blk_one(uint32_t type, uint64_t off, void *data, uint32_t len);

#endif
