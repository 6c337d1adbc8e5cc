/* SPDX-License-Identifier: MIT */
/*
 * blkio.h - lib/block's transfers on an I/O thread (struct blk_io_ops).
 *
 * Cached data moves without io_uring at all: preadv2/pwritev2 with RWF_NOWAIT. What would
 * block goes to the ring; without a ring the thread blocks.
 */
#ifndef HV_VMM_IO_BLKIO_H
#define HV_VMM_IO_BLKIO_H

#include "hv/block.h"
#include "hv/err.h"
#include "io/iothread.h"

struct blkio;

/** blkio_new - register @b's files with @t's ring; both are borrowed. Main thread. */
int blkio_new(struct iothread *t, struct blk *b, struct blkio **out, struct err *e);
/** blkio_free - the queue is closed. Main thread. NULL is allowed. */
void blkio_free(struct blkio *io);
/** blkio_open - open a queue of the image for the thread. Main thread. */
int blkio_open(struct blkio *io, struct err *e);
/** blkio_close - close it; nothing is in flight. Main thread; idempotent. */
void blkio_close(struct blkio *io);
/** blkio_queue - what blk_submit() wants; NULL while closed. */
struct blk_queue *blkio_queue(const struct blkio *io);

#endif
