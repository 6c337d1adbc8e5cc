/* SPDX-License-Identifier: MIT */
/* i8042.h - of the keyboard controller only what a reset needs; no keyboard, no mouse. */
#ifndef HV_VMM_DEV_I8042_H
#define HV_VMM_DEV_I8042_H

#include "bus.h"
#include "guest_event.h"

struct i8042 {
	const struct guest_event_sink *sink;
};

/** i8042_init - claim ports 0x60 and 0x64. @sink is borrowed. */
int i8042_init(struct i8042 *d, struct bus *pio, const struct guest_event_sink *sink);

#endif
