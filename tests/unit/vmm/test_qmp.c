/* SPDX-License-Identifier: MIT */
/* The control socket over a real listening socket; the loop turns until the client has its answer. */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "hv/fd.h"
#include "qmp.h"

#define LINE_MAX_BYTES KIB(512)

struct fixture {
	struct loop *loop;
	struct loop_timer timer;
	struct qmp *qmp;
	int listen_fd, client;
	struct sockaddr_un sa;
	socklen_t sa_len;
	unsigned stops, conts, powerdowns, resets, quits;
	bool event_on_stop, hang_up_on_stop;
	char line[LINE_MAX_BYTES];
};

static const char *op_status(void *ctx)
{
	return ((struct fixture *)ctx)->stops ? "paused" : "running";
}
static void op_stop(void *ctx)
{
	struct fixture *f = ctx;

	f->stops++;
	if (f->hang_up_on_stop)
		fd_close(&f->client);
	if (f->event_on_stop)
		qmp_event(f->qmp, "STOP", NULL);
}
static void op_cont(void *ctx)
{
	((struct fixture *)ctx)->conts++;
}
static void op_powerdown(void *ctx)
{
	((struct fixture *)ctx)->powerdowns++;
}
static void op_reset(void *ctx)
{
	((struct fixture *)ctx)->resets++;
}
static void op_quit(void *ctx)
{
	((struct fixture *)ctx)->quits++;
}
static unsigned op_cpus(void *ctx)
{
	(void)ctx;
	return 3;
}

static void on_timer(void *ctx)
{
	loop_stop(((struct fixture *)ctx)->loop, 0);
}

/* Let the server work for @ms. */
static void turn(struct fixture *f, unsigned ms)
{
	loop_timer_arm(&f->timer, ms);
	assert_int_equal(loop_run(f->loop), 0);
}

static int client_connect(struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&f->sa, f->sa_len), 0);
	return fd;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct qmp_ops ops = { "web", op_status, op_stop, op_cont, op_powerdown, op_reset, op_quit,
			       op_cpus, f };

	/* Linux picks an abstract name for an address without one. */
	f->sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	f->sa_len = sizeof(sa_family_t);
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (bind(f->listen_fd, (struct sockaddr *)&f->sa, f->sa_len) || listen(f->listen_fd, 32))
		return -1;
	f->sa_len = sizeof(f->sa);
	getsockname(f->listen_fd, (struct sockaddr *)&f->sa, &f->sa_len);
	*state = f;
	if (loop_new(&f->loop, NULL) || loop_timer_add(f->loop, &f->timer, on_timer, f) ||
	    qmp_new(f->loop, f->listen_fd, &ops, &f->qmp, NULL))
		return -1;
	f->client = client_connect(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	qmp_free(f->qmp);
	loop_timer_del(&f->timer);
	loop_free(f->loop);
	fd_close(&f->listen_fd);
	fd_close(&f->client);
	free(f);
	return 0;
}

