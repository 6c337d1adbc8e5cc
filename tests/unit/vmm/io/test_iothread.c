/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "io/iothread.h"

static struct iothread *t;

static int setup(void **state)
{
	struct iothread_cfg cfg = { .name = "a name longer than fits", .poll_us = 50 };
	struct err e = { 0 };

	assert_int_equal(iothread_new(&cfg, &t, &e), 0);
	return 0;
}

static int setup_running(void **state)
{
	struct err e = { 0 };

	setup(state);
	assert_int_equal(iothread_start(t, &e), 0);
	return 0;
}

static int teardown(void **state)
{
	iothread_free(t);
	t = NULL;
	return 0;
}

static unsigned order[64], n_order;

struct numbered {
	struct iothread_msg msg;
	unsigned n;
};

static void note(void *ctx)
{
	order[n_order++] = ((struct numbered *)ctx)->n;
}

static void nothing(void *ctx)
{
}

static void messages_arrive_in_order(void **state)
{
	static struct numbered m[64];

	n_order = 0;
	for (unsigned i = 0; i < 64; i++) {
		m[i] = (struct numbered){ .msg = { .fn = note, .ctx = &m[i] }, .n = i };
		iothread_post(t, &m[i].msg);
	}
	iothread_call(t, nothing, NULL);
	assert_int_equal(n_order, 64);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(order[i], i);
}

static void messages_posted_before_start_wait_for_it(void **state)
{
	static struct numbered m = { .msg = { .fn = note, .ctx = &m }, .n = 7 };
	struct err e = { 0 };

	n_order = 0;
	iothread_post(t, &m.msg);
	assert_int_equal(n_order, 0);
	assert_int_equal(iothread_start(t, &e), 0);
	iothread_call(t, nothing, NULL);
	assert_int_equal(n_order, 1);
}

static void where_am_i(void *ctx)
{
	*(bool *)ctx = iothread_current(t);
}

static void calls_run_on_the_thread(void **state)
{
	bool there = false;

	iothread_call(t, where_am_i, &there);
	assert_true(there);
	assert_false(iothread_current(t));
	iothread_stop(t);
	iothread_call(t, where_am_i, &there);
	assert_false(there);	/* on the spot */
}

static double cpu_seconds(double for_seconds)
{
	struct timespec a, b, len = { .tv_nsec = (long)(for_seconds * 1e9) };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	nanosleep(&len, NULL);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

static void idle_thread_costs_nothing(void **state)
{
	usleep(10000);
	assert_true(cpu_seconds(0.2) < 0.02);
}

struct watch {
	struct iothread_source s;
	int fd;
	_Atomic unsigned events;
};

static void count_event(void *ctx, uint32_t events)
{
	struct watch *w = ctx;
	uint64_t n;

	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		w->events++;
}

static void add_watch(void *ctx)
{
	struct watch *w = ctx;

	w->s = (struct iothread_source){ .fn = count_event, .ctx = w, .fd = w->fd,
					 .events = EPOLLIN };
	assert_int_equal(iothread_add(t, &w->s), 0);
}

static void pause_watch(void *ctx)
{
	iothread_mod(&((struct watch *)ctx)->s, 0);
}

static void resume_watch(void *ctx)
{
	iothread_mod(&((struct watch *)ctx)->s, EPOLLIN);
}

static void del_watch(void *ctx)
{
	iothread_del(&((struct watch *)ctx)->s);
}

static void signal_and_settle(struct watch *w)
{
	uint64_t one = 1;

	assert_int_equal(write(w->fd, &one, sizeof(one)), sizeof(one));
	usleep(5000);
}

static void sources_can_be_paused(void **state)
{
	struct watch w = { .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };

	iothread_call(t, add_watch, &w);
	signal_and_settle(&w);
	assert_int_equal(w.events, 1);
	iothread_call(t, pause_watch, &w);
	signal_and_settle(&w);
	assert_int_equal(w.events, 1);
	iothread_call(t, resume_watch, &w);
	usleep(5000);
	assert_int_equal(w.events, 2);
	iothread_call(t, del_watch, &w);
	iothread_call(t, del_watch, &w);
	signal_and_settle(&w);
	assert_int_equal(w.events, 2);
	close(w.fd);
}

static int refuse(void *ctx)
{
	return -EPERM;
}

static void failing_entry_fails_the_start(void **state)
{
	struct iothread_cfg cfg = { .name = "io", .enter = refuse };
	struct iothread *other;
	struct err e = { 0 };

	assert_int_equal(iothread_new(&cfg, &other, &e), 0);
	assert_int_equal(iothread_start(other, &e), -EPERM);
	iothread_free(other);
}

static void threads_start_and_stop_again(void **state)
{
	struct err e = { 0 };

	for (unsigned i = 0; i < 20; i++) {
		iothread_stop(t);
		iothread_stop(t);
		assert_int_equal(iothread_start(t, &e), 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_running, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(messages_arrive_in_order),
		cmocka_unit_test_setup_teardown(messages_posted_before_start_wait_for_it, setup,
						teardown),
		TEST(calls_run_on_the_thread),
		TEST(idle_thread_costs_nothing),
		TEST(sources_can_be_paused),
		cmocka_unit_test(failing_entry_fails_the_start),
		TEST(threads_start_and_stop_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
