/* SPDX-License-Identifier: MIT */
/*
 * A hostile qcow2 image: open it, map and read some of it; then, on a copy, write, zero and
 * discard, flush, and open the result again.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hv/block.h"
#include "hv/fd.h"

#define EXTENTS_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int image_fd(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd >= 0 && fd_pwrite_full(fd, data, size, 0))
		fd_close(&fd);
	return fd;
}

static struct blk *image_open(int fd, bool readonly)
{
	struct blk_open o = { .path = "fuzz",
			      .fd = fd,
			      .format = BLK_FORMAT_QCOW2,
			      .readonly = readonly,
			      .no_backing = readonly,
			      .no_lock = true };
	struct err e;
	struct blk *b;

	if (!blk_open(&o, &b, &e))
		return b;
	close(fd);
	return NULL;
}

static void map_and_read(struct blk *b)
{
	static uint8_t buf[KIB(64)];
	struct blk_extent x;
	uint64_t off = 0;

	for (int i = 0; i < EXTENTS_MAX && off < blk_size(b); i++, off += x.len) {
		uint64_t n = MIN(blk_size(b) - off, sizeof(buf));

		(void)blk_pread(b, off, buf, n);
		if (blk_map_sync(b, off, blk_size(b) - off, &x))
			x.len = n;
	}
}

static void write_some(struct blk *b)
{
	static uint8_t buf[KIB(96)];
	uint64_t size = blk_size(b);
	const uint64_t at[] = { 0, 513, size / 2, size > sizeof(buf) ? size - sizeof(buf) : 0 };

	memset(buf, 0xa5, sizeof(buf));
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		uint64_t n = at[i] < size ? MIN(size - at[i], sizeof(buf)) : 0;

		(void)blk_pwrite(b, at[i], buf, n);
		(void)blk_pwrite_zeroes(b, at[i] + n / 3, n / 3, i & 1);
		(void)blk_pdiscard(b, at[i] + n / 2, n - n / 2);
		if (i == 1)
			(void)blk_flush(b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blk_check chk;
	struct blk *b = image_open(image_fd(data, size), true);
	struct err e;
	int fd;

	if (b) {
		map_and_read(b);
		(void)blk_check(b, &chk, &e);
		blk_close(b);
	}
	fd = image_fd(data, size);
	if (fd < 0)
		return 0;
	b = image_open(dup(fd), false);
	if (b) {
		write_some(b);
		map_and_read(b);
		(void)blk_close(b);
		b = image_open(dup(fd), true);
		if (b) {
			map_and_read(b);
			(void)blk_check(b, &chk, &e);
			blk_close(b);
		}
	}
	close(fd);
	return 0;
}
