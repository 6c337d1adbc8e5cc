/* SPDX-License-Identifier: MIT */
/*
 * loop.h - an epoll loop: descriptors, one-shot timers, signals, a stop flag.
 *
 * One thread owns a loop and calls everything here, except loop_stop(), which
 * any thread may call. Handlers run on that thread and may add, modify and
 * delete sources, their own included.
 */
#ifndef HV_LOOP_H
#define HV_LOOP_H

#include <signal.h>
#include <sys/epoll.h>

#include "hv/base.h"
#include "hv/err.h"

struct loop;
typedef void (*loop_fd_fn)(void *ctx, uint32_t events);
typedef void (*loop_timer_fn)(void *ctx);
typedef void (*loop_signal_fn)(void *ctx, int signo);

/* A source's storage is the caller's; zero-initialise it, keep it until deleted. */
struct loop_source {
	struct loop *loop;
	int fd;
	bool active;
	bool watched;	/* the kernel knows of it: some event is asked for */
	loop_fd_fn fn;
	void *ctx;
};
struct loop_timer {
	struct loop_source src;
	loop_timer_fn fn;
	void *ctx;
};

/** loop_new - make a loop; free with loop_free(). -errno in @e. */
int loop_new(struct loop **out, struct err *e);
/** loop_free - release; sources still added are forgotten, not closed. NULL is allowed. */
void loop_free(struct loop *l);
/** loop_add - watch @fd (borrowed) for EPOLLIN, EPOLLOUT…; 0 or -errno. */
int loop_add(struct loop *l, struct loop_source *s, int fd, uint32_t events, loop_fd_fn fn,
	     void *ctx);
/** loop_mod - change the events watched; 0 means none at all, hang-ups included. 0 or -errno. */
int loop_mod(struct loop_source *s, uint32_t events);
/** loop_del - stop watching; pending events of this turn are dropped. Idempotent. */
void loop_del(struct loop_source *s);
/** loop_timer_add - make @t (its own timerfd) call @fn when armed time has passed. */
int loop_timer_add(struct loop *l, struct loop_timer *t, loop_timer_fn fn, void *ctx);
/** loop_timer_arm - fire once after @ms milliseconds; 0 disarms. */
int loop_timer_arm(struct loop_timer *t, uint64_t ms);
/** loop_timer_del - stop and close the timer. Idempotent. */
void loop_timer_del(struct loop_timer *t);
/** loop_signals - block @set in this thread and deliver it through @fn from now on. */
int loop_signals(struct loop *l, const sigset_t *set, loop_signal_fn fn, void *ctx);
/** loop_run - dispatch until loop_stop(); returns the status given there, or -errno. */
int loop_run(struct loop *l);
/** loop_stop - make loop_run() return @status after this turn. Any thread. */
void loop_stop(struct loop *l, int status);

#endif
