/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <linux/serial_reg.h>

#include "../../../support/vmachine.h"
#include "dev/serial.h"

/* A UART whose other end is a buffer that takes @room bytes more. */
struct fixture {
	struct vmachine m;
	struct serial uart;
	uint8_t out[256];
	size_t n_out, room;
	unsigned rx_room_calls;
};

static bool sink_tx(void *ctx, uint8_t byte)
{
	struct fixture *f = ctx;

	if (f->n_out == f->room)
		return false;
	f->out[f->n_out++] = byte;
	return true;
}

static void sink_rx_room(void *ctx)
{
	((struct fixture *)ctx)->rx_room_calls++;
}

static int setup(void **state)
{
	static struct fixture f;
	struct serial_sink sink = { sink_tx, sink_rx_room, &f };

	memset(&f, 0, sizeof(f));
	vm_init(&f.m);
	f.room = sizeof(f.out);
	*state = &f;
	return serial_init(&f.uart, &f.m.pio, &f.m.irq, &sink, NULL);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	serial_fini(&f->uart, &f->m.irq);
	vm_fini(&f->m);
	return 0;
}

static uint8_t in(struct fixture *f, unsigned reg)
{
	uint8_t v = 0;

	bus_read(&f->m.pio, PORT_COM1 + reg, &v, 1);
	return v;
}

static void out(struct fixture *f, unsigned reg, uint8_t v)
{
	bus_write(&f->m.pio, PORT_COM1 + reg, &v, 1);
}

/* Edges since the last call. */
static unsigned edges(struct fixture *f)
{
	uint64_t n = 0;

	if (read(f->m.gsi_fd[GSI_COM1], &n, sizeof(n)) < 0)
		return 0;
	return (unsigned)n;
}

static void bytes_written_reach_the_sink(void **state)
{
	struct fixture *f = *state;

	out(f, UART_TX, 'h');
	out(f, UART_TX, 'i');
	assert_int_equal(f->n_out, 2);
	assert_memory_equal(f->out, "hi", 2);
	assert_int_equal(in(f, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
}

static void the_divisor_latch_hides_data_and_ier(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(serial_rx(&f->uart, (const uint8_t *)"x", 1), 1);
	out(f, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(f, UART_DLL, 0x12);
	out(f, UART_DLM, 0x34);
	assert_int_equal(in(f, UART_DLL), 0x12);
	assert_int_equal(in(f, UART_DLM), 0x34);
	out(f, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(f, UART_IER), 0);
	assert_int_equal(in(f, UART_RX), 'x');
	assert_int_equal(f->n_out, 0);
	assert_int_equal(in(f, UART_LCR), UART_LCR_WLEN8);
	out(f, UART_SCR, 0xa5);
	assert_int_equal(in(f, UART_SCR), 0xa5);
}

static void without_fifo_one_byte_fits(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(serial_rx(&f->uart, (const uint8_t *)"abc", 3), 1);
	assert_int_equal(serial_rx(&f->uart, (const uint8_t *)"bc", 2), 0);
	assert_true(in(f, UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(f, UART_RX), 'a');
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
	assert_int_equal(f->rx_room_calls, 1);
	assert_int_equal(in(f, UART_RX), 0);	/* nothing there */
	assert_int_equal(in(f, UART_IIR) & 0xc0, 0);
}

static void the_fifo_keeps_sixteen_bytes_in_order(void **state)
{
	struct fixture *f = *state;

	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(serial_rx(&f->uart, (const uint8_t *)"0123456789abcdefgh", 18), 16);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(in(f, UART_RX), "0123456789abcdef"[i]);
		assert_false(in(f, UART_LSR) & UART_LSR_DR);
	}
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT | 0xc0);
}

static void switching_the_fifo_empties_it(void **state)
{
	struct fixture *f = *state;

	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	serial_rx(&f->uart, (const uint8_t *)"abc", 3);
	out(f, UART_FCR, 0);
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	serial_rx(&f->uart, (const uint8_t *)"abc", 3);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
}

static void input_interrupts_at_the_trigger_and_as_timeout_below(void **state)
{
	struct fixture *f = *state;

	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_4);
	out(f, UART_IER, UART_IER_RDI);
	assert_int_equal(edges(f), 0);
	serial_rx(&f->uart, (const uint8_t *)"a", 1);
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_IIR) & 0x0f, 0x0c);
	serial_rx(&f->uart, (const uint8_t *)"bcd", 3);
	assert_int_equal(edges(f), 0);	/* the line was high already */
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_RDI);
	for (int i = 0; i < 4; i++)
		in(f, UART_RX);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_NO_INT);
	serial_rx(&f->uart, (const uint8_t *)"e", 1);
	assert_int_equal(edges(f), 1);	/* a new edge after the line fell */
}

