/* SPDX-License-Identifier: MIT */
/*
 * The 16550A. Invariant: line_high == (an enabled interrupt condition holds); the
 * interrupt is pulsed on its rising edge only, which is what an edge-triggered ISA line
 * does: a driver reads IIR until it says "none", so it never misses one.
 */
#include "serial.h"

#include <linux/serial_reg.h>
#include <string.h>

#include "hv/fd.h"
#include "layout.h"

#define SERIAL_PORTS 8
#define IIR_FIFO_ENABLED 0xc0
#define IIR_RX_TIMEOUT 0x0c
#define SERIAL_LSR_ERRORS (UART_LSR_OE | UART_LSR_PE | UART_LSR_FE | UART_LSR_BI)
#define MSR_CONNECTED (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

static unsigned serial_rx_trigger(const struct serial *d)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return d->fcr & UART_FCR_ENABLE_FIFO ? level[d->fcr >> 6] : 1;
}

static unsigned serial_rx_capacity(const struct serial *d)
{
	return d->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_FIFO_BYTES : 1;
}

/* The interrupt with the highest priority that holds and is enabled. */
static uint8_t serial_cause(const struct serial *d)
{
	if (d->ier & UART_IER_RLSI && d->lsr & SERIAL_LSR_ERRORS)
		return UART_IIR_RLSI;
	if (d->ier & UART_IER_RDI && d->rx_len)
		return d->rx_len >= serial_rx_trigger(d) ? UART_IIR_RDI : IIR_RX_TIMEOUT;
	if (d->ier & UART_IER_THRI && d->thr_empty_pending)
		return UART_IIR_THRI;
	if (d->ier & UART_IER_MSI && d->msr & UART_MSR_ANY_DELTA)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static void serial_update(struct serial *d)
{
	bool high = serial_cause(d) != UART_IIR_NO_INT;

	if (high && !d->line_high)
		irq_line_pulse(&d->irq);
	d->line_high = high;
}

static void serial_push_rx(struct serial *d, uint8_t byte)
{
	if (d->rx_len == serial_rx_capacity(d)) {
		d->lsr |= UART_LSR_OE;
		return;
	}
	d->rx[(d->rx_head + d->rx_len++) % SERIAL_FIFO_BYTES] = byte;
	d->lsr |= UART_LSR_DR;
}

static uint8_t serial_pop_rx(struct serial *d)
{
	uint8_t byte = 0;

	if (d->rx_len) {
		byte = d->rx[d->rx_head];
		d->rx_head = (d->rx_head + 1) % SERIAL_FIFO_BYTES;
		d->rx_len--;
	}
	if (!d->rx_len) {
		d->lsr &= (uint8_t)~UART_LSR_DR;
		d->sink.rx_room(d->sink.ctx);
	}
	return byte;
}

static void serial_transmitted(struct serial *d)
{
	d->lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	d->thr_empty_pending = true;
}

static void serial_tx(struct serial *d, uint8_t byte)
{
	d->thr_empty_pending = false;
	if (d->mcr & UART_MCR_LOOP) {
		serial_push_rx(d, byte);
		serial_transmitted(d);
	} else if (d->tx_held) {
		return;	/* the guest did not look at THRE: hardware loses the byte too */
	} else if (d->sink.tx(d->sink.ctx, byte)) {
		serial_transmitted(d);
	} else {
		d->held = byte;
		d->tx_held = true;
		d->lsr &= (uint8_t)~(UART_LSR_THRE | UART_LSR_TEMT);
	}
}

static void serial_set_fcr(struct serial *d, uint8_t v)
{
	if ((v ^ d->fcr) & UART_FCR_ENABLE_FIFO)
		v |= UART_FCR_CLEAR_RCVR;	/* switching modes empties the FIFOs */
	if (v & UART_FCR_CLEAR_RCVR) {
		d->rx_len = 0;
		d->lsr &= (uint8_t)~UART_LSR_DR;
		d->sink.rx_room(d->sink.ctx);
	}
	d->fcr = v & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
}

/* In loopback the modem outputs come back as inputs: DTR→DSR, RTS→CTS, OUT1→RI, OUT2→DCD. */
static uint8_t serial_msr_lines(const struct serial *d)
{
	uint8_t m = 0;

	if (!(d->mcr & UART_MCR_LOOP))
		return MSR_CONNECTED;
	m |= d->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0;
	m |= d->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0;
	m |= d->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0;
	m |= d->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0;
	return m;
}

static void serial_set_mcr(struct serial *d, uint8_t v)
{
	uint8_t old = d->msr & 0xf0, now;
	bool reconnected = d->mcr & ~v & UART_MCR_LOOP;

	d->mcr = v & 0x1f;
	if (reconnected)
		d->sink.rx_room(d->sink.ctx);
	now = serial_msr_lines(d);
	d->msr = now | (d->msr & 0xf) | (uint8_t)((old ^ now) >> 4);
}

static uint8_t serial_read_iir(struct serial *d)
{
	uint8_t cause = serial_cause(d);

	if (cause == UART_IIR_THRI)
		d->thr_empty_pending = false;
	return cause | (d->fcr & UART_FCR_ENABLE_FIFO ? IIR_FIFO_ENABLED : 0);
}

static uint8_t serial_get(struct serial *d, unsigned reg)
{
	bool dlab = d->lcr & UART_LCR_DLAB;
	uint8_t v = 0;

	switch (reg) {
	case UART_RX: return dlab ? d->dll : serial_pop_rx(d);
	case UART_IER: return dlab ? d->dlm : d->ier;
	case UART_IIR: return serial_read_iir(d);
	case UART_LCR: return d->lcr;
	case UART_MCR: return d->mcr;
	case UART_LSR:
		v = d->lsr;
		d->lsr &= (uint8_t)~SERIAL_LSR_ERRORS;
		return v;
	case UART_MSR:
		v = d->msr;
		d->msr &= 0xf0;
		return v;
	case UART_SCR: return d->scr;
	}
	return v;
}

static void serial_put(struct serial *d, unsigned reg, uint8_t v)
{
	bool dlab = d->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			d->dll = v;
		else
			serial_tx(d, v);
		return;
	case UART_IER:
		if (dlab) {
			d->dlm = v;
			return;
		}
		/* Enabling THRI with an empty holding register raises it at once. */
		if (v & ~d->ier & UART_IER_THRI && d->lsr & UART_LSR_THRE)
			d->thr_empty_pending = true;
		d->ier = v & 0xf;
		return;
	case UART_FCR: serial_set_fcr(d, v); return;
	case UART_LCR: d->lcr = v; return;
	case UART_MCR: serial_set_mcr(d, v); return;
	case UART_SCR: d->scr = v; return;
	}
}

