/* SPDX-License-Identifier: MIT */
/*
 * log.h - lines on stderr: "PROGRAM: VM: device: text".
 *
 * Programs call log_init() once, before threads. Libraries do not log; they
 * return errors. Guest-triggerable lines go through log_guest(), which is
 * rate-limited per context and counts what it drops. Any thread; one write(2)
 * a line, so lines never mix.
 */
#ifndef HV_LOG_H
#define HV_LOG_H

#include <stdatomic.h>

#include "hv/base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Who speaks. Embedded in a device or a VM; zero-initialised is valid. */
struct log_ctx {
	const char *vm;		   /* borrowed; NULL to leave out */
	const char *dev;	   /* borrowed; NULL to leave out */
	_Atomic uint64_t window;   /* second in which @in_window lines were printed */
	_Atomic uint32_t in_window;
	_Atomic uint64_t dropped;  /* lines suppressed since start */
};

/** log_init - set the program's name (borrowed) and the most verbose level shown. */
void log_init(const char *program, enum log_level level);
/** log_enabled - true if a line of @level would be printed; any thread. */
bool log_enabled(enum log_level level);

void log_error(const struct log_ctx *c, const char *fmt, ...) HV_PRINTF(2, 3);
void log_warn(const struct log_ctx *c, const char *fmt, ...) HV_PRINTF(2, 3);
void log_info(const struct log_ctx *c, const char *fmt, ...) HV_PRINTF(2, 3);
void log_debug(const struct log_ctx *c, const char *fmt, ...) HV_PRINTF(2, 3);

/**
 * log_guest - a line that the guest can provoke at will
 * @c: context; at most 10 lines a second are printed for it, the rest counted
 *
 * Printed at debug level: a guest's mistake is not the operator's problem.
 */
void log_guest(struct log_ctx *c, const char *fmt, ...) HV_PRINTF(2, 3);

#endif
