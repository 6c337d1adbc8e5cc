/* SPDX-License-Identifier: MIT */
/*
 * Address decoding. The table is sorted and immutable; a change builds a new one and
 * publishes it. Old tables are chained and freed at the end: changes are rare (a guest
 * moving BARs), and a reader may be in the middle of one, for as long as the host likes to
 * suspend its thread. A guest that moves BARs for ever is refused at BUS_RETIRED_MAX.
 */
#include "bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/overflow.h"

#define BUS_RETIRED_MAX 4096

struct bus_range {
	uint64_t base, size;
	const struct bus_ops *ops;
	void *dev;
};
struct bus_table {
	struct bus_table *next;	/* retired list */
	size_t n;
	struct bus_range range[];
};

static struct bus_table *bus_table_new(size_t n)
{
	struct bus_table *t = calloc(1, sizeof(*t) + n * sizeof(t->range[0]));

	if (t)
		t->n = n;
	return t;
}

int bus_init(struct bus *b)
{
	struct bus_table *t = bus_table_new(0);

	if (!t)
		return -ENOMEM;
	*b = (struct bus){ .table = NULL };
	pthread_mutex_init(&b->lock, NULL);
	atomic_store(&b->table, t);
	return 0;
}

void bus_fini(struct bus *b)
{
	struct bus_table *t = atomic_exchange(&b->table, NULL);

	if (!t)
		return;
	free(t);
	while ((t = b->retired)) {
		b->retired = t->next;
		free(t);
	}
	pthread_mutex_destroy(&b->lock);
}

/* Caller holds the lock. */
static void bus_publish(struct bus *b, struct bus_table *t)
{
	struct bus_table *old = atomic_exchange_explicit(&b->table, t, memory_order_acq_rel);

	old->next = b->retired;
	b->retired = old;
	b->n_retired++;
}

static int bus_insert(struct bus *b, const struct bus_range *add)
{
	const struct bus_table *old = atomic_load(&b->table);
	struct bus_table *t;
	size_t at = 0;

	if (b->n_retired >= BUS_RETIRED_MAX)
		return -ENOSPC;
	while (at < old->n && old->range[at].base < add->base)
		at++;
	if (at < old->n && old->range[at].base - add->base < add->size)
		return -EEXIST;
	if (at && add->base - old->range[at - 1].base < old->range[at - 1].size)
		return -EEXIST;
	t = bus_table_new(old->n + 1);
	if (!t)
		return -ENOMEM;
	memcpy(t->range, old->range, at * sizeof(t->range[0]));
	t->range[at] = *add;
	memcpy(&t->range[at + 1], &old->range[at], (old->n - at) * sizeof(t->range[0]));
	bus_publish(b, t);
	return 0;
}

int bus_add(struct bus *b, uint64_t base, uint64_t size, const struct bus_ops *ops, void *dev)
{
	struct bus_range add = { .base = base, .size = size, .ops = ops, .dev = dev };
	uint64_t end;
	int r;

	if (!size || !add_u64(base, size, &end))
		return -ERANGE;
	pthread_mutex_lock(&b->lock);
	r = bus_insert(b, &add);
	pthread_mutex_unlock(&b->lock);
	return r;
}

void bus_del(struct bus *b, uint64_t base, const void *dev)
{
	const struct bus_table *old;
	struct bus_table *t;
	size_t at = 0;

	pthread_mutex_lock(&b->lock);
	old = atomic_load(&b->table);
	while (at < old->n && !(old->range[at].base == base && old->range[at].dev == dev))
		at++;
	t = at < old->n ? bus_table_new(old->n - 1) : NULL;
	if (t) {
		memcpy(t->range, old->range, at * sizeof(t->range[0]));
		memcpy(&t->range[at], &old->range[at + 1], (t->n - at) * sizeof(t->range[0]));
		bus_publish(b, t);
	}
	pthread_mutex_unlock(&b->lock);
}

static const struct bus_range *bus_find(struct bus *b, uint64_t addr, unsigned len)
{
	const struct bus_table *t = atomic_load_explicit(&b->table, memory_order_acquire);
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->range[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || !range_ok(addr - t->range[lo - 1].base, len, t->range[lo - 1].size))
		return NULL;
	return &t->range[lo - 1];
}

void bus_read(struct bus *b, uint64_t addr, void *data, unsigned len)
{
	const struct bus_range *r = bus_find(b, addr, len);

	memset(data, 0xff, len);
	if (r)
		r->ops->read(r->dev, addr - r->base, data, len);
	else
		atomic_fetch_add_explicit(&b->unclaimed, 1, memory_order_relaxed);
}

void bus_write(struct bus *b, uint64_t addr, const void *data, unsigned len)
{
	const struct bus_range *r = bus_find(b, addr, len);

	if (r)
		r->ops->write(r->dev, addr - r->base, data, len);
	else
		atomic_fetch_add_explicit(&b->unclaimed, 1, memory_order_relaxed);
}
