/* SPDX-License-Identifier: MIT */
/* The iovec cursor. Invariant: skip < iov[0].iov_len, or n == 0. */
#include "hv/iov.h"

#include <errno.h>
#include <string.h>

#include "hv/overflow.h"

size_t iov_total(const struct iovec *iov, size_t n)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		if (!add_size(total, iov[i].iov_len, &total))
			return SIZE_MAX;
	return total;
}

static void iov_settle(struct iov_cursor *c)
{
	while (c->n && c->skip == c->iov->iov_len) {
		c->iov++;
		c->n--;
		c->skip = 0;
	}
}

struct iov_cursor iov_begin(const struct iovec *iov, size_t n)
{
	struct iov_cursor c = { .iov = iov, .n = n };

	iov_settle(&c);
	return c;
}

size_t iov_left(const struct iov_cursor *c)
{
	return iov_total(c->iov, c->n) - c->skip;
}

/* The next contiguous piece, at most *@len bytes; consumes it. NULL at the end. */
static void *iov_next(struct iov_cursor *c, size_t want, size_t *got)
{
	char *p;

	if (!c->n || !want)
		return NULL;
	p = (char *)c->iov->iov_base + c->skip;
	*got = MIN(want, c->iov->iov_len - c->skip);
	c->skip += *got;
	iov_settle(c);
	return p;
}

size_t iov_copy_out(struct iov_cursor *c, void *dst, size_t len)
{
	size_t done = 0, n;
	void *p;

	for (; (p = iov_next(c, len - done, &n)); done += n)
		memcpy((char *)dst + done, p, n);
	return done;
}

size_t iov_copy_in(struct iov_cursor *c, const void *src, size_t len)
{
	size_t done = 0, n;
	void *p;

	for (; (p = iov_next(c, len - done, &n)); done += n)
		memcpy(p, (const char *)src + done, n);
	return done;
}

size_t iov_zero(struct iov_cursor *c, size_t len)
{
	size_t done = 0, n;
	void *p;

	for (; (p = iov_next(c, len - done, &n)); done += n)
		memset(p, 0, n);
	return done;
}

size_t iov_skip(struct iov_cursor *c, size_t len)
{
	size_t done = 0, n;

	while (iov_next(c, len - done, &n))
		done += n;
	return done;
}

ssize_t iov_slice(struct iov_cursor *c, size_t len, struct iovec *out, size_t max)
{
	struct iov_cursor at = *c;
	size_t used = 0, n;
	void *p;

	for (; len; len -= n, used++) {
		p = iov_next(&at, len, &n);
		if (!p)
			return -EINVAL;
		if (used == max)
			return -E2BIG;
		out[used] = (struct iovec){ .iov_base = p, .iov_len = n };
	}
	*c = at;
	return (ssize_t)used;
}
