/* SPDX-License-Identifier: MIT */
/* The one-line error message: fill, wrap with context, append a hint. */
#include "hv/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* File names and image bytes reach messages: nothing in them may move the terminal's cursor. */
static void err_escape(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	err_escape(e->msg);
	e->code = code;
	return code;
}

int err_errno(struct err *e, const char *fmt, ...)
{
	int saved = errno ? errno : EIO;
	char what[ERR_MSG_MAX];
	va_list ap;

	if (!e)
		return -saved;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(e, -saved, "%s: %s", what, strerror(saved));
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char what[ERR_MSG_MAX], old[ERR_MSG_MAX];
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(old, sizeof(old), "%s", e->code ? e->msg : strerror(-code));
	return err_set(e, code, "%s: %s", what, old);
}

void err_hint(struct err *e, const char *fmt, ...)
{
	char hint[ERR_MSG_MAX];
	size_t used;
	va_list ap;

	if (!e)
		return;
	va_start(ap, fmt);
	vsnprintf(hint, sizeof(hint), fmt, ap);
	va_end(ap);
	err_escape(hint);
	used = strlen(e->msg);
	snprintf(e->msg + used, sizeof(e->msg) - used, " (%s)", hint);
}
