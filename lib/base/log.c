/* SPDX-License-Identifier: MIT */
/* Log lines on stderr, one write(2) each, and a rate limit for what guests provoke. */
#include "hv/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024
#define LOG_GUEST_LINES_PER_SECOND 10

/* Set once by log_init() before threads start, read-only afterwards. */
static const char *log_program = "hv";
static enum log_level log_level = LOG_WARN;

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= log_level;
}

static size_t log_prefix(char *line, size_t size, const struct log_ctx *c)
{
	int n = snprintf(line, size, "%s: %s%s%s%s", log_program, c && c->vm ? c->vm : "",
			 c && c->vm ? ": " : "", c && c->dev ? c->dev : "", c && c->dev ? ": " : "");

	return n < 0 ? 0 : MIN((size_t)n, size - 1);
}

static void log_emit(const struct log_ctx *c, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX];
	int saved = errno, n;
	size_t len = log_prefix(line, sizeof(line) - 1, c);

	n = vsnprintf(line + len, sizeof(line) - 1 - len, fmt, ap);
	if (n > 0)
		len = MIN(len + (size_t)n, sizeof(line) - 2);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	/* A full or closed stderr must not stop a VM. */
	if (write(STDERR_FILENO, line, len) < 0)
		(void)0;
	errno = saved;
}

#define LOG_DEFINE(name, lvl)                                       \
	void name(const struct log_ctx *c, const char *fmt, ...)    \
	{                                                           \
		va_list ap;                                         \
		if (!log_enabled(lvl))                              \
			return;                                     \
		va_start(ap, fmt);                                  \
		log_emit(c, fmt, ap);                               \
		va_end(ap);                                         \
	}

LOG_DEFINE(log_error, LOG_ERROR)
LOG_DEFINE(log_warn, LOG_WARN)
LOG_DEFINE(log_info, LOG_INFO)
LOG_DEFINE(log_debug, LOG_DEBUG)

/* True if this second still has room; races only shift a line between seconds. */
static bool log_admit(struct log_ctx *c)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (atomic_load_explicit(&c->window, memory_order_relaxed) != (uint64_t)now.tv_sec) {
		atomic_store_explicit(&c->window, (uint64_t)now.tv_sec, memory_order_relaxed);
		atomic_store_explicit(&c->in_window, 0, memory_order_relaxed);
	}
	return atomic_fetch_add_explicit(&c->in_window, 1, memory_order_relaxed) <
	       LOG_GUEST_LINES_PER_SECOND;
}

void log_guest(struct log_ctx *c, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(LOG_DEBUG) || !log_admit(c)) {
		atomic_fetch_add_explicit(&c->dropped, 1, memory_order_relaxed);
		return;
	}
	va_start(ap, fmt);
	log_emit(c, fmt, ap);
	va_end(ap);
}
