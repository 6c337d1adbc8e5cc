/* SPDX-License-Identifier: MIT */
/*
 * The I/O thread's loop.
 *
 *   turn: messages -> ring completions -> pollers -> deferred -> ring submission
 *     worked?  next turn (and now and then a look at the fds)
 *     idle for less than the window?  spin
 *     else: arm pollers, sleep in epoll_wait, dispatch
 *
 * The sleeping flag makes the wake eventfd rare: a poster writes it only if the thread has
 * said that it is about to sleep, and the thread looks for messages once more after that.
 */
#include "io/iothread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "hv/fd.h"
#include "io/uring.h"

#define EVENTS_MAX 32
#define BUSY_TURNS_PER_LOOK 8	/* busy turns between looks at the fds */
#define SPINS_PER_CLOCK 16
#define SUBMIT_RETRY_MS 1

struct iothread {
	struct iothread_cfg cfg;
	char name[16];
	pthread_t tid;
	bool running;		/* main thread: start succeeded, not joined */
	bool stop;		/* the thread's */
	int epfd, wake_fd;
	struct uring *ring;
	struct iothread_poller *pollers;
	struct iothread_defer *deferred;
	unsigned n_watched;	/* sources in epoll that are not kicks */
	unsigned n_events;
	struct epoll_event events[EVENTS_MAX];
	struct iothread_source wake, ring_ready;
	uint64_t window_ns, window_max_ns;
	int enter_result;
	pthread_mutex_t lock;	/* start and iothread_call */
	pthread_cond_t cond;
	bool entered;
	HV_CACHELINE _Atomic(struct iothread_msg *) msgs;	/* newest first */
	_Atomic bool sleeping;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/* ---- messages ---------------------------------------------------------------------------- */

void iothread_post(struct iothread *t, struct iothread_msg *m)
{
	static const uint64_t one = 1;

	m->next = atomic_load(&t->msgs);
	while (!atomic_compare_exchange_weak(&t->msgs, &m->next, m))
		continue;
	/* EAGAIN: the counter is full, so the thread wakes anyway. */
	if (atomic_load(&t->sleeping) && write(t->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static bool run_messages(struct iothread *t)
{
	struct iothread_msg *newest, *m = NULL;

	if (!atomic_load_explicit(&t->msgs, memory_order_relaxed))
		return false;
	newest = atomic_exchange(&t->msgs, NULL);
	while (newest) {	/* reverse: oldest first */
		struct iothread_msg *next = newest->next;

		newest->next = m;
		m = newest;
		newest = next;
	}
	while (m) {
		struct iothread_msg *next = m->next;

		m->fn(m->ctx);
		m = next;
	}
	return true;
}

struct call {
	struct iothread *thread;
	struct iothread_msg msg;
	void (*fn)(void *ctx);
	void *ctx;
	bool done;
};

static void call_run(void *ctx)
{
	struct call *c = ctx;
	struct iothread *t = c->thread;

	c->fn(c->ctx);
	pthread_mutex_lock(&t->lock);
	c->done = true;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->lock);
}

void iothread_call(struct iothread *t, void (*fn)(void *ctx), void *ctx)
{
	struct call c = { .thread = t, .fn = fn, .ctx = ctx };

	if (!t->running || iothread_current(t)) {
		fn(ctx);
		return;
	}
	c.msg = (struct iothread_msg){ .fn = call_run, .ctx = &c };
	iothread_post(t, &c.msg);
	pthread_mutex_lock(&t->lock);
	while (!c.done)
		pthread_cond_wait(&t->cond, &t->lock);
	pthread_mutex_unlock(&t->lock);
}

/* ---- sources, pollers, deferred calls -------------------------------------------------------- */

static int source_ctl(struct iothread_source *s, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	return epoll_ctl(s->thread->epfd, op, s->fd, &ev) < 0 ? -errno : 0;
}

int iothread_add(struct iothread *t, struct iothread_source *s)
{
	uint32_t events = s->events;

	s->thread = t;
	s->added = true;
	s->in_epoll = false;
	s->events = 0;
	if (events) {
		int r = source_ctl(s, EPOLL_CTL_ADD, events);

		if (r) {
			s->added = false;
			return r;
		}
		s->events = events;
		s->in_epoll = true;
		t->n_watched += !s->kick_only;
	}
	return 0;
}

/* Out of epoll altogether: it reports hang-ups even to those who asked for nothing. */
static void source_unwatch(struct iothread_source *s)
{
	if (!s->in_epoll)
		return;
	source_ctl(s, EPOLL_CTL_DEL, 0);
	s->in_epoll = false;
	s->thread->n_watched -= !s->kick_only;
	for (unsigned i = 0; i < s->thread->n_events; i++)
		if (s->thread->events[i].data.ptr == s)
			s->thread->events[i].data.ptr = NULL;
}

void iothread_mod(struct iothread_source *s, uint32_t events)
{
	if (!s->added || s->events == events)
		return;
	s->events = events;
	if (!events) {
		source_unwatch(s);
	} else if (source_ctl(s, s->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, events) == 0 &&
		   !s->in_epoll) {
		s->in_epoll = true;
		s->thread->n_watched += !s->kick_only;
	}
}

void iothread_del(struct iothread_source *s)
{
	if (!s->added)
		return;
	source_unwatch(s);
	s->added = false;
}

void iothread_add_poller(struct iothread *t, struct iothread_poller *p)
{
	p->next = t->pollers;
	t->pollers = p;
}

void iothread_del_poller(struct iothread *t, struct iothread_poller *p)
{
	for (struct iothread_poller **at = &t->pollers; *at; at = &(*at)->next) {
		if (*at == p) {
			*at = p->next;
			return;
		}
	}
}

void iothread_defer(struct iothread *t, struct iothread_defer *d)
{
	if (d->queued)
		return;
	d->queued = true;
	d->next = t->deferred;
	t->deferred = d;
}

static void run_deferred(struct iothread *t)
{
	while (t->deferred) {
		struct iothread_defer *d = t->deferred;

		t->deferred = d->next;
		d->queued = false;
		d->fn(d->ctx);
	}
}

/* ---- the loop ------------------------------------------------------------------------------- */

static bool run_turn(struct iothread *t)
{
	bool worked = run_messages(t);

	if (t->ring)
		worked |= uring_reap(t->ring) > 0;
	for (struct iothread_poller *p = t->pollers, *next; p; p = next) {
		next = p->next;
		worked |= p->poll(p->ctx);
	}
	run_deferred(t);
	if (t->ring)
		uring_submit(t->ring);
	return worked;
}

static void look_at_fds(struct iothread *t, int timeout_ms)
{
	int n = epoll_wait(t->epfd, t->events, EVENTS_MAX, timeout_ms);

	t->n_events = n > 0 ? (unsigned)n : 0;
	if (timeout_ms)
		atomic_store(&t->sleeping, false);
	for (unsigned i = 0; i < t->n_events; i++) {
		struct iothread_source *s = t->events[i].data.ptr;

		if (s)
			s->fn(s->ctx, t->events[i].events);
	}
	t->n_events = 0;
}

/* Long sleeps switch spinning off, short ones on again: idle devices cost nothing. */
static void adapt_window(struct iothread *t, uint64_t slept_ns)
{
	t->window_ns = slept_ns > t->window_max_ns ? 0 : t->window_max_ns;
}

static void sleep_for_work(struct iothread *t)
{
	bool found = false;
	uint64_t start;

	atomic_store(&t->sleeping, true);
	for (struct iothread_poller *p = t->pollers; p; p = p->next)
		found |= p->arm(p->ctx);
	if (found || atomic_load(&t->msgs)) {
		atomic_store(&t->sleeping, false);
		return;
	}
	start = t->window_max_ns ? now_ns() : 0;
	look_at_fds(t, !t->ring || uring_submit(t->ring) ? -1 : SUBMIT_RETRY_MS);
	if (t->window_max_ns)
		adapt_window(t, now_ns() - start);
}

/* Spin until there is work (true) or the window has passed. */
static bool spin(struct iothread *t)
{
	uint64_t end = now_ns() + t->window_ns;

	for (unsigned i = 1;; i++) {
		if (run_turn(t))
			return true;
		if (t->n_watched)
			look_at_fds(t, 0);
		if (i % SPINS_PER_CLOCK == 0 && now_ns() >= end)
			return false;
		cpu_relax();
	}
}

static void run_loop(struct iothread *t)
{
	unsigned busy = 0;

	while (!t->stop) {
		if (run_turn(t)) {
			if (++busy % BUSY_TURNS_PER_LOOK == 0 && t->n_watched)
				look_at_fds(t, 0);
			continue;
		}
		if (t->window_ns && spin(t))
			continue;
		sleep_for_work(t);
	}
	run_messages(t);
	run_deferred(t);
}

static void *thread_main(void *arg)
{
	struct iothread *t = arg;
	int r = t->cfg.enter ? t->cfg.enter(t->cfg.enter_ctx) : 0;

	pthread_mutex_lock(&t->lock);
	t->enter_result = r;
	t->entered = true;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->lock);
	if (!r)
		run_loop(t);
	return NULL;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void wake_drain(void *ctx, uint32_t events)
{
	struct iothread *t = ctx;
	uint64_t n;

	if (read(t->wake_fd, &n, sizeof(n)) < 0)
		return;	/* somebody was faster: nothing to do */
}

/* Completions are taken in by the turn that follows. */
static void ring_is_ready(void *ctx, uint32_t events)
{
}

static bool host_has_one_cpu(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) < 2;
}

static int open_fds(struct iothread *t, struct err *e)
{
	int r;

	t->epfd = epoll_create1(EPOLL_CLOEXEC);
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->epfd < 0 || t->wake_fd < 0)
		return err_errno(e, "I/O thread '%s'", t->name);
	t->wake = (struct iothread_source){ .fn = wake_drain, .ctx = t, .fd = t->wake_fd,
					    .events = EPOLLIN, .kick_only = true };
	r = iothread_add(t, &t->wake);
	if (!r && t->ring) {
		t->ring_ready = (struct iothread_source){ .fn = ring_is_ready, .ctx = t,
							  .fd = uring_fd(t->ring),
							  .events = EPOLLIN, .kick_only = true };
		r = iothread_add(t, &t->ring_ready);
	}
	return r ? err_set(e, r, "I/O thread '%s': epoll: %s", t->name, strerror(-r)) : 0;
}

int iothread_new(const struct iothread_cfg *cfg, struct iothread **out, struct err *e)
{
	struct iothread *t = aligned_alloc(64, ALIGN_UP(sizeof(*t), (size_t)64));
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "I/O thread: out of memory");
	memset(t, 0, sizeof(*t));
	t->cfg = *cfg;
	t->epfd = t->wake_fd = -1;
	strncpy(t->name, cfg->name, sizeof(t->name) - 1);
	t->cfg.name = t->name;
	t->window_max_ns = host_has_one_cpu() ? 0 : cfg->poll_us * UINT64_C(1000);
	t->window_ns = t->window_max_ns;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->cond, NULL);
	if (!cfg->no_uring && uring_new(&t->ring))
		t->ring = NULL;
	r = open_fds(t, e);
	if (r) {
		iothread_free(t);
		return r;
	}
	*out = t;
	return 0;
}

