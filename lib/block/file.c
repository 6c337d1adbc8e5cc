/* SPDX-License-Identifier: MIT */
/* Whole transfers on one image file; the O_DIRECT bounce buffer; replaceable system calls. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/fd.h"

static ssize_t kernel_pread(void *ctx, int fd, void *buf, size_t len, uint64_t off)
{
	ssize_t n = pread(fd, buf, len, (off_t)off);

	return n < 0 ? -errno : n;
}

static ssize_t kernel_pwrite(void *ctx, int fd, const void *buf, size_t len, uint64_t off)
{
	ssize_t n = pwrite(fd, buf, len, (off_t)off);

	return n < 0 ? -errno : n;
}

static int kernel_datasync(void *ctx, int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int kernel_falloc(void *ctx, int fd, int mode, uint64_t off, uint64_t len)
{
	return fallocate(fd, mode, (off_t)off, (off_t)len) < 0 ? -errno : 0;
}

static int kernel_size(void *ctx, int fd, uint64_t *out)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, out) < 0 ? -errno : 0;
	*out = (uint64_t)st.st_size;
	return 0;
}

const struct bfile_ops bfile_kernel_ops = {
	.pread = kernel_pread,
	.pwrite = kernel_pwrite,
	.datasync = kernel_datasync,
	.falloc = kernel_falloc,
	.size = kernel_size,
};

/* O_DIRECT's unit differs by file system and device: try the small one. */
static uint32_t direct_align(struct bfile *f)
{
	ssize_t n = f->ops->pread(f->ctx, f->fd, f->bounce + 512, 512, 512);

	return n == -EINVAL ? 4096 : 512;
}

int bfile_init(struct bfile *f, int fd, const struct bfile_ops *ops, void *ctx)
{
	int flags = ops ? 0 : fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	*f = (struct bfile){
		.fd = fd, .align = 512, .ops = ops ? ops : &bfile_kernel_ops, .ctx = ctx
	};
	if (!(flags & O_DIRECT))
		return 0;
	f->bounce = aligned_alloc(4096, BFILE_BOUNCE);
	if (!f->bounce)
		return -ENOMEM;
	f->direct = true;
	f->align = direct_align(f);
	return 0;
}

void bfile_fini(struct bfile *f)
{
	free(f->bounce);
	f->bounce = NULL;
	fd_close(&f->fd);
}

int bfile_size(const struct bfile *f, uint64_t *out)
{
	return f->ops->size(f->ctx, f->fd, out);
}

static int raw_pread(struct bfile *f, void *buf, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n =
			f->ops->pread(f->ctx, f->fd, (char *)buf + done, len - done, off + done);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0 || (f->direct && n % f->align)) { /* the end of the file */
			memset((char *)buf + done + n, 0, len - done - (size_t)n);
			return 0;
		}
		done += (size_t)n;
	}
	return 0;
}

static int raw_pwrite(struct bfile *f, const void *buf, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = f->ops->pwrite(f->ctx, f->fd, (const char *)buf + done, len - done,
					   off + done);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

static bool direct_ok(const struct bfile *f, const void *buf, size_t len, uint64_t off)
{
	return !f->direct || IS_ALIGNED((uintptr_t)buf | len | off, f->align);
}

/* The aligned window of the bounce buffer around the next bytes; returns how many fit. */
static size_t bounce_window(const struct bfile *f, size_t len, uint64_t off, uint64_t *start,
			    size_t *span)
{
	size_t lead = off % f->align;
	size_t n = MIN(len, BFILE_BOUNCE - lead);

	*start = off - lead;
	*span = ALIGN_UP(lead + n, (size_t)f->align);
	return n;
}

int bfile_pread(struct bfile *f, void *buf, size_t len, uint64_t off)
{
	uint64_t start;
	size_t span, n;
	int r;

	if (direct_ok(f, buf, len, off))
		return raw_pread(f, buf, len, off);
	for (; len; buf = (char *)buf + n, off += n, len -= n) {
		n = bounce_window(f, len, off, &start, &span);
		r = raw_pread(f, f->bounce, span, start);
		if (r)
			return r;
		memcpy(buf, f->bounce + (off - start), n);
	}
	return 0;
}

int bfile_pwrite(struct bfile *f, const void *buf, size_t len, uint64_t off)
{
	uint64_t start;
	size_t span, n;
	int r = 0;

	if (direct_ok(f, buf, len, off))
		return raw_pwrite(f, buf, len, off);
	for (; len && !r; buf = (const char *)buf + n, off += n, len -= n) {
		n = bounce_window(f, len, off, &start, &span);
		if (n != span)
			r = raw_pread(f, f->bounce, span, start);
		if (r)
			break;
		memcpy(f->bounce + (off - start), buf, n);
		r = raw_pwrite(f, f->bounce, span, start);
	}
	return r;
}

int bfile_read_iov(struct bfile *f, struct iov_cursor *c, uint64_t len, uint64_t off)
{
	struct iovec one;
	int r;

	for (; len; len -= one.iov_len, off += one.iov_len) {
		size_t n = (size_t)MIN(len, (uint64_t)(c->n ? c->iov->iov_len - c->skip : 0));

		if (!n || iov_slice(c, n, &one, 1) != 1)
			return -EINVAL;
		r = bfile_pread(f, one.iov_base, n, off);
		if (r)
			return r;
	}
	return 0;
}

int bfile_write_iov(struct bfile *f, struct iov_cursor *c, uint64_t len, uint64_t off)
{
	struct iovec one;
	int r;

	for (; len; len -= one.iov_len, off += one.iov_len) {
		size_t n = (size_t)MIN(len, (uint64_t)(c->n ? c->iov->iov_len - c->skip : 0));

		if (!n || iov_slice(c, n, &one, 1) != 1)
			return -EINVAL;
		r = bfile_pwrite(f, one.iov_base, n, off);
		if (r)
			return r;
	}
	return 0;
}

int bfile_datasync(struct bfile *f)
{
	return f->unsafe ? 0 : f->ops->datasync(f->ctx, f->fd);
}

int bfile_falloc(struct bfile *f, int mode, uint64_t off, uint64_t len)
{
	return f->ops->falloc(f->ctx, f->fd, mode, off, len);
}

int bfile_write_zeroes(struct bfile *f, uint64_t off, uint64_t len, bool unmap)
{
	static const uint8_t zeros[KIB(64)] __attribute__((aligned(4096)));
	int mode = unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	int r = bfile_falloc(f, mode | FALLOC_FL_KEEP_SIZE, off, len);

	if (r != -EOPNOTSUPP && r != -EINVAL && r != -ENODEV)
		return r;
	for (r = 0; len && !r;) {
		size_t n = (size_t)MIN(len, sizeof(zeros));

		r = bfile_pwrite(f, zeros, n, off);
		off += n;
		len -= n;
	}
	return r;
}
