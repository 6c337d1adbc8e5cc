/* SPDX-License-Identifier: MIT */
/*
 * ged.h - the Generic Event Device: one interrupt, one register of pending events.
 *
 * The main thread raises; a vCPU's _EVT method reads the register and acknowledges.
 */
#ifndef HV_VMM_DEV_GED_H
#define HV_VMM_DEV_GED_H

#include <stdatomic.h>

#include "bus.h"
#include "irq.h"

/* Bits of the event register; boot/acpi.c's _EVT tests the same. */
#define GED_EVENT_POWER_BUTTON 0x1

struct ged {
	_Atomic uint32_t pending;
	struct irq_line irq;
};

int ged_init(struct ged *d, struct bus *pio, struct irq *irq, struct err *e);
void ged_fini(struct ged *d, struct irq *irq);
/** ged_raise - make @event pending and interrupt the guest. Any thread. */
void ged_raise(struct ged *d, uint32_t event);

#endif
