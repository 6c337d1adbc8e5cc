/* SPDX-License-Identifier: MIT */
/*
 * epoch.h - who may still be looking at what the metadata thread has dropped.
 *
 * A request enters the current epoch before it looks a mapping up and leaves when its
 * transfers have ended. The metadata thread moves the epoch on only when nobody is left in
 * the one before, so at most two epochs are populated. What was unlinked while the epoch
 * was N is out of everybody's sight once the epoch is N + 2.
 */
#ifndef HV_BLOCK_EPOCH_H
#define HV_BLOCK_EPOCH_H

#include <stdatomic.h>

#include "hv/base.h"

struct epoch {
	_Atomic uint64_t now;
};

/* One per queue, written by its thread alone. */
struct epoch_slot {
	_Atomic uint32_t inside[2]; /* by the epoch's lowest bit */
	struct epoch_slot *next;    /* list of the metadata owner */
} HV_CACHELINE;

/** epoch_enter - pin; returns the ticket for epoch_leave(). Queue's thread. */
unsigned epoch_enter(const struct epoch *e, struct epoch_slot *s);
void epoch_leave(struct epoch_slot *s, unsigned ticket);
/** epoch_now - the tag for something that has just been unlinked. Metadata thread. */
uint64_t epoch_now(const struct epoch *e);
/** epoch_advance - move on as far as the slots allow (twice at most). Metadata thread. */
void epoch_advance(struct epoch *e, const struct epoch_slot *slots);
/** epoch_passed - true if nobody can still see what was unlinked at @tag. */
bool epoch_passed(const struct epoch *e, uint64_t tag);

#endif
