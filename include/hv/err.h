/* SPDX-License-Identifier: MIT */
/*
 * err.h - an error message that travels up to main, which alone prints and exits.
 *
 * A struct err is a fixed buffer on the caller's stack: no allocation, so it can
 * tell of -ENOMEM too. The function that sees the failure fills it; callers add
 * their context in front with err_wrap(). Not shared between threads.
 */
#ifndef HV_ERR_H
#define HV_ERR_H

#include "hv/base.h"

#define ERR_MSG_MAX 512

struct err {
	int code;		/* negative errno; 0 while nothing failed */
	char msg[ERR_MSG_MAX];	/* one line, no newline, control bytes escaped */
};

/**
 * err_set - record a failure and its text
 * @e:    where to; NULL is allowed and only returns @code
 * @code: negative errno
 *
 * Control characters that came in through the arguments (file names, bytes of an
 * image) are replaced by '?', so that the message stays one printable line.
 *
 * Return: @code.
 */
int err_set(struct err *e, int code, const char *fmt, ...) HV_PRINTF(3, 4);

/**
 * err_errno - record the failed system call's errno as "TEXT: strerror"
 *
 * Return: -errno as it was on entry (-EIO if errno was 0).
 */
int err_errno(struct err *e, const char *fmt, ...) HV_PRINTF(2, 3);

/**
 * err_wrap - put context in front: "CONTEXT: what was there"
 * @code: the callee's negative errno; an empty @e gets strerror of it
 *
 * Return: @code.
 */
int err_wrap(struct err *e, int code, const char *fmt, ...) HV_PRINTF(3, 4);

/** err_hint - append " (HINT)": the cure, where there is a usual cause. */
void err_hint(struct err *e, const char *fmt, ...) HV_PRINTF(2, 3);

#endif
