/* SPDX-License-Identifier: MIT */
/* acpi_pm.h - the sleep control/status and reset registers of hardware-reduced ACPI. */
#ifndef HV_VMM_DEV_ACPI_PM_H
#define HV_VMM_DEV_ACPI_PM_H

#include "bus.h"
#include "guest_event.h"

struct acpi_pm {
	const struct guest_event_sink *sink;
};

/** acpi_pm_init - claim PORT_ACPI_SLEEP_CTL, _STS and _RESET on @pio. @sink is borrowed. */
int acpi_pm_init(struct acpi_pm *d, struct bus *pio, const struct guest_event_sink *sink);

#endif
