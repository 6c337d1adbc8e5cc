/* SPDX-License-Identifier: MIT */
/* Raw mode, and pumps between the terminal and the machine process. */
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "hv/fd.h"

/* atexit() takes no argument, so the saved state has to be here. */
static struct termios terminal_saved;
static bool terminal_is_raw;

void terminal_restore(void)
{
	if (terminal_is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_saved);
	terminal_is_raw = false;
}

void terminal_raw(void)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &terminal_saved) < 0)
		return;
	t = terminal_saved;
	cfmakeraw(&t);
	t.c_oflag |= OPOST | ONLCR;	/* messages on stderr keep their line starts */
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) < 0)
		return;
	terminal_is_raw = true;
	atexit(terminal_restore);
}

static void pump_turn(struct pump *p);

static void pump_arm(struct pump *p)
{
	if (p->from.active)
		loop_mod(&p->from, p->len ? 0 : EPOLLIN);
	if (p->to.active)
		loop_mod(&p->to, p->len || p->from_ready ? EPOLLOUT : 0);
}

static void pump_end(struct pump *p)
{
	if (p->ended)
		return;
	p->ended = true;
	pump_stop(p);
	if (p->on_end)
		p->on_end(p->ctx);
}

static bool pump_fill(struct pump *p)
{
	ssize_t n = read(p->from.fd, p->buf, sizeof(p->buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0 || (p->filter && !p->filter(p->ctx, p->buf, (size_t)n))) {
		pump_end(p);
		return false;
	}
	p->len = (size_t)n;
	return true;
}

static void pump_empty(struct pump *p)
{
	ssize_t n = write(p->to.fd, p->buf, p->len);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		p->len = 0;	/* nobody reads any more; the guest goes on */
		return;
	}
	for (size_t i = 0; n > 0 && i < p->len - (size_t)n; i++)
		p->buf[i] = p->buf[(size_t)n + i];
	p->len -= n > 0 ? (size_t)n : 0;
}

static void pump_turn(struct pump *p)
{
	if (p->len)
		pump_empty(p);
	pump_arm(p);
}

static void pump_on_from(void *ctx, uint32_t events)
{
	struct pump *p = ctx;

	(void)events;
	if (!p->len)
		pump_fill(p);
	while (p->len && p->to_ready)	/* a file may take less than all at once */
		pump_empty(p);
	if (!p->ended)
		pump_arm(p);
}

static void pump_on_to(void *ctx, uint32_t events)
{
	struct pump *p = ctx;

	(void)events;
	if (!p->len && p->from_ready && !pump_fill(p))
		return;
	pump_turn(p);
}

int pump_start(struct pump *p, struct loop *loop, int from, int to)
{
	int r;

	p->loop = loop;
	r = loop_add(loop, &p->from, from, EPOLLIN, pump_on_from, p);
	if (r == -EPERM) {	/* a regular file, or /dev/null: never blocks */
		p->from_ready = true;
		p->from.fd = from;
		r = 0;
	}
	if (r)
		return r;
	r = loop_add(loop, &p->to, to, 0, pump_on_to, p);
	if (r == -EPERM) {
		p->to_ready = true;
		p->to.fd = to;
		r = 0;
	}
	if (!r)
		pump_arm(p);
	return r;
}

void pump_stop(struct pump *p)
{
	loop_del(&p->from);
	loop_del(&p->to);
}

void pump_drain(struct pump *p, int from, int to)
{
	struct pollfd f = { .fd = from, .events = POLLIN };

	pump_stop(p);
	if (p->len && fd_write_full(to, p->buf, p->len))
		return;
	while (poll(&f, 1, 0) == 1) {
		ssize_t n = read(from, p->buf, sizeof(p->buf));

		if (n <= 0 || fd_write_full(to, p->buf, (size_t)n))
			return;
	}
}
