/* SPDX-License-Identifier: MIT */
/* pvpanic.h - the port through which a guest kernel tells that it panicked. */
#ifndef HV_VMM_DEV_PVPANIC_H
#define HV_VMM_DEV_PVPANIC_H

#include "bus.h"
#include "guest_event.h"

struct pvpanic {
	const struct guest_event_sink *sink;
};

/** pvpanic_init - claim PORT_PVPANIC. @sink is borrowed. */
int pvpanic_init(struct pvpanic *d, struct bus *pio, const struct guest_event_sink *sink);

#endif