/* The next line from the server, NULL if it closed; the loop turns meanwhile. */
static const char *line_from(struct fixture *f, int fd)
{
	size_t n = 0;

	for (unsigned tries = 0; tries < 200 && n < sizeof(f->line) - 1;) {
		ssize_t r = recv(fd, f->line + n, 1, MSG_DONTWAIT);

		if (r == 0 || (r < 0 && errno != EAGAIN))
			return NULL;
		if (r < 0) {
			turn(f, 5);
			tries++;
			continue;
		}
		if (f->line[n++] == '\n') {
			f->line[n] = 0;
			return f->line;
		}
	}
	fail_msg("no line from the server");
	return NULL;
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(send(f->client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

#define EXPECT(f, part)                                                   \
	do {                                                              \
		const char *l_ = line_from(f, (f)->client);               \
		assert_non_null(l_);                                      \
		if (!strstr(l_, part))                                    \
			fail_msg("no %s in %s", part, l_);                \
	} while (0)

static void negotiate(struct fixture *f)
{
	EXPECT(f, "\"QMP\"");
	say(f, "{\"execute\":\"qmp_capabilities\"}\n");
	EXPECT(f, "{\"return\":{}}");
}

static void a_client_is_greeted_and_must_negotiate(void **state)
{
	struct fixture *f = *state;

	EXPECT(f, "\"capabilities\":[]");
	say(f, "{\"execute\":\"query-status\"}\n");
	EXPECT(f, "CommandNotFound");
	say(f, "{\"execute\":\"qmp_capabilities\"}\n");
	EXPECT(f, "{\"return\":{}}");
	say(f, "{\"execute\":\"qmp_capabilities\"}\n");
	EXPECT(f, "already complete");
}

static void every_command_listed_is_answered(void **state)
{
	static const char *const order[] = { "stop", "cont", "system_powerdown", "system_reset", "quit" };
	struct fixture *f = *state;
	json_t *reply, *list, *one;
	char text[128];
	size_t i;

	negotiate(f);
	say(f, "{\"execute\":\"query-commands\"}\n");
	reply = json_loads(line_from(f, f->client), 0, NULL);
	list = json_object_get(reply, "return");
	assert_true(json_array_size(list) >= 12);
	json_array_foreach(list, i, one) {
		const char *name = json_string_value(json_object_get(one, "name"));

		if (!strcmp(name, "qmp_capabilities"))
			continue;
		snprintf(text, sizeof(text), "{\"execute\":\"%s\"}\n", name);
		say(f, text);
		EXPECT(f, "\"return\"");
	}
	json_decref(reply);
	for (i = 0; i < ARRAY_SIZE(order); i++)
		assert_int_equal((&f->stops)[i], 1);
}

static void queries_tell_about_the_machine(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	say(f, "{\"execute\":\"query-status\"}\n{\"execute\":\"query-name\"}\n"
	       "{\"execute\":\"query-cpus-fast\"}\n{\"execute\":\"query-kvm\"}\n");
	EXPECT(f, "\"status\":\"running\"");
	EXPECT(f, "\"name\":\"web\"");
	EXPECT(f, "\"cpu-index\":2");
	EXPECT(f, "\"present\":true");
}

static void the_id_comes_back_whatever_it_is(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	say(f, "{\"execute\":\"query-name\",\"id\":\"a\"}\n");
	EXPECT(f, "\"id\":\"a\"");
	say(f, "{\"execute\":\"query-name\",\"id\":{\"n\":[1,2]}}\n");
	EXPECT(f, "\"id\":{\"n\":[1,2]}");
	say(f, "{\"execute\":\"nope\",\"id\":7}\n");
	EXPECT(f, "\"id\":7");
}

static void half_messages_wait_and_several_at_once_are_all_answered(void **state)
{
	struct fixture *f = *state;
	const char *text = "{\"execute\":\"query-name\",\"x\":\"}{\\\"\"}";

	negotiate(f);
	for (const char *p = text; *p; p++) {
		char one[] = { *p, 0 };

		say(f, one);
		turn(f, 1);
	}
	EXPECT(f, "\"web\"");	/* no newline was needed */
	say(f, "{\"execute\":\"stop\"}{\"execute\":\"cont\"}\r\n\r\n  {\"execute\":\"query-name\"}\n");
	EXPECT(f, "return");
	EXPECT(f, "return");
	EXPECT(f, "\"web\"");
	assert_int_equal(f->stops, 1);
	assert_int_equal(f->conts, 1);
}

static void garbage_is_answered_and_the_next_request_served(void **state)
{
	static const char *const bad[] = { "hello\n", "{]}\n", "[1,2]\n", "{\"execute\":}\n", "{}\n",
					   "{\"execute\":5}\n", "{\"execute\":\"\\ud800\"}\n", "}}\n",
					   "{\"execute\":\"stop\",\"execute\":\"quit\"}\n", "\xff\xfe{\n}\n" };
	struct fixture *f = *state;

	negotiate(f);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		say(f, bad[i]);
		EXPECT(f, "\"error\"");
		say(f, "{\"execute\":\"query-name\",\"id\":1}\n");
		do
			assert_non_null(line_from(f, f->client));
		while (!strstr(f->line, "\"id\":1"));
	}
	assert_int_equal(f->stops + f->quits, 0);
}

static void deep_nesting_is_refused(void **state)
{
	struct fixture *f = *state;
	char *deep = malloc(40002);

	negotiate(f);
	memset(deep, '[', 20000);
	memset(deep + 20000, ']', 20000);
	strcpy(deep + 40000, "\n");
	say(f, deep);
	EXPECT(f, "JSON parse error");
	free(deep);
}

static void a_request_past_64_kib_ends_the_client(void **state)
{
	struct fixture *f = *state;
	char *big = malloc(QMP_REQUEST_MAX + 2);

	negotiate(f);
	memset(big, 'x', QMP_REQUEST_MAX + 1);
	memcpy(big, "{\"execute\":\"", 12);
	big[QMP_REQUEST_MAX + 1] = 0;
	fd_set_nonblock(f->client, true);
	for (size_t off = 0; off < QMP_REQUEST_MAX + 1;) {
		ssize_t n = send(f->client, big + off, QMP_REQUEST_MAX + 1 - off, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			break;	/* dropped already */
		off += n > 0 ? (size_t)n : 0;
		turn(f, 1);
	}
	assert_null(line_from(f, f->client));
	free(big);
	fd_close(&f->client);
	f->client = client_connect(f);	/* others are served */
	negotiate(f);
}

static void events_reach_those_who_negotiated(void **state)
{
	struct fixture *f = *state;
	int other = client_connect(f);

	negotiate(f);
	assert_non_null(strstr(line_from(f, other), "QMP"));
	qmp_event(f->qmp, "POWERDOWN", NULL);
	qmp_event(f->qmp, "SHUTDOWN", json_pack("{s:b}", "guest", 1));
	EXPECT(f, "\"event\":\"POWERDOWN\"");
	EXPECT(f, "\"data\":{\"guest\":true}");
	assert_non_null(strstr(f->line, "\"timestamp\":{\"seconds\":"));
	turn(f, 10);
	assert_int_equal(recv(other, f->line, 1, MSG_DONTWAIT), -1);
	fd_close(&other);
	qmp_event(NULL, "RESET", json_object());	/* no socket, no harm */
}

static void a_client_that_never_reads_is_dropped(void **state)
{
	struct fixture *f = *state;
	bool gone = false;

	negotiate(f);
	fd_set_nonblock(f->client, true);
	for (int i = 0; i < 20000 && !gone; i++) {
		const char *text = "{\"execute\":\"query-commands\"}\n";

		gone = send(f->client, text, strlen(text), MSG_NOSIGNAL) < 0 && errno == EPIPE;
		if (i % 16 == 0)
			turn(f, 1);
	}
	assert_true(gone);
	fd_close(&f->client);
	f->client = client_connect(f);
	negotiate(f);
}

static void past_the_limit_the_oldest_silent_client_goes(void **state)
{
	struct fixture *f = *state;
	int more[QMP_CLIENTS_MAX];

	negotiate(f);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		more[i] = client_connect(f);
		assert_non_null(line_from(f, more[i]));
	}
	assert_null(line_from(f, more[0]));	/* the first of those who said nothing */
	turn(f, 20);
	assert_int_equal(recv(more[1], f->line, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	say(f, "{\"execute\":\"query-status\"}\n");
	EXPECT(f, "return");
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		fd_close(&more[i]);
}

static void past_the_limit_the_oldest_goes_if_all_negotiated(void **state)
{
	struct fixture *f = *state;
	const char *caps = "{\"execute\":\"qmp_capabilities\"}\n";
	int more[QMP_CLIENTS_MAX];

	negotiate(f);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		more[i] = client_connect(f);
		assert_non_null(line_from(f, more[i]));
		assert_int_equal(send(more[i], caps, strlen(caps), MSG_NOSIGNAL), strlen(caps));
		assert_non_null(line_from(f, more[i]));
	}
	assert_null(line_from(f, f->client));
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		fd_close(&more[i]);
}

static void what_came_before_the_end_of_input_is_answered(void **state)
{
	struct fixture *f = *state;

	EXPECT(f, "QMP");
	say(f, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-name\"}");
	assert_int_equal(shutdown(f->client, SHUT_WR), 0);
	EXPECT(f, "return");
	EXPECT(f, "\"web\"");
	assert_null(line_from(f, f->client));
}

/* The event that a command causes fails first; its answer must not touch the client again. */
static void a_client_lost_inside_its_own_command_is_harmless(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	f->event_on_stop = f->hang_up_on_stop = true;
	say(f, "{\"execute\":\"stop\"}\n{\"execute\":\"cont\"}\n");
	turn(f, 20);
	assert_int_equal(f->stops, 1);
	assert_int_equal(f->conts, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_client_is_greeted_and_must_negotiate),
		T(every_command_listed_is_answered),
		T(queries_tell_about_the_machine),
		T(the_id_comes_back_whatever_it_is),
		T(half_messages_wait_and_several_at_once_are_all_answered),
		T(garbage_is_answered_and_the_next_request_served),
		T(deep_nesting_is_refused),
		T(a_request_past_64_kib_ends_the_client),
		T(events_reach_those_who_negotiated),
		T(a_client_that_never_reads_is_dropped),
		T(past_the_limit_the_oldest_silent_client_goes),
		T(past_the_limit_the_oldest_goes_if_all_negotiated),
		T(what_came_before_the_end_of_input_is_answered),
		T(a_client_lost_inside_its_own_command_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
