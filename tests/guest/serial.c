/* SPDX-License-Identifier: MIT */
/* COM1, polled: 115200 8N1, FIFOs on. */
#include "guest.h"

#define COM1 0x3f8
#define REG_DATA (COM1 + 0)
#define REG_IER (COM1 + 1)
#define REG_FCR (COM1 + 2)
#define REG_LCR (COM1 + 3)
#define REG_MCR (COM1 + 4)
#define REG_LSR (COM1 + 5)
#define LSR_DATA 0x01
#define LSR_THR_EMPTY 0x20

void serial_init(void)
{
	out8(REG_IER, 0);
	out8(REG_LCR, 0x80);
	out8(REG_DATA, 1);
	out8(REG_IER, 0);
	out8(REG_LCR, 0x03);
	out8(REG_FCR, 0x01);
	out8(REG_MCR, 0x03);
}

void serial_put(char c)
{
	uint64_t end = deadline_ms(PATIENCE_MS);

	while (!(in8(REG_LSR) & LSR_THR_EMPTY) && !expired(end))
		pause_cpu();
	out8(REG_DATA, (uint8_t)c);
}

int serial_get(uint64_t ms)
{
	uint64_t end = deadline_ms(ms);

	while (!(in8(REG_LSR) & LSR_DATA))
		if (expired(end))
			return -1;
	return in8(REG_DATA);
}

/* serial-echo=N - read N bytes of input and say them again. */
static const char *serial_echo(const char *arg)
{
	uint64_t n = parse_size(&arg);
	char *text = heap_alloc(n + 1, 8);

	say("READY\n");
	for (uint64_t i = 0; i < n; i++) {
		int c = serial_get(PATIENCE_MS);

		if (c < 0)
			return why("input ended after %lu bytes", i);
		text[i] = (char)c;
	}
	say("GOT [%s]\n", text);
	return NULL;
}
WORD("serial-echo", serial_echo);

/* serial-loop - the UART's own loopback test. */
static const char *serial_loopback(const char *arg)
{
	uint8_t got;

	(void)arg;
	out8(REG_MCR, 0x13);
	out8(REG_DATA, 0xa5);
	got = (uint8_t)serial_get(100);
	out8(REG_MCR, 0x03);
	return got == 0xa5 ? NULL : why("sent 0xa5, read 0x%x", got);
}
WORD("serial-loop", serial_loopback);

/* flood=N - N lines of output, for readers that are slow or gone. */
static const char *serial_flood(const char *arg)
{
	uint64_t n = parse_size(&arg);

	for (uint64_t i = 0; i < n; i++)
		say("line %lu of %lu\n", i, n);
	return NULL;
}
WORD("flood", serial_flood);
