/* SPDX-License-Identifier: MIT */
/*
 * The console hub. Invariant: bytes [tail, head) are not yet written to out_fd; bytes
 * [head - kept, head) are still in the ring, for a client that attaches later.
 * Lock order: serial.lock, then console.lock.
 */
#include "console.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/fd.h"

static void console_wake(struct console *c)
{
	uint64_t one = 1;

	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		return;	/* saturated: pending anyway */
}

/* Write what is queued without blocking. Lock held. False: the reader is gone. */
static bool console_write_out(struct console *c)
{
	while (c->tail < c->head && c->out_fd >= 0) {
		size_t at = c->tail % CONSOLE_RING_BYTES;
		size_t n = MIN(c->head - c->tail, (uint64_t)(CONSOLE_RING_BYTES - at));
		ssize_t w = write(c->out_fd, c->ring + at, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return errno == EAGAIN;
		c->tail += (uint64_t)w;
	}
	return true;
}

static bool console_append(struct console *c, const uint8_t *data, size_t len)
{
	uint64_t queued = c->head - c->tail;

	if (c->out_fd >= 0 && queued + len > CONSOLE_RING_BYTES) {
		if (!c->cfg.lossy)
			return false;
		c->tail += queued + len - CONSOLE_RING_BYTES;
	}
	for (size_t i = 0; i < len; i++)
		c->ring[(c->head + i) % CONSOLE_RING_BYTES] = data[i];
	c->head += len;
	c->kept = MIN(c->kept + len, (uint64_t)CONSOLE_RING_BYTES);
	if (c->out_fd < 0)
		c->tail = c->head;	/* nobody reads: only the scrollback remembers */
	return true;
}

/* serial_sink.tx: vCPU thread, serial.lock held. */
static bool console_tx(void *ctx, uint8_t byte)
{
	struct console *c = ctx;
	bool was_empty, taken;

	pthread_mutex_lock(&c->lock);
	was_empty = c->head == c->tail;
	taken = console_append(c, &byte, 1);
	if (!taken)
		c->holding = true;
	/* Behind queued bytes the main thread writes; an empty queue is written through. */
	if (was_empty && (!console_write_out(c) || c->tail < c->head))
		console_wake(c);
	pthread_mutex_unlock(&c->lock);
	return taken;
}

/* serial_sink.rx_room: vCPU thread, serial.lock held. */
static void console_rx_room(void *ctx)
{
	struct console *c = ctx;

	if (__atomic_load_n(&c->pending_len, __ATOMIC_RELAXED))
		console_wake(c);
}

struct serial_sink console_sink(struct console *c)
{
	return (struct serial_sink){ .tx = console_tx, .rx_room = console_rx_room, .ctx = c };
}

/* ---- main thread ---------------------------------------------------------------------------- */

/* Wait for input while there is room for it, for the reader while something is queued. */
static void console_rearm(struct console *c)
{
	uint32_t in = c->pending_len < sizeof(c->pending) ? EPOLLIN : 0;
	bool left;

	pthread_mutex_lock(&c->lock);
	left = c->tail < c->head;
	pthread_mutex_unlock(&c->lock);
	if (c->out.active)
		loop_mod(&c->out, left ? EPOLLOUT : 0);
	else if (left)
		in |= EPOLLOUT;	/* one descriptor for both ways */
	if (c->cfg.listen_fd >= 0)
		in |= EPOLLHUP;	/* a client that leaves is let go even while there is no room */
	if (c->in.active)
		loop_mod(&c->in, in);
	if (c->hvc.active)
		loop_mod(&c->hvc, left ? 0 : EPOLLIN);
}

static void console_offer_input(struct console *c)
{
	size_t n = 0;

	if (!c->pending_len)
		return;
	if (c->cfg.input_to_hvc) {
		ssize_t w = write(c->hvc_fd, c->pending, c->pending_len);

		n = w > 0 ? (size_t)w : 0;
	} else if (c->serial) {
		n = serial_rx(c->serial, c->pending, c->pending_len);
	}
	memmove(c->pending, c->pending + n, c->pending_len - n);
	__atomic_store_n(&c->pending_len, c->pending_len - n, __ATOMIC_RELAXED);
	console_rearm(c);
}

static void console_drop_client(struct console *c);
static void console_flush(struct console *c);

static void console_on_input(void *ctx, uint32_t events)
{
	struct console *c = ctx;
	ssize_t n;

	if (events & EPOLLOUT)
		console_flush(c);
	/* A hang-up is reported even while there is no room to read: no waiting for it then. */
	if (events & (EPOLLHUP | EPOLLERR) && c->pending_len == sizeof(c->pending) && c->in.active &&
	    c->cfg.listen_fd >= 0)
		console_drop_client(c);
	if (!(events & ~(uint32_t)EPOLLOUT) || !c->in.active || c->pending_len == sizeof(c->pending))
		return;
	n = read(c->in.fd, c->pending + c->pending_len, sizeof(c->pending) - c->pending_len);
	if (n > 0) {
		__atomic_store_n(&c->pending_len, c->pending_len + (size_t)n, __ATOMIC_RELAXED);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		/* End of input ends the input only; a client that hung up is let go. */
		if (c->cfg.listen_fd >= 0)
			console_drop_client(c);
		else
			loop_del(&c->in);
		return;
	}
	console_offer_input(c);
}

/* Drain the ring; keep EPOLLOUT armed exactly while something is left. */
static void console_flush(struct console *c)
{
	bool alive, held, left;

	pthread_mutex_lock(&c->lock);
	alive = console_write_out(c);
	left = c->tail < c->head;
	held = c->holding && !left;
	if (held)
		c->holding = false;
	if (!alive) {
		c->tail = c->head;
		held = c->holding;
		c->holding = false;
	}
	pthread_mutex_unlock(&c->lock);
	if (!alive && c->cfg.listen_fd >= 0)
		console_drop_client(c);
	console_rearm(c);
	if (held && c->serial)
		serial_tx_ready(c->serial);
}

static void console_on_output(void *ctx, uint32_t events)
{
	(void)events;
	console_flush(ctx);
}

static void console_on_wake(void *ctx, uint32_t events)
{
	struct console *c = ctx;
	uint64_t n;

	(void)events;
	if (read(c->wake_fd, &n, sizeof(n)) < 0)
		return;
	console_flush(c);
	console_offer_input(c);
}

/* Output of the virtio console joins the serial port's. */
static void console_on_hvc(void *ctx, uint32_t events)
{
	struct console *c = ctx;
	uint8_t buf[4096];
	uint64_t room;
	ssize_t n;

	(void)events;
	pthread_mutex_lock(&c->lock);
	room = c->out_fd >= 0 ? CONSOLE_RING_BYTES - (c->head - c->tail) : sizeof(buf);
	n = room ? read(c->hvc_fd, buf, MIN(room, (uint64_t)sizeof(buf))) : 0;
	if (n > 0)
		console_append(c, buf, (size_t)n);
	pthread_mutex_unlock(&c->lock);
	console_flush(c);
	if (!n && room)
		loop_del(&c->hvc);
}

static void console_drop_client(struct console *c)
{
	int fd;

	pthread_mutex_lock(&c->lock);
	fd = c->out_fd;
	c->out_fd = -1;
	c->tail = c->head;
	pthread_mutex_unlock(&c->lock);
	loop_del(&c->in);
	loop_del(&c->out);
	fd_close(&fd);
	console_flush(c);	/* the UART may have waited for this reader */
}

/* A regular file cannot be waited for, and need not. */
static int console_watch(struct console *c, int in_fd, int out_fd)
{
	int r = 0;

	if (in_fd >= 0)
		r = loop_add(c->loop, &c->in, in_fd, EPOLLIN, console_on_input, c);
	if ((!r || r == -EPERM) && out_fd >= 0 && out_fd != in_fd)
		r = loop_add(c->loop, &c->out, out_fd, 0, console_on_output, c);
	return r == -EPERM ? 0 : r;
}

static void console_on_client(void *ctx, uint32_t events)
{
	struct console *c = ctx;
	int fd = accept4(c->cfg.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (c->out_fd >= 0)
		console_drop_client(c);	/* the newest client has the console */
	if (console_watch(c, fd, fd)) {
		fd_close(&fd);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->out_fd = fd;
	c->tail = c->head - c->kept;
	pthread_mutex_unlock(&c->lock);
	console_flush(c);
}

int console_init(struct console *c, struct loop *loop, const struct console_cfg *cfg,
		 struct err *e)
{
	int sv[2], r;

	*c = (struct console){ .loop = loop, .cfg = *cfg, .out_fd = cfg->out_fd, .wake_fd = -1,
			       .hvc_fd = -1, .hvc_guest_fd = -1 };
	pthread_mutex_init(&c->lock, NULL);
	c->ring = malloc(CONSOLE_RING_BYTES);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!c->ring || c->wake_fd < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0) {
		r = err_errno(e, "console");
		console_fini(c);
		return r;
	}
	c->hvc_fd = sv[0];
	c->hvc_guest_fd = sv[1];
	r = loop_add(loop, &c->wake, c->wake_fd, EPOLLIN, console_on_wake, c);
	if (!r)
		r = loop_add(loop, &c->hvc, c->hvc_fd, EPOLLIN, console_on_hvc, c);
	if (!r)
		r = console_watch(c, cfg->in_fd, cfg->out_fd);
	if (!r && cfg->listen_fd >= 0)
		r = loop_add(loop, &c->listener, cfg->listen_fd, EPOLLIN, console_on_client, c);
	if (r) {
		console_fini(c);
		return err_set(e, r, "console: %s", strerror(-r));
	}
	return 0;
}

void console_attach(struct console *c, struct serial *s)
{
	c->serial = s;
	c->holding = false;
	console_offer_input(c);
}

bool console_drain(struct console *c, unsigned ms)
{
	struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };

	while (c->out_fd >= 0 && console_write_out(c) && c->tail < c->head)
		if (poll(&p, 1, (int)ms) <= 0)
			return false;
	return true;
}

void console_fini(struct console *c)
{
	loop_del(&c->in);
	loop_del(&c->out);
	loop_del(&c->listener);
	loop_del(&c->wake);
	loop_del(&c->hvc);
	if (c->cfg.listen_fd >= 0)
		fd_close(&c->out_fd);	/* a client's */
	fd_close(&c->wake_fd);
	fd_close(&c->hvc_fd);
	fd_close(&c->hvc_guest_fd);
	free(c->ring);
	c->ring = NULL;
	pthread_mutex_destroy(&c->lock);
}
