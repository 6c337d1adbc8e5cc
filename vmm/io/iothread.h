/* SPDX-License-Identifier: MIT */
/*
 * iothread.h - a thread that serves virtqueues: kicks in, transfers, interrupts out.
 *
 * Everything a thread serves is one of: a source (an fd it waits for), a poller (memory it
 * looks at while it spins), a message (a call from another thread) or a ring completion.
 * Each turn of its loop looks at all of them. When nothing was found for a while, pollers
 * are armed (kicks switched on) and the thread sleeps in epoll_wait.
 *
 * Spinning adapts: at most poll_us after the last work, nothing at all once sleeps have
 * become long, and never on a host with one CPU.
 *
 * System calls after start: read write readv writev preadv2 pwritev2 fallocate fdatasync
 * io_uring_enter epoll_wait epoll_ctl futex clock_gettime, ioctl (TUNSETOFFLOAD, TUNSETQUEUE),
 * mmap munmap brk mprotect (malloc, rarely), and for the end madvise, rt_sigprocmask, exit.
 */
#ifndef HV_VMM_IO_IOTHREAD_H
#define HV_VMM_IO_IOTHREAD_H

#include <stdatomic.h>
#include <sys/epoll.h>

#include "hv/base.h"
#include "hv/err.h"

struct iothread;
struct uring;

#define IOTHREAD_POLL_US 50	/* the usual window */

struct iothread_cfg {
	const char *name;	/* of the thread, at most 15 characters; copied */
	unsigned poll_us;	/* longest busy wait in microseconds; 0: never */
	bool no_uring;		/* do not even try io_uring */
	int (*enter)(void *ctx);	/* optional: first call on the thread (seccomp); 0 or -errno */
	void *enter_ctx;
};

/* An fd and what to do when it is ready. Caller's storage; zero it first. */
struct iothread_source {
	void (*fn)(void *ctx, uint32_t events);
	void *ctx;
	int fd;			/* borrowed */
	uint32_t events;	/* EPOLLIN…; 0: registered but not looked at */
	bool kick_only;		/* a kick eventfd: need not be looked at while spinning */
	bool added;
	bool in_epoll;		/* @events is not 0 and epoll knows */
	struct iothread *thread;
};

/* Memory to look at. Caller's storage. */
struct iothread_poller {
	/* Do what there is to do; true if there was any. */
	bool (*poll)(void *ctx);
	/* About to sleep: have the other side kick from now on; true if work came meanwhile. */
	bool (*arm)(void *ctx);
	void *ctx;
	struct iothread_poller *next;
};

/* A call to be made on the thread. Caller's storage, free again when @fn is called. */
struct iothread_msg {
	void (*fn)(void *ctx);
	void *ctx;
	struct iothread_msg *next;
};

/* A call to be made at the end of the turn, once however often asked for. Caller's storage. */
struct iothread_defer {
	void (*fn)(void *ctx);
	void *ctx;
	bool queued;
	struct iothread_defer *next;
};

/**
 * iothread_new - ring, epoll and wake eventfd; the thread does not run yet
 *
 * io_uring is restricted and enabled here. Where the host has none, transfers that would
 * block are made by the thread itself, one after the other.
 */
int iothread_new(const struct iothread_cfg *cfg, struct iothread **out, struct err *e);
/** iothread_start - run the thread, all signals blocked; fails if cfg.enter does. */
int iothread_start(struct iothread *t, struct err *e);
/**
 * iothread_stop - end and join the thread; idempotent
 *
 * Devices have been quiesced before (pci_bus_quiesce): nothing is in flight.
 */
void iothread_stop(struct iothread *t);
/** iothread_free - stop, close all fds. NULL is allowed. Devices are freed before. */
void iothread_free(struct iothread *t);

/** iothread_post - run @m->fn on @t soon, in order of posting. Any thread; never blocks. */
void iothread_post(struct iothread *t, struct iothread_msg *m);
/** iothread_call - run @fn on @t and wait for its end (on the spot if @t does not run). */
void iothread_call(struct iothread *t, void (*fn)(void *ctx), void *ctx);

/* The rest: on the thread itself, or while it does not run. */

/** iothread_add - watch @s->fd; 0 or -errno (-EPERM: a file that epoll cannot watch). */
int iothread_add(struct iothread *t, struct iothread_source *s);
/** iothread_mod - change what is watched for; a change to the same value costs nothing. */
void iothread_mod(struct iothread_source *s, uint32_t events);
/** iothread_del - stop watching; idempotent; pending events are dropped. */
void iothread_del(struct iothread_source *s);
void iothread_add_poller(struct iothread *t, struct iothread_poller *p);
void iothread_del_poller(struct iothread *t, struct iothread_poller *p);
/** iothread_defer - call @d->fn once before this turn ends: what batches. */
void iothread_defer(struct iothread *t, struct iothread_defer *d);
/** iothread_uring - the thread's ring, or NULL. */
struct uring *iothread_uring(struct iothread *t);
/** iothread_current - true on @t's own thread. */
bool iothread_current(const struct iothread *t);

#endif
