/* SPDX-License-Identifier: MIT */
/*
 * qmp.h - the control socket: QEMU's machine protocol, the part that a VM's life needs.
 *
 * Main thread only. Clients are untrusted: bounded buffers, a bounded number of them (one
 * more, and the oldest that has not negotiated goes, else the oldest), and one that does not
 * read its answers is dropped, so none can hold the guest up or keep the others out.
 */
#ifndef HV_VMM_QMP_H
#define HV_VMM_QMP_H

#include "hv/loop.h"

#define QMP_CLIENTS_MAX 16
#define QMP_REQUEST_MAX KIB(64)

struct json_t;
struct qmp;

/* What commands do; main thread. */
struct qmp_ops {
	const char *name;	/* of the VM; borrowed */
	/* "running", "paused" …, as QMP's RunState names them. */
	const char *(*status)(void *ctx);
	void (*stop)(void *ctx);
	void (*cont)(void *ctx);
	void (*system_powerdown)(void *ctx);
	void (*system_reset)(void *ctx);
	void (*quit)(void *ctx);
	unsigned (*cpus)(void *ctx);
	void *ctx;
};

/** qmp_new - serve the listening socket @listen_fd (borrowed). */
int qmp_new(struct loop *loop, int listen_fd, const struct qmp_ops *ops, struct qmp **out,
	    struct err *e);
/** qmp_event - tell all clients that are in command mode; @data is consumed, may be NULL. */
void qmp_event(struct qmp *q, const char *event, struct json_t *data);
void qmp_free(struct qmp *q);

#endif
