/* SPDX-License-Identifier: MIT */
/* Messages with at most one descriptor over a SEQPACKET socket. */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/fd.h"

union link_control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(sizeof(int))];
};

int link_send(int sock, const struct link_msg *m, int fd)
{
	struct iovec iov = { .iov_base = (void *)m, .iov_len = sizeof(*m) };
	union link_control c = { 0 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;

	if (fd >= 0) {
		h.msg_control = c.buf;
		h.msg_controllen = sizeof(c.buf);
		cm = CMSG_FIRSTHDR(&h);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(int));
	}
	while (sendmsg(sock, &h, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int link_send_type(int sock, enum link_type type)
{
	struct link_msg *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->type = type;
	r = link_send(sock, m, -1);
	free(m);
	return r;
}

/* Take the one descriptor; CMSG_SPACE rounds up, so that a second one fits beside it: -EPROTO. */
static int link_take_fd(struct msghdr *h, int *fd)
{
	struct cmsghdr *cm = CMSG_FIRSTHDR(h);
	size_t n;
	int one;

	if (!cm || cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
		return 0;
	n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	for (size_t i = 0; i < n; i++) {
		memcpy(&one, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
		if (n == 1)
			*fd = one;
		else
			fd_close(&one);
	}
	return n > 1 ? -EPROTO : 0;
}

int link_recv(int sock, struct link_msg *m, int *fd)
{
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	union link_control c = { 0 };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = c.buf,
			    .msg_controllen = sizeof(c.buf) };
	ssize_t n;
	int r;

	*fd = -1;
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	r = link_take_fd(&h, fd);
	if (r || n != (ssize_t)sizeof(*m) || h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		fd_close(fd);
		return -EPROTO;
	}
	m->path[sizeof(m->path) - 1] = 0;
	m->name[sizeof(m->name) - 1] = 0;
	return 0;
}

static int link_ask(int sock, struct link_msg *m, int *fd, char path[BLK_PATH_MAX], struct err *e)
{
	int r = link_send(sock, m, -1);

	if (!r)
		r = link_recv(sock, m, fd);
	if (!r && m->type != LINK_OPENED)
		r = -EPROTO;
	if (r) {
		fd_close(fd);
		return err_set(e, r, "asking the launcher for '%s': %s", m->name, strerror(-r));
	}
	if (m->code < 0 || *fd < 0) {
		fd_close(fd);
		return err_set(e, m->code < 0 ? m->code : -EPROTO, "%s", m->path);
	}
	memcpy(path, m->path, BLK_PATH_MAX);
	return 0;
}

int link_gate(void *ctx, const char *parent_path, const char *name, int *fd,
	      char path[BLK_PATH_MAX], struct err *e)
{
	CLEANUP_FREE struct link_msg *m = calloc(1, sizeof(*m));

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->type = LINK_OPEN_BACKING;
	snprintf(m->path, sizeof(m->path), "%s", parent_path);
	snprintf(m->name, sizeof(m->name), "%s", name);
	return link_ask(*(const int *)ctx, m, fd, path, e);
}

/* An order that overtook the answer is kept for later. */
static int link_await_unpacked(int sock, struct link_msg *m, struct link_unpacked *u)
{
	for (;;) {
		int r = link_recv(sock, m, &u->fd);

		if (r || m->type == LINK_UNPACKED)
			return r;
		fd_close(&u->fd);
		if (m->type != LINK_STOP && m->type != LINK_KILL)
			return -EPROTO;
		u->order = MAX(u->order, m->type);
	}
}

int link_unpack(int sock, int payload_fd, struct link_unpacked *u, struct err *e)
{
	CLEANUP_FREE struct link_msg *m = calloc(1, sizeof(*m));
	int r;

	*u = (struct link_unpacked){ .fd = -1 };
	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->type = LINK_UNPACK;
	r = link_send(sock, m, payload_fd);
	if (!r)
		r = link_await_unpacked(sock, m, u);
	if (r)
		return err_set(e, r, "unpacking the kernel: %s",
			       r == -EPIPE ? "the launcher has left" : strerror(-r));
	memcpy(u->digest, m->name, sizeof(u->digest));
	if (m->code < 0 || u->fd < 0) {
		fd_close(&u->fd);
		return err_set(e, m->code < 0 ? m->code : -EPROTO, "%s", m->path);
	}
	u->cached = !m->code;
	snprintf(u->how, sizeof(u->how), "%.63s", m->path);
	return 0;
}
