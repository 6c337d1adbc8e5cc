/* SPDX-License-Identifier: MIT */
/*
 * Epochs. Why enter() looks twice: between reading the epoch and being counted in it the
 * metadata thread may have moved on, without having seen us. All accesses are sequentially
 * consistent: the count must be seen before the second look, and that is a store-load order.
 */
#include "epoch.h"

unsigned epoch_enter(const struct epoch *e, struct epoch_slot *s)
{
	for (;;) {
		uint64_t now = atomic_load(&e->now);
		unsigned ticket = now & 1;

		atomic_fetch_add(&s->inside[ticket], 1);
		if (atomic_load(&e->now) == now)
			return ticket;
		atomic_fetch_sub(&s->inside[ticket], 1);
	}
}

void epoch_leave(struct epoch_slot *s, unsigned ticket)
{
	atomic_fetch_sub(&s->inside[ticket], 1);
}

uint64_t epoch_now(const struct epoch *e)
{
	return atomic_load(&e->now);
}

static bool epoch_empty(const struct epoch_slot *slots, unsigned ticket)
{
	for (; slots; slots = slots->next)
		if (atomic_load(&slots->inside[ticket]))
			return false;
	return true;
}

void epoch_advance(struct epoch *e, const struct epoch_slot *slots)
{
	for (int i = 0; i < 2; i++) {
		uint64_t now = atomic_load(&e->now);

		if (!epoch_empty(slots, (now + 1) & 1))
			return;
		atomic_store(&e->now, now + 1);
	}
}

bool epoch_passed(const struct epoch *e, uint64_t tag)
{
	return atomic_load(&e->now) >= tag + 2;
}
