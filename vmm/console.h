/* SPDX-License-Identifier: MIT */
/*
 * console.h - between the guest's serial port (and virtio console) and whoever looks at it.
 *
 * Output: vCPU threads append to a ring and write through at once while nothing is queued;
 * when the reader is slow the main thread drains the ring. A reader that stands still holds
 * the guest's UART back (the guest polls THRE); without any reader the oldest bytes go.
 * Input: main thread only, as far as the UART's FIFO has room.
 */
#ifndef HV_VMM_CONSOLE_H
#define HV_VMM_CONSOLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "dev/serial.h"
#include "hv/loop.h"

#define CONSOLE_RING_BYTES KIB(256)	/* also the scrollback of a detached VM */

struct console_cfg {
	int in_fd, out_fd;	/* stream pair, pty or file; -1: none. Borrowed. */
	int listen_fd;		/* clients come and go; -1: none. Borrowed. */
	bool lossy;		/* a pty: perhaps nobody reads it; the oldest bytes go, the guest does not wait */
	bool input_to_hvc;	/* the guest's console is hvc0 */
};

struct console {
	struct loop *loop;
	struct console_cfg cfg;
	pthread_mutex_t lock;	/* the ring, @out_fd */
	uint8_t *ring;
	uint64_t head, tail;	/* bytes ever appended, bytes ever written; head - tail <= size */
	uint64_t kept;		/* bytes in the ring that are still there for a replay */
	int out_fd;		/* where output goes now: cfg.out_fd or a client; -1: nobody */
	bool holding;		/* the UART waits for room */
	struct loop_source in, out, listener, wake, hvc;
	int wake_fd;
	struct serial *serial;	/* NULL while no VM is built */
	int hvc_fd;		/* our end of the virtio console's socket pair */
	int hvc_guest_fd;	/* the device's end */
	uint8_t pending[4096];	/* input read but not yet taken */
	size_t pending_len;
};

int console_init(struct console *c, struct loop *loop, const struct console_cfg *cfg,
		 struct err *e);
/** console_attach - input goes to @s from now on; NULL detaches. Main thread, vCPUs stopped. */
void console_attach(struct console *c, struct serial *s);
/** console_sink - what the UART is to be given. */
struct serial_sink console_sink(struct console *c);
/**
 * console_drain - let the reader take what is queued, at the VM's end
 *
 * Return: false if something was left after @ms without progress.
 */
bool console_drain(struct console *c, unsigned ms);
void console_fini(struct console *c);

#endif
