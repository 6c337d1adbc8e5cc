/* SPDX-License-Identifier: MIT */
/*
 * serial.h - a 16550A UART with its FIFO, on I/O ports and one edge-triggered line.
 *
 * Registers are touched by vCPU threads, input arrives from the main thread; one mutex
 * covers both. The sink's functions are called with that mutex held and must not call
 * back into the UART.
 */
#ifndef HV_VMM_DEV_SERIAL_H
#define HV_VMM_DEV_SERIAL_H

#include <pthread.h>

#include "bus.h"
#include "irq.h"

#define SERIAL_FIFO_BYTES 16

struct serial_sink {
	/* Take one byte from the guest; false when there is no room: call serial_tx_ready() later. */
	bool (*tx)(void *ctx, uint8_t byte);
	/* The receive FIFO has room again. */
	void (*rx_room)(void *ctx);
	void *ctx;
};

struct serial {
	pthread_mutex_t lock;
	struct serial_sink sink;
	struct irq_line irq;
	uint8_t ier, iir, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
	bool thr_empty_pending;	/* THRI condition not yet seen through IIR */
	bool line_high;		/* some enabled interrupt is pending */
	bool tx_held;		/* @held waits for room in the sink */
	uint8_t held;
	uint8_t rx[SERIAL_FIFO_BYTES];
	unsigned rx_head, rx_len;
};

int serial_init(struct serial *d, struct bus *pio, struct irq *irq, const struct serial_sink *sink,
		struct err *e);
void serial_fini(struct serial *d, struct irq *irq);
/** serial_rx - offer input; returns the bytes taken (the FIFO's room). Main thread. */
size_t serial_rx(struct serial *d, const uint8_t *data, size_t len);
/** serial_tx_ready - the sink has room again. Main thread. */
void serial_tx_ready(struct serial *d);

#endif