static void disabled_interrupts_stay_quiet_until_enabled(void **state)
{
	struct fixture *f = *state;

	serial_rx(&f->uart, (const uint8_t *)"a", 1);
	assert_int_equal(edges(f), 0);
	out(f, UART_IER, UART_IER_RDI);
	assert_int_equal(edges(f), 1);
}

static void reading_iir_takes_the_transmitter_interrupt_back(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 1);	/* empty already: raised at once */
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	out(f, UART_TX, 'x');
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
	/* Linux's driver enables THRI again to provoke one. */
	out(f, UART_IER, 0);
	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 1);
}

static void line_status_has_priority_over_data(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_RLSI | UART_IER_RDI);
	out(f, UART_MCR, UART_MCR_LOOP);
	out(f, UART_TX, '1');
	out(f, UART_TX, '2');	/* no FIFO: overrun */
	assert_int_equal(in(f, UART_IIR), UART_IIR_RLSI);
	assert_true(in(f, UART_LSR) & UART_LSR_OE);
	assert_false(in(f, UART_LSR) & UART_LSR_OE);	/* reading it cleared it */
	assert_int_equal(in(f, UART_IIR), UART_IIR_RDI);
	assert_int_equal(in(f, UART_RX), '1');	/* the first byte was kept */
	assert_int_equal(f->n_out, 0);
}

static void loopback_connects_modem_lines_and_shuts_the_outside_off(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_MSI);
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR | UART_MCR_RTS);
	assert_int_equal(in(f, UART_IIR), UART_IIR_MSI);
	assert_int_equal(in(f, UART_MSR), UART_MSR_DSR | UART_MSR_CTS | UART_MSR_DDCD);
	assert_int_equal(in(f, UART_MSR), UART_MSR_DSR | UART_MSR_CTS);	/* deltas read once */
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_OUT2);
	assert_int_equal(in(f, UART_MSR) & 0xf0, UART_MSR_RI | UART_MSR_DCD);
	assert_int_equal(serial_rx(&f->uart, (const uint8_t *)"a", 1), 0);
	out(f, UART_MCR, 0xff);
	assert_int_equal(in(f, UART_MCR), 0x1f);	/* upper bits do not exist */
}

static void a_sink_without_room_holds_the_transmitter(void **state)
{
	struct fixture *f = *state;

	f->room = 1;
	out(f, UART_IER, UART_IER_THRI);
	out(f, UART_TX, 'a');
	out(f, UART_TX, 'b');	/* held */
	assert_false(in(f, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT));
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	out(f, UART_TX, 'c');	/* the guest did not look: lost, as on hardware */
	serial_tx_ready(&f->uart);	/* still no room */
	assert_false(in(f, UART_LSR) & UART_LSR_THRE);
	edges(f);
	f->room = 4;
	serial_tx_ready(&f->uart);
	assert_int_equal(edges(f), 1);
	assert_true(in(f, UART_LSR) & UART_LSR_THRE);
	serial_tx_ready(&f->uart);	/* once more is harmless */
	assert_int_equal(f->n_out, 2);
	assert_memory_equal(f->out, "ab", 2);
}

static void wide_accesses_touch_consecutive_registers(void **state)
{
	struct fixture *f = *state;
	uint32_t v = 0;

	out(f, UART_LCR, 0x1b);
	bus_read(&f->m.pio, PORT_COM1 + UART_IIR, &v, 4);
	assert_int_equal(v & 0xff, UART_IIR_NO_INT);
	assert_int_equal(v >> 8 & 0xff, 0x1b);
	assert_int_equal(v >> 24, UART_LSR_THRE | UART_LSR_TEMT);
	bus_write(&f->m.pio, PORT_COM1 + UART_MCR, "\x03\xff\xff\x77", 4);
	assert_int_equal(in(f, UART_MCR), 3);
	assert_int_equal(in(f, UART_SCR), 0x77);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bytes_written_reach_the_sink),
		T(the_divisor_latch_hides_data_and_ier),
		T(without_fifo_one_byte_fits),
		T(the_fifo_keeps_sixteen_bytes_in_order),
		T(switching_the_fifo_empties_it),
		T(input_interrupts_at_the_trigger_and_as_timeout_below),
		T(disabled_interrupts_stay_quiet_until_enabled),
		T(reading_iir_takes_the_transmitter_interrupt_back),
		T(line_status_has_priority_over_data),
		T(loopback_connects_modem_lines_and_shuts_the_outside_off),
		T(a_sink_without_room_holds_the_transmitter),
		T(wide_accesses_touch_consecutive_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
