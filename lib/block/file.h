/* SPDX-License-Identifier: MIT */
/*
 * file.h - one image file beneath the formats: whole transfers, zero fill past the end,
 * bounce buffers where O_DIRECT needs them, and a table of system calls that tests replace.
 *
 * One thread at a time (the metadata owner); queue threads use the descriptor only.
 */
#ifndef HV_BLOCK_FILE_H
#define HV_BLOCK_FILE_H

#include "hv/base.h"
#include "hv/block.h"
#include "hv/iov.h"

/* What a file is made of. The default calls the kernel; the crash test keeps a log. */
struct bfile_ops {
	ssize_t (*pread)(void *ctx, int fd, void *buf, size_t len, uint64_t off);
	ssize_t (*pwrite)(void *ctx, int fd, const void *buf, size_t len, uint64_t off);
	int (*datasync)(void *ctx, int fd);
	int (*falloc)(void *ctx, int fd, int mode, uint64_t off, uint64_t len);
	int (*size)(void *ctx, int fd, uint64_t *out);
};

struct bfile {
	int fd;
	bool direct;	 /* O_DIRECT: see @align */
	bool unsafe;	 /* flushes are ignored */
	uint32_t align;	 /* bytes; 512 without O_DIRECT */
	uint8_t *bounce; /* BFILE_BOUNCE bytes, only with O_DIRECT */
	const struct bfile_ops *ops;
	void *ctx;
};

#define BFILE_BOUNCE KIB(64)

extern const struct bfile_ops bfile_kernel_ops;

/** bfile_init - wrap @fd (owned from now on); @ops NULL: the kernel's. 0 or -errno. */
int bfile_init(struct bfile *f, int fd, const struct bfile_ops *ops, void *ctx);
/** bfile_fini - close and release. */
void bfile_fini(struct bfile *f);
/** bfile_size - bytes; works for block devices. */
int bfile_size(const struct bfile *f, uint64_t *out);
/** bfile_pread - all of it; what lies past the end reads as zeros. */
int bfile_pread(struct bfile *f, void *buf, size_t len, uint64_t off);
int bfile_pwrite(struct bfile *f, const void *buf, size_t len, uint64_t off);
/** bfile_read_iov, bfile_write_iov - the same for the cursor's next @len bytes. */
int bfile_read_iov(struct bfile *f, struct iov_cursor *c, uint64_t len, uint64_t off);
int bfile_write_iov(struct bfile *f, struct iov_cursor *c, uint64_t len, uint64_t off);
int bfile_datasync(struct bfile *f);
int bfile_falloc(struct bfile *f, int mode, uint64_t off, uint64_t len);
/** bfile_write_zeroes - by fallocate where that works, else by writing zeros. */
int bfile_write_zeroes(struct bfile *f, uint64_t off, uint64_t len, bool unmap);

#endif
