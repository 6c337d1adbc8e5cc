/* SPDX-License-Identifier: MIT */
/*
 * GSI routes and eventfds. Invariants: a GSI at or above GSI_MSI_BASE belongs to at most
 * one irq_msi; its route exists exactly while the irqfd is attached. The routing table
 * is rewritten whole on each change, as KVM wants it.
 */
#include "irq.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hv/bitmap.h"
#include "hv/fd.h"

int irq_init(struct irq *q, const struct irq_backend *backend, void *ctx, struct err *e)
{
	int r;

	*q = (struct irq){ .backend = backend, .ctx = ctx };
	pthread_mutex_init(&q->lock, NULL);
	r = backend->set_routes(ctx, q->routes, 0);
	return r ? err_set(e, r, "setting up interrupt routes") : 0;
}

void irq_fini(struct irq *q)
{
	pthread_mutex_destroy(&q->lock);
}

int irq_line_init(struct irq *q, struct irq_line *l, unsigned gsi, struct err *e)
{
	int r;

	*l = (struct irq_line){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .gsi = gsi };
	if (l->fd < 0)
		return err_errno(e, "eventfd for interrupt %u", gsi);
	r = q->backend->irqfd(q->ctx, l->fd, gsi, true);
	if (r) {
		fd_close(&l->fd);
		return err_set(e, r, "irqfd for interrupt %u", gsi);
	}
	return 0;
}

void irq_line_fini(struct irq *q, struct irq_line *l)
{
	if (l->fd < 0)
		return;
	q->backend->irqfd(q->ctx, l->fd, l->gsi, false);
	fd_close(&l->fd);
}

static void eventfd_signal(int fd)
{
	uint64_t one = 1;

	/* Non-blocking: the only failure is a saturated counter, and then it is pending. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

void irq_line_pulse(const struct irq_line *l)
{
	eventfd_signal(l->fd);
}

int irq_msi_init(struct irq *q, struct irq_msi *m)
{
	size_t slot;

	*m = (struct irq_msi){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (m->fd < 0)
		return -errno;
	pthread_mutex_lock(&q->lock);
	slot = bitmap_next_zero(q->gsi_used, IRQ_MSI_MAX, 0);
	if (slot < IRQ_MSI_MAX)
		bitmap_set(q->gsi_used, slot);
	pthread_mutex_unlock(&q->lock);
	if (slot == IRQ_MSI_MAX) {
		fd_close(&m->fd);
		return -ENOSPC;
	}
	m->gsi = (unsigned)(GSI_MSI_BASE + slot);
	return 0;
}

/* Caller holds the lock. What the backend refused is not remembered as set. */
static int irq_route_set(struct irq *q, unsigned gsi, uint64_t addr, uint32_t data)
{
	struct irq_route new = { .gsi = gsi, .addr = addr, .data = data }, old = { 0 };
	size_t i = 0, n = q->n_routes;
	int r;

	while (i < n && q->routes[i].gsi != gsi)
		i++;
	if (i < n) {
		old = q->routes[i];
		if (old.addr == addr && old.data == data)
			return 0;
	} else {
		q->n_routes++;	/* one route a GSI, so IRQ_MSI_MAX suffice */
	}
	q->routes[i] = new;
	r = q->backend->set_routes(q->ctx, q->routes, q->n_routes);
	if (r) {
		q->routes[i] = old;
		q->n_routes = n;
	}
	return r;
}

/* Caller holds the lock. */
static void irq_route_drop(struct irq *q, unsigned gsi)
{
	for (size_t i = 0; i < q->n_routes; i++) {
		if (q->routes[i].gsi != gsi)
			continue;
		q->routes[i] = q->routes[--q->n_routes];
		q->backend->set_routes(q->ctx, q->routes, q->n_routes);
		return;
	}
}

int irq_msi_route(struct irq *q, struct irq_msi *m, uint64_t addr, uint32_t data)
{
	int r;

	pthread_mutex_lock(&q->lock);
	r = irq_route_set(q, m->gsi, addr, data);
	if (!r && !m->attached) {
		/* KVM polls the eventfd on attach: what became pending fires now. */
		r = q->backend->irqfd(q->ctx, m->fd, m->gsi, true);
		m->attached = !r;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

int irq_msi_mask(struct irq *q, struct irq_msi *m)
{
	int r = 0;

	pthread_mutex_lock(&q->lock);
	if (m->attached) {
		r = q->backend->irqfd(q->ctx, m->fd, m->gsi, false);
		m->attached = false;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

void irq_msi_fini(struct irq *q, struct irq_msi *m)
{
	if (m->fd < 0)
		return;
	irq_msi_mask(q, m);
	pthread_mutex_lock(&q->lock);
	irq_route_drop(q, m->gsi);
	bitmap_clear(q->gsi_used, m->gsi - GSI_MSI_BASE);
	pthread_mutex_unlock(&q->lock);
	fd_close(&m->fd);
}

bool irq_msi_pending(const struct irq_msi *m)
{
	struct pollfd p = { .fd = m->fd, .events = POLLIN };

	return !m->attached && poll(&p, 1, 0) == 1;
}

int irq_ioeventfd(struct irq *q, uint64_t addr, unsigned len, bool pio, int fd, bool assign)
{
	return q->backend->ioeventfd(q->ctx, addr, len, pio, fd, assign);
}
