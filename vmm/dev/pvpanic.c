/* SPDX-License-Identifier: MIT */
/*
 * pvpanic, ISA form: a read tells which events are supported, a write reports one.
 * Only the panic event is offered: a guest that loads a crash kernel goes on by itself.
 */
#include "pvpanic.h"

#include <string.h>

#include "layout.h"

#define PVPANIC_PANICKED 0x1

static void pvpanic_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	(void)off;
	memset(data, 0, len);
	*(uint8_t *)data = PVPANIC_PANICKED;
}

static void pvpanic_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	const struct pvpanic *d = dev;

	(void)off;
	(void)len;
	if (*(const uint8_t *)data & PVPANIC_PANICKED)
		guest_event_send(d->sink, GUEST_EVENT_PANIC);
}

static const struct bus_ops pvpanic_ops = { .read = pvpanic_read, .write = pvpanic_write };

int pvpanic_init(struct pvpanic *d, struct bus *pio, const struct guest_event_sink *sink)
{
	d->sink = sink;
	return bus_add(pio, PORT_PVPANIC, 1, &pvpanic_ops, d);
}
