/* SPDX-License-Identifier: MIT */
/*
 * iov.h - a cursor over an iovec array: copy in, copy out, advance, slice.
 *
 * The array is borrowed and never modified. Not thread-safe; no allocation.
 */
#ifndef HV_IOV_H
#define HV_IOV_H

#include <sys/uio.h>

#include "hv/base.h"

struct iov_cursor {
	const struct iovec *iov;
	size_t n;	/* entries left, the current one included */
	size_t skip;	/* bytes of iov[0] already consumed */
};

/** iov_total - sum of the lengths in bytes; SIZE_MAX if it does not fit. */
size_t iov_total(const struct iovec *iov, size_t n);
/** iov_begin - cursor at byte 0 of @iov. */
struct iov_cursor iov_begin(const struct iovec *iov, size_t n);
/** iov_left - bytes between the cursor and the end. */
size_t iov_left(const struct iov_cursor *c);
/** iov_copy_out - copy up to @len bytes from the iovec to @dst, advancing; returns bytes copied. */
size_t iov_copy_out(struct iov_cursor *c, void *dst, size_t len);
/** iov_copy_in - copy up to @len bytes from @src into the iovec, advancing; returns bytes copied. */
size_t iov_copy_in(struct iov_cursor *c, const void *src, size_t len);
/** iov_zero - fill up to @len bytes of the iovec with zeros, advancing; returns bytes written. */
size_t iov_zero(struct iov_cursor *c, size_t len);
/** iov_skip - advance by up to @len bytes; returns bytes skipped. */
size_t iov_skip(struct iov_cursor *c, size_t len);
/**
 * iov_slice - describe the next @len bytes by up to @max entries of @out, advancing
 *
 * Return: entries used, or -E2BIG if @max are too few, -EINVAL if fewer than
 * @len bytes are left; the cursor is then unchanged.
 */
ssize_t iov_slice(struct iov_cursor *c, size_t len, struct iovec *out, size_t max);

#endif
