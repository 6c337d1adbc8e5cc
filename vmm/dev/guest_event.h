/* SPDX-License-Identifier: MIT */
/*
 * guest_event.h - what a guest can do that concerns the whole VM.
 *
 * Devices report on a vCPU thread; the sink must not block. The main thread acts.
 */
#ifndef HV_VMM_DEV_GUEST_EVENT_H
#define HV_VMM_DEV_GUEST_EVENT_H

enum guest_event {
	GUEST_EVENT_POWEROFF,	/* ACPI S5 */
	GUEST_EVENT_RESET,	/* ACPI reset register, i8042 command 0xfe */
	GUEST_EVENT_PANIC,	/* pvpanic */
};
struct guest_event_sink {
	void (*fn)(void *ctx, enum guest_event ev);
	void *ctx;
};

static inline void guest_event_send(const struct guest_event_sink *s, enum guest_event ev)
{
	s->fn(s->ctx, ev);
}

#endif
