/* SPDX-License-Identifier: MIT */
/*
 * The epoll loop. A source deleted while its turn is being dispatched may still be
 * named by later events of the same epoll_wait; `active` makes those no-ops, and the
 * event batch is re-checked against it.
 */
#include "hv/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "hv/fd.h"

#define LOOP_BATCH 32

struct loop {
	int epoll_fd;
	struct loop_source wake;
	struct loop_source signals;
	loop_signal_fn signal_fn;
	void *signal_ctx;
	_Atomic bool stopping;
	_Atomic int status;
	struct epoll_event batch[LOOP_BATCH];
	int batch_len;
};

static void loop_on_wake(void *ctx, uint32_t events)
{
	struct loop *l = ctx;
	uint64_t n;

	(void)events;
	if (read(l->wake.fd, &n, sizeof(n)) < 0)
		return;	/* spurious; the stop flag is what counts */
}

int loop_new(struct loop **out, struct err *e)
{
	struct loop *l = calloc(1, sizeof(*l));
	int wake, r;

	if (!l)
		return err_set(e, -ENOMEM, "event loop");
	l->signals.fd = -1;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->wake.fd = wake;
	if (l->epoll_fd < 0 || wake < 0) {
		r = err_errno(e, "event loop");
		loop_free(l);
		return r;
	}
	r = loop_add(l, &l->wake, wake, EPOLLIN, loop_on_wake, l);
	if (r) {
		loop_free(l);
		return err_wrap(e, r, "event loop");
	}
	*out = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	fd_close(&l->wake.fd);
	fd_close(&l->signals.fd);
	fd_close(&l->epoll_fd);
	free(l);
}

int loop_add(struct loop *l, struct loop_source *s, int fd, uint32_t events, loop_fd_fn fn,
	     void *ctx)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	*s = (struct loop_source){ .loop = l, .fd = fd, .active = true, .watched = true, .fn = fn,
				   .ctx = ctx };
	return events ? 0 : loop_mod(s, 0);
}

int loop_mod(struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };
	int op = !events ? EPOLL_CTL_DEL : s->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (!events && !s->watched)
		return 0;
	/* An empty mask would still report a hang-up, again and again. */
	if (epoll_ctl(s->loop->epoll_fd, op, s->fd, &ev) < 0)
		return -errno;
	s->watched = events != 0;
	return 0;
}

void loop_del(struct loop_source *s)
{
	if (!s->active)
		return;
	loop_mod(s, 0);
	s->active = false;
	for (int i = 0; i < s->loop->batch_len; i++)
		if (s->loop->batch[i].data.ptr == s)
			s->loop->batch[i].data.ptr = NULL;
}

static void loop_on_timer(void *ctx, uint32_t events)
{
	struct loop_timer *t = ctx;
	uint64_t n;

	(void)events;
	if (read(t->src.fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		t->fn(t->ctx);
}

int loop_timer_add(struct loop *l, struct loop_timer *t, loop_timer_fn fn, void *ctx)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int r;

	if (fd < 0)
		return -errno;
	r = loop_add(l, &t->src, fd, EPOLLIN, loop_on_timer, t);
	if (r) {
		fd_close(&fd);
		return r;
	}
	t->fn = fn;
	t->ctx = ctx;
	return 0;
}

int loop_timer_arm(struct loop_timer *t, uint64_t ms)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(ms / 1000),
					       .tv_nsec = (long)(ms % 1000) * 1000000 } };

	return timerfd_settime(t->src.fd, 0, &at, NULL) < 0 ? -errno : 0;
}

void loop_timer_del(struct loop_timer *t)
{
	if (!t->src.active)
		return;
	loop_del(&t->src);
	fd_close(&t->src.fd);
}

static void loop_on_signal(void *ctx, uint32_t events)
{
	struct loop *l = ctx;
	struct signalfd_siginfo si;

	(void)events;
	while (read(l->signals.fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		l->signal_fn(l->signal_ctx, (int)si.ssi_signo);
}

int loop_signals(struct loop *l, const sigset_t *set, loop_signal_fn fn, void *ctx)
{
	int fd, r;

	r = pthread_sigmask(SIG_BLOCK, set, NULL);
	if (r)
		return -r;
	fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	l->signal_fn = fn;
	l->signal_ctx = ctx;
	r = loop_add(l, &l->signals, fd, EPOLLIN, loop_on_signal, l);
	if (r)
		fd_close(&fd);
	return r;
}

int loop_run(struct loop *l)
{
	while (!atomic_load(&l->stopping)) {
		int n = epoll_wait(l->epoll_fd, l->batch, LOOP_BATCH, -1);

		if (n < 0 && errno != EINTR)
			return -errno;
		l->batch_len = MAX(n, 0);
		for (int i = 0; i < l->batch_len; i++) {
			struct loop_source *s = l->batch[i].data.ptr;

			if (s && s->active)
				s->fn(s->ctx, l->batch[i].events);
		}
		l->batch_len = 0;
	}
	atomic_store(&l->stopping, false);
	return atomic_load(&l->status);
}

void loop_stop(struct loop *l, int status)
{
	uint64_t one = 1;

	atomic_store(&l->status, status);
	atomic_store(&l->stopping, true);
	if (write(l->wake.fd, &one, sizeof(one)) < 0)
		return;	/* counter saturated: the wake-up is pending anyway */
}
