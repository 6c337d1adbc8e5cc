/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <linux/serial_reg.h>

#include "../../support/vmachine.h"
#include "console.h"
#include "hv/fd.h"

struct fixture {
	struct vmachine m;
	struct loop *loop;
	struct loop_timer timer;
	struct console c;
	struct serial uart;
	int user;	/* the other end of the console's descriptor */
	int ours;	/* lent to the console */
	int listen_fd;
	struct sockaddr_un sa;
	socklen_t sa_len;
};

static void on_timer(void *ctx)
{
	loop_stop(((struct fixture *)ctx)->loop, 0);
}

static void turn(struct fixture *f, unsigned ms)
{
	loop_timer_arm(&f->timer, ms);
	assert_int_equal(loop_run(f->loop), 0);
}

static struct fixture *fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	vm_init(&f->m);
	f->user = f->ours = f->listen_fd = -1;
	assert_int_equal(loop_new(&f->loop, NULL), 0);
	assert_int_equal(loop_timer_add(f->loop, &f->timer, on_timer, f), 0);
	return f;
}

static void fixture_start(struct fixture *f, const struct console_cfg *cfg)
{
	struct serial_sink sink;

	assert_int_equal(console_init(&f->c, f->loop, cfg, NULL), 0);
	sink = console_sink(&f->c);
	assert_int_equal(serial_init(&f->uart, &f->m.pio, &f->m.irq, &sink, NULL), 0);
	console_attach(&f->c, &f->uart);
}

static int setup_stream(void **state)
{
	struct fixture *f = fixture_new();
	int sv[2], small = 4096;

	*state = f;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
		return -1;
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	f->ours = sv[0];
	f->user = sv[1];
	fixture_start(f, &(struct console_cfg){ f->ours, f->ours, -1, false });
	return 0;
}

static int setup_listen(void **state)
{
	struct fixture *f = fixture_new();

	*state = f;
	f->sa.sun_family = AF_UNIX;
	f->sa_len = sizeof(sa_family_t);
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (bind(f->listen_fd, (struct sockaddr *)&f->sa, f->sa_len) || listen(f->listen_fd, 4))
		return -1;
	f->sa_len = sizeof(f->sa);
	getsockname(f->listen_fd, (struct sockaddr *)&f->sa, &f->sa_len);
	fixture_start(f, &(struct console_cfg){ -1, -1, f->listen_fd, false });
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	console_fini(&f->c);
	serial_fini(&f->uart, &f->m.irq);
	loop_timer_del(&f->timer);
	loop_free(f->loop);
	fd_close(&f->user);
	fd_close(&f->ours);
	fd_close(&f->listen_fd);
	vm_fini(&f->m);
	free(f);
	return 0;
}

static int attach_client(struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&f->sa, f->sa_len), 0);
	turn(f, 10);
	return fd;
}

static uint8_t in(struct fixture *f, unsigned reg)
{
	uint8_t v = 0;

	bus_read(&f->m.pio, PORT_COM1 + reg, &v, 1);
	return v;
}

static bool guest_can_send(struct fixture *f)
{
	return in(f, UART_LSR) & UART_LSR_THRE;
}

static void guest_out(struct fixture *f, uint8_t byte)
{
	bus_write(&f->m.pio, PORT_COM1 + UART_TX, &byte, 1);
}

static void guest_says(struct fixture *f, const char *text)
{
	while (*text)
		guest_out(f, (uint8_t)*text++);
}

static void expect_read(int fd, const char *text)
{
	char buf[256];
	ssize_t n = read(fd, buf, sizeof(buf));

	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

/* Bytes with a pattern that shows a lost or doubled one. */
static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 31 + (i >> 8));
}

static void output_is_written_through_at_once(void **state)
{
	struct fixture *f = *state;

	guest_says(f, "login: ");
	expect_read(f->user, "login: ");	/* without a turn of the loop */
}

static void input_goes_as_fast_as_the_guest_reads(void **state)
{
	struct fixture *f = *state;
	uint8_t fifo = UART_FCR_ENABLE_FIFO, buf[1000];
	size_t got = 0;

	bus_write(&f->m.pio, PORT_COM1 + UART_FCR, &fifo, 1);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = pattern(i);
	assert_int_equal(write(f->user, buf, sizeof(buf)), sizeof(buf));
	while (got < sizeof(buf)) {
		turn(f, 2);
		assert_true(in(f, UART_LSR) & UART_LSR_DR);
		while (in(f, UART_LSR) & UART_LSR_DR)
			assert_int_equal(in(f, UART_RX), pattern(got++));
	}
	turn(f, 5);
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
}

static void a_guest_that_does_not_read_stops_the_writer(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[4096] = { 0 };
	size_t sent = 0;

	for (int i = 0; i < 2000; i++) {
		ssize_t n = write(f->user, buf, sizeof(buf));

		sent += n > 0 ? (size_t)n : 0;
		turn(f, 1);
		if (n < 0)
			break;
	}
	assert_int_equal(f->c.pending_len, sizeof(f->c.pending));
	assert_true(sent < MIB(2));
	assert_int_equal(write(f->user, buf, 1), -1);
}

