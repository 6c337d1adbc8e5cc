/* SPDX-License-Identifier: MIT */
#include "crash_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

#define SECTOR 512

static ssize_t crash_pread(void *ctx, int fd, void *buf, size_t len, uint64_t off)
{
	struct crash_file *f = ctx;
	size_t n = off < f->size ? (size_t)MIN((uint64_t)len, f->size - off) : 0;

	memcpy(buf, f->bytes + off, n);
	return (ssize_t)n;
}

static void crash_log(struct crash_file *f, struct crash_op op, const void *data)
{
	if (!f->recording)
		return;
	if (f->ops == f->cap_ops) {
		f->cap_ops = f->cap_ops ? f->cap_ops * 2 : 1024;
		f->op = realloc(f->op, f->cap_ops * sizeof(*f->op));
	}
	if (data) {
		op.data = malloc(op.len);
		memcpy(op.data, data, op.len);
	}
	f->op[f->ops++] = op;
}

static ssize_t crash_pwrite(void *ctx, int fd, const void *buf, size_t len, uint64_t off)
{
	struct crash_file *f = ctx;

	if (off + len > f->cap)
		return -ENOSPC;
	memcpy(f->bytes + off, buf, len);
	f->size = MAX(f->size, off + len);
	crash_log(f, (struct crash_op){ .off = off, .len = len }, buf);
	return (ssize_t)len;
}

static int crash_sync(void *ctx, int fd)
{
	crash_log(ctx, (struct crash_op){ .sync = true }, NULL);
	return 0;
}

static int crash_falloc(void *ctx, int fd, int mode, uint64_t off, uint64_t len)
{
	struct crash_file *f = ctx;

	if (off < f->size)
		memset(f->bytes + off, 0, MIN(len, f->size - off));
	crash_log(f, (struct crash_op){ .punch = true, .off = off, .len = len }, NULL);
	return 0;
}

static int crash_size(void *ctx, int fd, uint64_t *out)
{
	*out = ((struct crash_file *)ctx)->size;
	return 0;
}

const struct bfile_ops crash_file_ops = {
	.pread = crash_pread,
	.pwrite = crash_pwrite,
	.datasync = crash_sync,
	.falloc = crash_falloc,
	.size = crash_size,
};

int crash_file_init(struct crash_file *f, int fd, uint64_t cap)
{
	uint8_t *got = NULL;
	size_t len = 0;
	int r = fd < 0 ? 0 : fd_slurp(fd, cap, &got, &len);

	memset(f, 0, sizeof(*f));
	if (r)
		return r;
	f->cap = cap;
	f->size = len;
	f->bytes = calloc(1, cap);
	if (f->bytes && got)
		memcpy(f->bytes, got, len);
	free(got);
	return f->bytes ? 0 : -ENOMEM;
}

void crash_file_fini(struct crash_file *f)
{
	for (size_t i = 0; i < f->ops; i++)
		free(f->op[i].data);
	free(f->op);
	free(f->bytes);
	memset(f, 0, sizeof(*f));
}

/* All of a write, or each of its sectors by the toss of a coin. */
static void apply(struct crash_file *out, const struct crash_op *op, unsigned *seed)
{
	for (size_t at = 0; at < op->len;) {
		size_t n = MIN(op->len - at, SECTOR - (op->off + at) % SECTOR);

		if (!seed || rand_r(seed) % 4) {
			if (op->punch && op->off + at + n <= out->size)
				memset(out->bytes + op->off + at, 0, n);
			if (!op->punch) {
				memcpy(out->bytes + op->off + at, op->data + at, n);
				out->size = MAX(out->size, op->off + at + n);
			}
		}
		at += n;
	}
}

void crash_file_state(const struct crash_file *f, const struct crash_file *base, size_t cut,
		      unsigned seed, struct crash_file *out)
{
	size_t durable = 0;

	memset(out->bytes, 0, MAX(out->size, base->size));
	memcpy(out->bytes, base->bytes, base->size);
	out->size = base->size;
	for (size_t i = 0; i < cut; i++)
		if (f->op[i].sync)
			durable = i;
	for (size_t i = 0; i < cut; i++) {
		bool keep = i < durable || seed == 0;

		if (f->op[i].sync || (!keep && seed == 1))
			continue;
		if (!keep && rand_r(&seed) % 3 == 0)
			continue; /* lost as a whole */
		apply(out, &f->op[i], keep || rand_r(&seed) % 2 ? NULL : &seed);
	}
}