int iothread_start(struct iothread *t, struct err *e)
{
	sigset_t all, old;
	int r;

	assert(!t->running);
	t->stop = t->entered = false;
	t->enter_result = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t->tid, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_set(e, -r, "I/O thread '%s': %s", t->name, strerror(r));
	pthread_setname_np(t->tid, t->name);
	pthread_mutex_lock(&t->lock);
	/* Start-up time counts: wait for the thread only if it can fail. */
	while (t->cfg.enter && !t->entered)
		pthread_cond_wait(&t->cond, &t->lock);
	r = t->enter_result;
	pthread_mutex_unlock(&t->lock);
	if (r) {
		pthread_join(t->tid, NULL);
		return err_set(e, r, "I/O thread '%s': %s", t->name, strerror(-r));
	}
	t->running = true;
	return 0;
}

static void set_stop(void *ctx)
{
	((struct iothread *)ctx)->stop = true;
}

void iothread_stop(struct iothread *t)
{
	struct iothread_msg m = { .fn = set_stop, .ctx = t };

	if (!t->running)
		return;
	iothread_post(t, &m);
	pthread_join(t->tid, NULL);
	t->running = false;
}

void iothread_free(struct iothread *t)
{
	if (!t)
		return;
	iothread_stop(t);
	uring_free(t->ring);
	fd_close(&t->epfd);
	fd_close(&t->wake_fd);
	pthread_cond_destroy(&t->cond);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

struct uring *iothread_uring(struct iothread *t)
{
	return t->ring;
}

bool iothread_current(const struct iothread *t)
{
	return t->running && pthread_equal(t->tid, pthread_self());
}