static void a_slow_reader_holds_the_guest_and_loses_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t sent = 0, got = 0, first;
	uint8_t buf[2048];
	ssize_t n;

	while (guest_can_send(f))
		guest_out(f, pattern(sent++));
	first = sent;
	assert_true(first > CONSOLE_RING_BYTES);
	for (int idle = 0; idle < 20;) {
		turn(f, 2);
		if (sent < first + 100 && guest_can_send(f))
			guest_out(f, pattern(sent++));
		n = read(f->user, buf, sizeof(buf));
		idle = n > 0 ? 0 : idle + 1;
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(got++));
	}
	assert_true(sent > first);
	assert_int_equal(got, sent);
}

static void end_of_input_ends_the_input_only(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->user, "x", 1), 1);
	shutdown(f->user, SHUT_WR);
	turn(f, 10);
	assert_int_equal(in(f, UART_RX), 'x');
	guest_says(f, "still here");
	turn(f, 5);
	expect_read(f->user, "still here");
}

static void a_reader_that_went_away_does_not_hold_the_guest(void **state)
{
	struct fixture *f = *state;
	uint64_t sent = 0;

	while (guest_can_send(f))
		guest_out(f, pattern(sent++));
	fd_close(&f->user);
	turn(f, 10);
	assert_true(guest_can_send(f));
}

static void without_a_client_the_newest_output_is_kept_for_the_next(void **state)
{
	struct fixture *f = *state;
	uint64_t total = CONSOLE_RING_BYTES + 1000, got = total - CONSOLE_RING_BYTES;
	uint8_t buf[4096];

	for (uint64_t i = 0; i < total; i++) {
		assert_true(guest_can_send(f));
		guest_out(f, pattern(i));
	}
	f->user = attach_client(f);
	for (int idle = 0; idle < 20 && got < total;) {
		ssize_t n = read(f->user, buf, sizeof(buf));

		idle = n > 0 ? 0 : idle + 1;
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(got++));
		turn(f, 2);
	}
	assert_int_equal(got, total);
	guest_says(f, "new");
	turn(f, 5);
	expect_read(f->user, "new");
}

static void clients_come_and_go_and_the_newest_has_the_console(void **state)
{
	struct fixture *f = *state;
	int second;
	char byte;

	guest_says(f, "one ");
	f->user = attach_client(f);
	expect_read(f->user, "one ");
	assert_int_equal(write(f->user, "a", 1), 1);
	turn(f, 10);
	assert_int_equal(in(f, UART_RX), 'a');
	second = attach_client(f);
	assert_int_equal(read(f->user, &byte, 1), 0);	/* let go */
	expect_read(second, "one ");
	guest_says(f, "two ");
	turn(f, 5);
	expect_read(second, "two ");
	assert_int_equal(write(second, "b", 1), 1);
	turn(f, 10);
	assert_int_equal(in(f, UART_RX), 'b');
	fd_close(&second);
	turn(f, 10);
	assert_int_equal(f->c.out_fd, -1);
	guest_says(f, "three");
	fd_close(&f->user);
	f->user = attach_client(f);
	expect_read(f->user, "one two three");
}

static void a_client_that_stands_still_holds_the_guest_until_it_leaves(void **state)
{
	struct fixture *f = *state;
	uint64_t n = 0;

	f->user = attach_client(f);
	while (guest_can_send(f) && n < MIB(8))
		guest_out(f, pattern(n++));
	assert_true(n >= CONSOLE_RING_BYTES && n < MIB(8));
	turn(f, 10);
	assert_false(guest_can_send(f));
	fd_close(&f->user);
	turn(f, 10);
	assert_true(guest_can_send(f));
}

/* Typed ahead, then gone: the loop must sleep, not spin on the hang-up. */
static void a_client_that_left_unread_input_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct timespec a, b;
	uint8_t buf[8192] = { 0 };

	f->user = attach_client(f);
	assert_int_equal(write(f->user, buf, sizeof(buf)), sizeof(buf));
	turn(f, 10);
	fd_close(&f->user);
	turn(f, 10);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	turn(f, 200);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 100);
	assert_int_equal(f->c.out_fd, -1);
}

static void the_virtio_consoles_output_joins_in(void **state)
{
	struct fixture *f = *state;

	guest_says(f, "early ");
	assert_int_equal(write(f->c.hvc_guest_fd, "late", 4), 4);
	turn(f, 10);
	expect_read(f->user, "early late");
}

static void draining_waits_for_the_reader_but_not_forever(void **state)
{
	struct fixture *f = *state;
	uint64_t sent = 0;

	while (guest_can_send(f))
		guest_out(f, pattern(sent++));
	console_drain(&f->c, 20);	/* nobody reads */
	assert_true(f->c.tail < f->c.head);
}

#define S(f) cmocka_unit_test_setup_teardown(f, setup_stream, teardown)
#define L(f) cmocka_unit_test_setup_teardown(f, setup_listen, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		S(output_is_written_through_at_once),
		S(input_goes_as_fast_as_the_guest_reads),
		S(a_guest_that_does_not_read_stops_the_writer),
		S(a_slow_reader_holds_the_guest_and_loses_nothing),
		S(end_of_input_ends_the_input_only),
		S(a_reader_that_went_away_does_not_hold_the_guest),
		L(without_a_client_the_newest_output_is_kept_for_the_next),
		L(clients_come_and_go_and_the_newest_has_the_console),
		L(a_client_that_stands_still_holds_the_guest_until_it_leaves),
		L(a_client_that_left_unread_input_costs_nothing),
		S(the_virtio_consoles_output_joins_in),
		S(draining_waits_for_the_reader_but_not_forever),
	};

	/* The program ignores SIGPIPE, as the machine process does. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
