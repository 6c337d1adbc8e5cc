/* SPDX-License-Identifier: MIT */
/* Bytes from a client of the control socket, in pieces whose lengths are the input's too. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hv/fd.h"
#include "qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct qmp *qmp;

static const char *op_status(void *ctx)
{
	(void)ctx;
	return "running";
}
static void op_event(void *ctx)
{
	(void)ctx;
	qmp_event(qmp, "STOP", NULL);
}
static unsigned op_cpus(void *ctx)
{
	(void)ctx;
	return 1;
}

/* One turn of the loop: it stops behind what is ready now. */
static void turn(void)
{
	loop_stop(loop, 0);
	loop_run(loop);
}

static void on_idle(void *ctx)
{
	(void)ctx;
	loop_stop(loop, 0);
}

static void drain(int fd)
{
	char buf[4096];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static void feed(int fd, struct loop_timer *idle, const uint8_t *data, size_t size)
{
	static const char caps[] = "{\"execute\":\"qmp_capabilities\"}";

	send(fd, caps, sizeof(caps) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (size) {
		size_t n = MIN((size_t)data[0] * 16 + 1, size - 1);

		send(fd, data + 1, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		loop_timer_arm(idle, 1);
		loop_run(loop);
		if (data[0] & 1)
			drain(fd);
		data += n + 1;
		size -= n + 1;
	}
	turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct qmp_ops ops = { "vm", op_status, op_event, op_event, op_event,
				     op_event, op_event, op_cpus, NULL };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa_family_t);
	CLEANUP_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct loop_timer idle = { 0 };

	if (size > KIB(256) || bind(listener, (struct sockaddr *)&sa, len) || listen(listener, 1))
		return 0;
	len = sizeof(sa);
	if (getsockname(listener, (struct sockaddr *)&sa, &len) ||
	    connect(fd, (struct sockaddr *)&sa, len) || loop_new(&loop, NULL))
		return 0;
	if (!loop_timer_add(loop, &idle, on_idle, NULL) &&
	    !qmp_new(loop, listener, &ops, &qmp, NULL)) {
		feed(fd, &idle, data, size);
		qmp_free(qmp);
	}
	loop_timer_del(&idle);
	loop_free(loop);
	return 0;
}
