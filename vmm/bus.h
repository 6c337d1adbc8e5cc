/* SPDX-License-Identifier: MIT */
/*
 * bus.h - address decoding for port and memory-mapped I/O.
 *
 * Lookups run on vCPU threads without a lock: the range table is replaced atomically.
 * Changes (BAR moves, hot-plug) are serialised by the bus's own mutex; the table that a
 * reader may still hold is kept until bus_fini().
 */
#ifndef HV_VMM_BUS_H
#define HV_VMM_BUS_H

#include <pthread.h>
#include <stdatomic.h>

#include "hv/base.h"
#include "hv/err.h"

/* PIO and MMIO; len is 1, 2, 4 or 8; @off is relative to the range's base. vCPU threads. */
struct bus_ops {
	void (*read)(void *dev, uint64_t off, void *data, unsigned len);
	void (*write)(void *dev, uint64_t off, const void *data, unsigned len);
};

struct bus_table;
struct bus {
	_Atomic(struct bus_table *) table;
	struct bus_table *retired;
	size_t n_retired;
	pthread_mutex_t lock;
	_Atomic uint64_t unclaimed;	/* accesses nobody answered */
};

int bus_init(struct bus *b);
void bus_fini(struct bus *b);
/** bus_add - claim [@base, @base+@size); -EEXIST on overlap, -ERANGE, -ENOMEM, -ENOSPC
 *  after thousands of changes. Any thread. */
int bus_add(struct bus *b, uint64_t base, uint64_t size, const struct bus_ops *ops, void *dev);
/** bus_del - release the range that starts at @base and belongs to @dev. */
void bus_del(struct bus *b, uint64_t base, const void *dev);
/** bus_read - fill @data; all ones where nobody answers. An access must lie in one range. */
void bus_read(struct bus *b, uint64_t addr, void *data, unsigned len);
/** bus_write - deliver @data; dropped and counted where nobody answers. */
void bus_write(struct bus *b, uint64_t addr, const void *data, unsigned len);

#endif
