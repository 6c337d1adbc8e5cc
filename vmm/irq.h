/* SPDX-License-Identifier: MIT */
/*
 * irq.h - eventfds between devices and the guest: irqfd out, ioeventfd in, MSI routes.
 *
 * The devices' view has no KVM in it: writing to irq_line.fd or irq_msi.fd raises the
 * interrupt, from any thread, without a lock. Setting routes up and changing them takes
 * the mutex of struct irq. Behind it stands an irq_backend: KVM, or a recorder in tests.
 */
#ifndef HV_VMM_IRQ_H
#define HV_VMM_IRQ_H

#include <pthread.h>

#include "hv/base.h"
#include "hv/err.h"
#include "layout.h"

#define IRQ_MSI_MAX 1024	/* MSI routes of one VM */

struct irq_route {
	unsigned gsi;
	uint64_t addr;
	uint32_t data;
};
struct irq_backend {
	/* Replace the whole GSI routing table: MSI entries @n with gsi, addr, data. */
	int (*set_routes)(void *ctx, const struct irq_route *routes, size_t n);
	int (*irqfd)(void *ctx, int fd, unsigned gsi, bool assign);
	int (*ioeventfd)(void *ctx, uint64_t addr, unsigned len, bool pio, int fd, bool assign);
};

struct irq {
	const struct irq_backend *backend;
	void *ctx;
	pthread_mutex_t lock;
	size_t n_routes;
	struct irq_route routes[IRQ_MSI_MAX];
	uint64_t gsi_used[IRQ_MSI_MAX / 64];
};

/* An edge-triggered line on an I/O APIC pin. */
struct irq_line {
	int fd;
	unsigned gsi;
};
/* One MSI(-X) vector. While masked or unset, writes to @fd raise nothing. */
struct irq_msi {
	int fd;			/* eventfd, owned */
	unsigned gsi;
	bool attached;		/* irqfd assigned to @gsi */
};

int irq_init(struct irq *q, const struct irq_backend *backend, void *ctx, struct err *e);
void irq_fini(struct irq *q);
/** irq_line_init - eventfd on I/O APIC pin @gsi (0..23). */
int irq_line_init(struct irq *q, struct irq_line *l, unsigned gsi, struct err *e);
void irq_line_fini(struct irq *q, struct irq_line *l);
/** irq_line_pulse - one edge. Any thread. */
void irq_line_pulse(const struct irq_line *l);
/** irq_msi_init - make the eventfd and reserve a GSI; nothing is routed yet. -ENOSPC. */
int irq_msi_init(struct irq *q, struct irq_msi *m);
void irq_msi_fini(struct irq *q, struct irq_msi *m);
/** irq_msi_route - deliver @m as the MSI message (@addr, @data); attaches the irqfd. */
int irq_msi_route(struct irq *q, struct irq_msi *m, uint64_t addr, uint32_t data);
/**
 * irq_msi_mask - detach @m: writes to its fd stay pending in the eventfd's counter
 *
 * The owner checks irq_msi_pending() for the PBA, and calls irq_msi_route() on unmask,
 * which delivers what became pending meanwhile.
 */
int irq_msi_mask(struct irq *q, struct irq_msi *m);
bool irq_msi_pending(const struct irq_msi *m);
/** irq_ioeventfd - make guest writes of @len (0: any) at @addr signal @fd instead of exiting. */
int irq_ioeventfd(struct irq *q, uint64_t addr, unsigned len, bool pio, int fd, bool assign);

#endif
