/* SPDX-License-Identifier: MIT */
/* ACPI 6.4, 5.6.9 "Interrupt-signaled ACPI events"; the register behind it is our own. */
#include "ged.h"

#include "hv/bytes.h"

#define GED_PORTS 4

static void ged_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct ged *d = dev;

	store_le(data, (uint64_t)atomic_load(&d->pending) >> (8 * off), len);
}

/* Write one to clear, at the byte offset written. */
static void ged_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct ged *d = dev;

	atomic_fetch_and(&d->pending, (uint32_t)~(load_le(data, len) << (8 * off)));
}

static const struct bus_ops ged_ops = { .read = ged_read, .write = ged_write };

int ged_init(struct ged *d, struct bus *pio, struct irq *irq, struct err *e)
{
	int r;

	atomic_init(&d->pending, 0);
	r = irq_line_init(irq, &d->irq, GSI_GED, e);
	if (r)
		return r;
	r = bus_add(pio, PORT_GED, GED_PORTS, &ged_ops, d);
	if (r) {
		irq_line_fini(irq, &d->irq);
		return err_set(e, r, "generic event device");
	}
	return 0;
}

void ged_fini(struct ged *d, struct irq *irq)
{
	irq_line_fini(irq, &d->irq);
}

void ged_raise(struct ged *d, uint32_t event)
{
	atomic_fetch_or(&d->pending, event);
	irq_line_pulse(&d->irq);
}
