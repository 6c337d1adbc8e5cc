/* SPDX-License-Identifier: MIT */
/* ACPI 6.4, 4.8.3.7 "Sleep Control and Status Registers" and 4.8.3.6 "Reset Register". */
#include "acpi_pm.h"

#include "layout.h"

#define SLEEP_CTL_SLP_EN 0x20
#define SLEEP_CTL_SLP_TYP(v) ((v) >> 2 & 7)
#define ACPI_PM_PORTS (PORT_ACPI_RESET - PORT_ACPI_SLEEP_CTL + 1)

static void acpi_pm_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	(void)off;
	for (unsigned i = 0; i < len; i++)
		((uint8_t *)data)[i] = 0;	/* WAK_STS never set: there is no sleep but S5 */
}

static void acpi_pm_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	const struct acpi_pm *d = dev;
	uint8_t v = *(const uint8_t *)data;

	(void)len;
	switch (PORT_ACPI_SLEEP_CTL + off) {
	case PORT_ACPI_SLEEP_CTL:
		if (v & SLEEP_CTL_SLP_EN && SLEEP_CTL_SLP_TYP(v) == ACPI_SLEEP_TYPE_S5)
			guest_event_send(d->sink, GUEST_EVENT_POWEROFF);
		return;
	case PORT_ACPI_RESET:
		if (v == ACPI_RESET_VALUE)
			guest_event_send(d->sink, GUEST_EVENT_RESET);
		return;
	}
}

static const struct bus_ops acpi_pm_ops = { .read = acpi_pm_read, .write = acpi_pm_write };

int acpi_pm_init(struct acpi_pm *d, struct bus *pio, const struct guest_event_sink *sink)
{
	d->sink = sink;
	return bus_add(pio, PORT_ACPI_SLEEP_CTL, ACPI_PM_PORTS, &acpi_pm_ops, d);
}
