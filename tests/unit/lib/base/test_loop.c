/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "hv/fd.h"
#include "hv/loop.h"

struct pipe_source {
	struct loop *loop;
	struct loop_source src;
	struct pipe_source *victim;
	int fd[2];
	unsigned calls;
};

static void source_open(struct pipe_source *p, struct loop *l, loop_fd_fn fn)
{
	*p = (struct pipe_source){ .loop = l };
	assert_int_equal(pipe(p->fd), 0);
	assert_int_equal(loop_add(l, &p->src, p->fd[0], EPOLLIN, fn, p), 0);
}

static void source_close(struct pipe_source *p)
{
	loop_del(&p->src);
	fd_close(&p->fd[0]);
	fd_close(&p->fd[1]);
}

static void stop_after_read(void *ctx, uint32_t events)
{
	struct pipe_source *p = ctx;
	char byte;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(p->fd[0], &byte, 1), 1);
	p->calls++;
	loop_stop(p->loop, byte);
}

static void delete_the_other(void *ctx, uint32_t events)
{
	struct pipe_source *p = ctx;

	(void)events;
	p->calls++;
	loop_del(&p->victim->src);
	loop_del(&p->victim->src);	/* and again */
	loop_stop(p->loop, 0);
}

static void a_ready_descriptor_is_dispatched(void **state)
{
	struct pipe_source p;
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&l, NULL), 0);
	source_open(&p, l, stop_after_read);
	assert_int_equal(write(p.fd[1], "\x07", 1), 1);
	assert_int_equal(loop_run(l), 7);
	assert_int_equal(p.calls, 1);
	assert_int_equal(write(p.fd[1], "\x08", 1), 1);
	assert_int_equal(loop_run(l), 8);	/* it can run again */
	source_close(&p);
	loop_free(l);
}

static void a_source_deleted_by_another_is_not_called_any_more(void **state)
{
	struct pipe_source a, b;
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&l, NULL), 0);
	source_open(&a, l, delete_the_other);
	source_open(&b, l, delete_the_other);
	a.victim = &b;
	b.victim = &a;
	assert_int_equal(write(a.fd[1], "x", 1), 1);
	assert_int_equal(write(b.fd[1], "x", 1), 1);
	assert_int_equal(loop_run(l), 0);	/* both were in one batch */
	assert_int_equal(a.calls + b.calls, 1);
	source_close(&a);
	source_close(&b);
	loop_free(l);
}

static void modified_events_take_effect(void **state)
{
	struct pipe_source p;
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&l, NULL), 0);
	source_open(&p, l, stop_after_read);
	assert_int_equal(loop_mod(&p.src, 0), 0);
	assert_int_equal(write(p.fd[1], "\x01", 1), 1);
	loop_stop(l, 5);
	assert_int_equal(loop_run(l), 5);	/* a stop before the run counts */
	assert_int_equal(p.calls, 0);
	assert_int_equal(loop_mod(&p.src, EPOLLIN), 0);
	assert_int_equal(loop_run(l), 1);
	source_close(&p);
	loop_free(l);
}

static void a_bad_descriptor_is_an_error(void **state)
{
	struct loop_source s = { 0 };
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&l, NULL), 0);
	assert_true(loop_add(l, &s, -1, EPOLLIN, stop_after_read, NULL) < 0);
	loop_del(&s);	/* never added: nothing to do */
	loop_free(l);
	loop_free(NULL);
}

struct timer_ctx {
	struct loop *loop;
	unsigned fired;
};

static void on_timer(void *ctx)
{
	struct timer_ctx *t = ctx;

	t->fired++;
	loop_stop(t->loop, 0);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void timers_fire_once_and_zero_disarms(void **state)
{
	struct timer_ctx a = { 0 }, b = { 0 };
	struct loop_timer ta = { 0 }, tb = { 0 };
	int64_t start = now_ms();

	(void)state;
	assert_int_equal(loop_new(&a.loop, NULL), 0);
	b.loop = a.loop;
	assert_int_equal(loop_timer_add(a.loop, &ta, on_timer, &a), 0);
	assert_int_equal(loop_timer_add(a.loop, &tb, on_timer, &b), 0);
	loop_timer_arm(&ta, 5);
	loop_timer_arm(&ta, 0);
	loop_timer_arm(&tb, 30);
	assert_int_equal(loop_run(a.loop), 0);
	assert_true(now_ms() - start >= 29);
	assert_int_equal(a.fired, 0);
	assert_int_equal(b.fired, 1);
	loop_timer_del(&ta);
	loop_timer_del(&ta);
	loop_timer_del(&tb);
	loop_free(a.loop);
}

static void on_signal(void *ctx, int signo)
{
	loop_stop(ctx, signo);
}

static void signals_arrive_as_events(void **state)
{
	sigset_t set, old;
	struct loop *l;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, NULL, &old);
	assert_int_equal(loop_new(&l, NULL), 0);
	assert_int_equal(loop_signals(l, &set, on_signal, l), 0);
	raise(SIGUSR2);
	assert_int_equal(loop_run(l), SIGUSR2);
	loop_free(l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void *stop_from_afar(void *ctx)
{
	usleep(10000);
	loop_stop(ctx, 42);
	return NULL;
}

static void any_thread_may_stop_it(void **state)
{
	pthread_t t;
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&l, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, stop_from_afar, l), 0);
	assert_int_equal(loop_run(l), 42);
	pthread_join(t, NULL);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ready_descriptor_is_dispatched),
		cmocka_unit_test(a_source_deleted_by_another_is_not_called_any_more),
		cmocka_unit_test(modified_events_take_effect),
		cmocka_unit_test(a_bad_descriptor_is_an_error),
		cmocka_unit_test(timers_fire_once_and_zero_disarms),
		cmocka_unit_test(signals_arrive_as_events),
		cmocka_unit_test(any_thread_may_stop_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
