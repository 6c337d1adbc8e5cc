/* SPDX-License-Identifier: MIT */
/* terminal.h - the user's terminal while a guest's console is on it. Launcher only. */
#ifndef HV_VMM_TERMINAL_H
#define HV_VMM_TERMINAL_H

#include "hv/loop.h"

/** terminal_raw - if stdin is a terminal, pass keys through as they are; restored at exit. */
void terminal_raw(void);
/** terminal_restore - as it was found. Idempotent; also registered with atexit(). */
void terminal_restore(void);

#define PUMP_BYTES 4096

/* Copies one descriptor to another as both allow, without ever blocking the loop. */
struct pump {
	struct loop *loop;
	struct loop_source from, to;
	bool from_ready, to_ready;	/* cannot be waited for: always ready */
	uint8_t buf[PUMP_BYTES];
	size_t len;
	bool ended;
	/* Looks at what was read; false ends the pump. NULL: take all. */
	bool (*filter)(void *ctx, const uint8_t *data, size_t len);
	void (*on_end)(void *ctx);	/* end of input, all of it delivered; may be NULL */
	void *ctx;
};
/** pump_start - descriptors are borrowed; @p->filter, on_end and ctx are set by the caller. */
int pump_start(struct pump *p, struct loop *loop, int from, int to);
void pump_stop(struct pump *p);
/** pump_drain - copy synchronously what is there already, then stop. For the end. */
void pump_drain(struct pump *p, int from, int to);

#endif
