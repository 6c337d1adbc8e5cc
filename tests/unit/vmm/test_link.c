/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "hv/fd.h"
#include "link.h"

static struct link_msg in, out;

static int setup(void **state)
{
	static int sv[2];

	memset(&in, 0, sizeof(in));
	memset(&out, 0, sizeof(out));
	*state = sv;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv);
}

static int teardown(void **state)
{
	int *sv = *state;

	fd_close(&sv[0]);
	fd_close(&sv[1]);
	return 0;
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The lowest descriptor that is free: grows when one leaks. */
static int lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static void a_message_carries_its_descriptor(void **state)
{
	int *sv = *state, fd, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	out.type = LINK_OPENED;
	strcpy(out.path, "/images/base.qcow2");
	assert_int_equal(link_send(sv[0], &out, null), 0);
	assert_int_equal(link_recv(sv[1], &in, &fd), 0);
	assert_int_equal(in.type, LINK_OPENED);
	assert_string_equal(in.path, "/images/base.qcow2");
	assert_true(fd >= 0 && same_file(fd, null));
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	close(null);
}

static void a_message_without_operands_has_none(void **state)
{
	int *sv = *state, fd;

	assert_int_equal(link_send_type(sv[0], LINK_STOP), 0);
	assert_int_equal(link_recv(sv[1], &in, &fd), 0);
	assert_int_equal(in.type, LINK_STOP);
	assert_int_equal(fd, -1);
	assert_string_equal(in.path, "");
}

static void strings_are_terminated_on_arrival(void **state)
{
	int *sv = *state, fd;

	memset(&out, 'x', sizeof(out));
	assert_int_equal(link_send(sv[0], &out, -1), 0);
	assert_int_equal(link_recv(sv[1], &in, &fd), 0);
	assert_int_equal(strlen(in.path), sizeof(in.path) - 1);
	assert_int_equal(strlen(in.name), sizeof(in.name) - 1);
}

static void other_lengths_are_a_protocol_error(void **state)
{
	static char big[sizeof(struct link_msg) + 1];
	int *sv = *state, fd;

	assert_int_equal(send(sv[0], "x", 1, 0), 1);
	assert_int_equal(link_recv(sv[1], &in, &fd), -EPROTO);
	assert_int_equal(send(sv[0], big, sizeof(big), 0), sizeof(big));
	assert_int_equal(link_recv(sv[1], &in, &fd), -EPROTO);
	assert_int_equal(fd, -1);
}

static void the_end_and_an_empty_socket_are_told_apart(void **state)
{
	int *sv = *state, fd;

	fd_set_nonblock(sv[1], true);
	assert_int_equal(link_recv(sv[1], &in, &fd), -EAGAIN);
	fd_close(&sv[0]);
	assert_int_equal(link_recv(sv[1], &in, &fd), -EPIPE);
	assert_int_equal(link_send_type(sv[1], LINK_KILL), -EPIPE);	/* and no SIGPIPE */
}

/* Send @n descriptors, which link_send() never does. */
static void send_many(int sock, const void *msg, size_t len, int fd, unsigned n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} u = { 0 };
	struct iovec iov = { (void *)msg, len };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&h);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(n * sizeof(int));
	for (unsigned i = 0; i < n; i++)
		memcpy(CMSG_DATA(cm) + i * sizeof(int), &fd, sizeof(int));
	assert_int_equal(sendmsg(sock, &h, 0), len);
}

static void descriptors_too_many_are_refused_and_none_leaks(void **state)
{
	int *sv = *state, fd, before = lowest_free();

	for (unsigned n = 2; n <= 8; n++) {
		send_many(sv[0], &out, sizeof(out), STDIN_FILENO, n);
		assert_int_equal(link_recv(sv[1], &in, &fd), -EPROTO);
		assert_int_equal(fd, -1);
		assert_int_equal(lowest_free(), before);
	}
	send_many(sv[0], "short", 5, STDIN_FILENO, 1);
	assert_int_equal(link_recv(sv[1], &in, &fd), -EPROTO);
	assert_int_equal(lowest_free(), before);
}

/* ---- the gate over the link --------------------------------------------------------------------- */

struct launcher {
	int sock, fd;
	struct link_msg asked, answer;
};

static void *launcher_answer(void *ctx)
{
	struct launcher *l = ctx;
	int fd;

	if (!link_recv(l->sock, &l->asked, &fd))
		link_send(l->sock, &l->answer, l->fd);
	return NULL;
}

static int ask(struct launcher *l, int sock, int *fd, char path[BLK_PATH_MAX], struct err *e)
{
	pthread_t t;
	int r;

	assert_int_equal(pthread_create(&t, NULL, launcher_answer, l), 0);
	*fd = -1;
	r = link_gate(&sock, "/images/top.qcow2", "base.qcow2", fd, path, e);
	pthread_join(t, NULL);
	return r;
}

static void the_gate_hands_back_what_the_launcher_opened(void **state)
{
	static struct launcher l;
	static char path[BLK_PATH_MAX];
	int *sv = *state, fd;

	l = (struct launcher){ .sock = sv[1], .fd = STDIN_FILENO, .answer = { .type = LINK_OPENED } };
	strcpy(l.answer.path, "/images/base.qcow2");
	assert_int_equal(ask(&l, sv[0], &fd, path, NULL), 0);
	assert_int_equal(l.asked.type, LINK_OPEN_BACKING);
	assert_string_equal(l.asked.path, "/images/top.qcow2");
	assert_string_equal(l.asked.name, "base.qcow2");
	assert_string_equal(path, "/images/base.qcow2");
	assert_true(same_file(fd, STDIN_FILENO));
	close(fd);
}

static void the_gate_passes_a_refusal_on(void **state)
{
	static struct launcher l;
	static char path[BLK_PATH_MAX];
	int *sv = *state, fd, before = lowest_free();
	struct err e = { 0 };

	l = (struct launcher){ .sock = sv[1], .fd = STDIN_FILENO,
			       .answer = { .type = LINK_OPENED, .code = -EACCES } };
	strcpy(l.answer.path, "not in the same folder");
	assert_int_equal(ask(&l, sv[0], &fd, path, &e), -EACCES);
	assert_string_equal(e.msg, "not in the same folder");
	l.answer.code = 0;
	l.fd = -1;	/* "opened", but nothing came */
	assert_int_equal(ask(&l, sv[0], &fd, path, &e), -EPROTO);
	l.fd = STDIN_FILENO;
	l.answer.type = LINK_STOP;	/* not the answer to this */
	assert_int_equal(ask(&l, sv[0], &fd, path, &e), -EPROTO);
	assert_int_equal(lowest_free(), before);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_message_carries_its_descriptor),
		T(a_message_without_operands_has_none),
		T(strings_are_terminated_on_arrival),
		T(other_lengths_are_a_protocol_error),
		T(the_end_and_an_empty_socket_are_told_apart),
		T(descriptors_too_many_are_refused_and_none_leaks),
		T(the_gate_hands_back_what_the_launcher_opened),
		T(the_gate_passes_a_refusal_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
