/* SPDX-License-Identifier: MIT */
/*
 * The legacy ways to reset a PC: command 0xfe ("pulse output line 0") on port 0x64.
 * Status reads "no data, input buffer empty", so that nobody waits. Bare guests and
 * kernels under reboot=k come here; others use the ACPI reset register.
 */
#include "i8042.h"

#include <string.h>

#include "layout.h"

#define I8042_PULSE_RESET 0xfe

static void i8042_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	(void)off;
	memset(data, 0, len);
}

static void i8042_cmd_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	const struct i8042 *d = dev;

	(void)off;
	(void)len;
	if (*(const uint8_t *)data == I8042_PULSE_RESET)
		guest_event_send(d->sink, GUEST_EVENT_RESET);
}

static void i8042_data_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	(void)dev;
	(void)off;
	(void)data;
	(void)len;
}

static const struct bus_ops i8042_cmd_ops = { .read = i8042_read, .write = i8042_cmd_write };
static const struct bus_ops i8042_data_ops = { .read = i8042_read, .write = i8042_data_write };

int i8042_init(struct i8042 *d, struct bus *pio, const struct guest_event_sink *sink)
{
	int r;

	d->sink = sink;
	r = bus_add(pio, PORT_I8042_DATA, 1, &i8042_data_ops, d);
	return r ? r : bus_add(pio, PORT_I8042_CMD, 1, &i8042_cmd_ops, d);
}