/* Wider accesses touch consecutive registers, as on an 8-bit bus. */
static void serial_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct serial *d = dev;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < len; i++)
		((uint8_t *)data)[i] = serial_get(d, (unsigned)off + i);
	serial_update(d);
	pthread_mutex_unlock(&d->lock);
}

static void serial_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct serial *d = dev;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < len; i++)
		serial_put(d, (unsigned)off + i, ((const uint8_t *)data)[i]);
	serial_update(d);
	pthread_mutex_unlock(&d->lock);
}

static const struct bus_ops serial_ops = { .read = serial_read, .write = serial_write };

int serial_init(struct serial *d, struct bus *pio, struct irq *irq, const struct serial_sink *sink,
		struct err *e)
{
	int r;

	*d = (struct serial){ .sink = *sink,
			      .lsr = UART_LSR_THRE | UART_LSR_TEMT,
			      .msr = MSR_CONNECTED,
			      .dll = 1 };
	pthread_mutex_init(&d->lock, NULL);
	r = irq_line_init(irq, &d->irq, GSI_COM1, e);
	if (r)
		return r;
	r = bus_add(pio, PORT_COM1, SERIAL_PORTS, &serial_ops, d);
	if (r) {
		irq_line_fini(irq, &d->irq);
		return err_set(e, r, "serial port");
	}
	return 0;
}

void serial_fini(struct serial *d, struct irq *irq)
{
	irq_line_fini(irq, &d->irq);
	pthread_mutex_destroy(&d->lock);
}

size_t serial_rx(struct serial *d, const uint8_t *data, size_t len)
{
	size_t n;

	pthread_mutex_lock(&d->lock);
	n = MIN(len, (size_t)(serial_rx_capacity(d) - d->rx_len));
	if (d->mcr & UART_MCR_LOOP)
		n = 0;	/* the line is disconnected while the guest tests itself */
	for (size_t i = 0; i < n; i++)
		serial_push_rx(d, data[i]);
	serial_update(d);
	pthread_mutex_unlock(&d->lock);
	return n;
}

void serial_tx_ready(struct serial *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->tx_held && d->sink.tx(d->sink.ctx, d->held)) {
		d->tx_held = false;
		serial_transmitted(d);
		serial_update(d);
	}
	pthread_mutex_unlock(&d->lock);
}
