/* SPDX-License-Identifier: MIT */
/*
 * meta.h - a request on its way between a queue's thread and the metadata thread.
 *
 * A request belongs to exactly one of the two at any time; a mutex hands it over. In the
 * queue's hands it may be in an epoch and have transfers running; in the metadata thread's
 * it never has either.
 */
#ifndef HV_BLOCK_META_H
#define HV_BLOCK_META_H

#include "block_int.h"

/* What a request asks of the metadata thread. */
enum req_job {
	JOB_NONE,
	JOB_LOAD,    /* READ: make the mapping at pos answer, or move the bytes yourself */
	JOB_RESERVE, /* WRITE: find clusters for the bytes from pos on */
	JOB_COMMIT,  /* the data is in the reserved clusters */
	JOB_ABORT,   /* it could not be written */
	JOB_WHOLE,   /* do all that is left of it */
	JOB_FLUSH,
	JOB_CORRUPT, /* the mapping made no sense */
};

/* One transfer; the first of a request is in the request itself, others are pooled. */
struct blk_xfer {
	struct blk_io io;
	struct blk_req *req;
};

/* What blk_req.priv holds. */
struct req_state {
	struct blk_req *next; /* in whatever list it waits */
	struct blk_queue *q;
	struct iov_cursor cur; /* the iovec at pos */
	uint64_t pos;	       /* bytes dealt with or on their way */
	struct blk_resv *resv; /* while its data is being written */
	uint32_t running;      /* transfers, plus one while being issued */
	int error;	       /* the first one */
	uint8_t job;
	uint8_t ticket;
	bool pinned;   /* in an epoch */
	bool starved;  /* waits for a pooled transfer */
	bool flushing; /* the closing flush of writethrough or of a FLUSH */
	struct blk_xfer x;
};
static_assert(sizeof(struct req_state) <= sizeof(((struct blk_req *)0)->priv), "blk_req.priv");

static inline struct req_state *req_state(struct blk_req *r)
{
	return (struct req_state *)r->priv;
}

/* First in, first out, linked by req_state.next. */
struct req_list {
	struct blk_req *head, *tail;
};

static inline void req_push(struct req_list *l, struct blk_req *r)
{
	req_state(r)->next = NULL;
	if (l->tail)
		req_state(l->tail)->next = r;
	else
		l->head = r;
	l->tail = r;
}

static inline struct blk_req *req_pop(struct req_list *l)
{
	struct blk_req *r = l->head;

	if (!r)
		return NULL;
	l->head = req_state(r)->next;
	if (!l->head)
		l->tail = NULL;
	return r;
}

/** meta_start, meta_stop - the thread; under the blk's first and last queue. */
int meta_start(struct blk *b, struct err *e);
void meta_stop(struct blk *b);
/** meta_post - hand @r over; it comes back through queue_reply(). Queue's thread. */
void meta_post(struct blk *b, struct blk_req *r, enum req_job job);
/** queue_reply - hand @r back to its queue and wake that. Metadata thread. */
void queue_reply(struct blk_req *r);

#endif
