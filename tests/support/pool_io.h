/* SPDX-License-Identifier: MIT */
/* pool_io.h - an I/O thread's stand-in for tests: transfers by a few threads, in any order. */
#ifndef HV_POOL_IO_H
#define HV_POOL_IO_H

#include <pthread.h>

#include "hv/block.h"

/* One per queue. Completions and wakes are taken in by pool_io_poll() on the queue's thread. */
struct pool_io {
	pthread_mutex_t lock;
	pthread_cond_t work, news;
	struct blk_io *todo, *done;
	bool woken, stop;
	unsigned threads;
	pthread_t thread[4];
	unsigned delay_us;   /* at most, at random, before a transfer */
	struct blk_queue *q; /* set by the test after blk_queue_open() */
};

extern const struct blk_io_ops pool_io_ops;

int pool_io_start(struct pool_io *p, unsigned threads);
void pool_io_stop(struct pool_io *p);
/** pool_io_poll - hand over what has ended; @wait: sleep until there is something. */
void pool_io_poll(struct pool_io *p, bool wait);

#endif
