/* SPDX-License-Identifier: MIT */
/* The sync calls: ranges, zeroing, chains, ephemeral overlays, errors of the file below. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../../lib/block/qcow2.h"

static int raw_fd(uint64_t size, int fill)
{
	int fd = memfd_create("raw", MFD_CLOEXEC);
	char *buf = malloc(size);

	memset(buf, fill, size);
	assert_int_equal(pwrite(fd, buf, size, 0), size);
	free(buf);
	return fd;
}

static int qcow2_fd(uint64_t size, uint32_t bits, const char *backing, enum blk_format format)
{
	struct blk_create c = {
		.size = size, .cluster_bits = bits, .backing = backing, .backing_format = format
	};
	int fd = memfd_create("qcow2", MFD_CLOEXEC);
	struct err e = { 0 };

	assert_int_equal(blk_create_qcow2(fd, &c, &e), 0);
	return fd;
}

/* Names "0", "1", … stand for descriptors of this table. */
static int shelf[8];

static int shelf_gate(void *ctx, const char *parent, const char *name, int *fd,
		      char path[BLK_PATH_MAX], struct err *e)
{
	*fd = dup(shelf[name[0] - '0']);
	strcpy(path, name);
	return *fd < 0 ? -errno : 0;
}

static int open_fd(int fd, enum blk_format format, bool readonly, struct blk **b, struct err *e)
{
	struct blk_open o = { .path = "top",
			      .fd = fd,
			      .format = format,
			      .readonly = readonly,
			      .no_lock = true,
			      .gate = shelf_gate };

	return blk_open(&o, b, e);
}

static struct blk *must_open(int fd, enum blk_format format, bool readonly)
{
	struct err e = { 0 };
	struct blk *b = NULL;

	if (open_fd(fd, format, readonly, &b, &e))
		fail_msg("%s", e.msg);
	return b;
}

static void expect_bytes(struct blk *b, uint64_t off, size_t len, int want)
{
	uint8_t *buf = malloc(len);

	assert_int_equal(blk_pread(b, off, buf, len), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], want);
	free(buf);
}

static void put(struct blk *b, uint64_t off, size_t len, int v)
{
	uint8_t *buf = malloc(len);

	memset(buf, v, len);
	assert_int_equal(blk_pwrite(b, off, buf, len), 0);
	free(buf);
}

static void ranges_past_the_end_are_refused(void **state)
{
	struct blk *b = must_open(raw_fd(4096, 1), BLK_FORMAT_RAW, false);
	struct blk_extent x;
	uint8_t buf[16];

	assert_int_equal(blk_pread(b, 4090, buf, 16), -EINVAL);
	assert_int_equal(blk_pwrite(b, UINT64_MAX, buf, 16), -EINVAL);
	assert_int_equal(blk_pwrite_zeroes(b, 1, UINT64_MAX, false), -EINVAL);
	assert_int_equal(blk_map_sync(b, 4097, 1, &x), -EINVAL);
	assert_int_equal(blk_map_sync(b, 4096, 1, &x), 0);
	assert_int_equal(x.len, 0);
	blk_close(b);
}

static void zeroes_read_as_zeros_in_either_format(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct blk *b = must_open(i & 1 ? qcow2_fd(MIB(1), 12, NULL, 0) : raw_fd(MIB(1), 9),
					  i & 1 ? BLK_FORMAT_QCOW2 : BLK_FORMAT_RAW, false);

		put(b, 0, MIB(1), 9);
		assert_int_equal(blk_pwrite_zeroes(b, 1000, 100000, i & 2), 0);
		expect_bytes(b, 0, 1000, 9);
		expect_bytes(b, 1000, 100000, 0);
		expect_bytes(b, 101000, 100000, 9);
		assert_int_equal(blk_close(b), 0);
	}
}

static void discard_above_a_backing_file_reads_as_zeros(void **state)
{
	struct blk_extent x;
	struct blk *b;

	shelf[0] = raw_fd(MIB(1), 5);
	b = must_open(qcow2_fd(MIB(1), 16, "0", BLK_FORMAT_RAW), BLK_FORMAT_QCOW2, false);
	assert_int_equal(blk_pdiscard(b, 1000, 200000), 0);
	expect_bytes(b, 0, 65536, 5); /* ragged ends are left alone */
	expect_bytes(b, 65536, 131072, 0);
	assert_int_equal(blk_map_sync(b, 65536, MIB(1), &x), 0);
	assert_int_equal(x.kind, BLK_ZERO);
	assert_int_equal(x.depth, 0);
	assert_int_equal(blk_close(b), 0);
	close(shelf[0]);
}

static void a_short_backing_file_reads_as_zeros_past_its_end(void **state)
{
	struct blk *b;

	shelf[0] = raw_fd(MIB(2), 3);
	shelf[1] = qcow2_fd(100352, 12, "0", BLK_FORMAT_RAW);
	b = must_open(qcow2_fd(MIB(2), 16, "1", BLK_FORMAT_QCOW2), BLK_FORMAT_QCOW2, false);
	assert_int_equal(blk_files(b), 3);
	expect_bytes(b, 0, 100352, 3);
	expect_bytes(b, 100352, 100000, 0); /* not what the raw file has there */
	put(b, 100352 + 512, 512, 8);	    /* and the COW agrees */
	expect_bytes(b, 100352 - 512, 512, 3);
	expect_bytes(b, 100352, 512, 0);
	assert_int_equal(blk_close(b), 0);
	close(shelf[0]);
	close(shelf[1]);
}

static void a_loop_of_backing_files_is_refused(void **state)
{
	struct err e = { 0 };
	struct blk *b;

	shelf[0] = qcow2_fd(MIB(1), 16, "1", BLK_FORMAT_QCOW2);
	shelf[1] = qcow2_fd(MIB(1), 16, "0", BLK_FORMAT_QCOW2);
	assert_int_equal(open_fd(shelf[0], BLK_FORMAT_QCOW2, true, &b, &e), -ELOOP);
	close(shelf[0]);
	close(shelf[1]);
}

static void an_ephemeral_overlay_leaves_the_image_alone(void **state)
{
	int fd = raw_fd(MIB(1), 4), copy = dup(fd);
	struct err e = { 0 };
	struct blk *base = must_open(fd, BLK_FORMAT_PROBE, true), *b;
	uint8_t buf[8];

	assert_int_equal(blk_open_ephemeral(base, memfd_create("tmp", MFD_CLOEXEC), &b, &e), 0);
	assert_false(blk_readonly(b));
	expect_bytes(b, 0, 8192, 4);
	put(b, 100, 5000, 6);
	assert_int_equal(blk_pwrite_zeroes(b, MIB(1) / 2, MIB(1) / 2, true), 0);
	assert_int_equal(blk_flush(b), 0);
	expect_bytes(b, 0, 100, 4);
	expect_bytes(b, 100, 5000, 6);
	expect_bytes(b, 5100, 5000, 4);
	expect_bytes(b, MIB(1) / 2, MIB(1) / 2, 0);
	assert_int_equal(blk_close(b), 0);
	assert_int_equal(pread(copy, buf, 8, 200), 8);
	assert_int_equal(buf[0], 4);
	close(copy);
}

static void small_clusters_make_the_refcount_table_grow(void **state)
{
	int fd = qcow2_fd(MIB(24), 9, NULL, 0);
	struct blk *b = must_open(dup(fd), BLK_FORMAT_QCOW2, false);
	struct blk_check chk;
	struct err e;

	put(b, 0, MIB(24), 0x77); /* 49,152 clusters; one table cluster counts 16,384 */
	assert_int_equal(blk_check(b, &chk, &e), 0);
	assert_int_equal(chk.corruptions + chk.leaks + chk.copied_errors, 0);
	assert_int_equal(blk_close(b), 0);
	b = must_open(fd, BLK_FORMAT_QCOW2, true);
	expect_bytes(b, 0, MIB(24), 0x77);
	blk_close(b);
}

static void dropped_clusters_are_used_again(void **state)
{
	int fd = qcow2_fd(MIB(8), 16, NULL, 0);
	struct blk *b = must_open(dup(fd), BLK_FORMAT_QCOW2, false);
	struct stat st;

	for (int i = 0; i < 10; i++) {
		put(b, 0, MIB(8), i);
		assert_int_equal(blk_pdiscard(b, 0, MIB(8)), 0);
		assert_int_equal(blk_flush(b), 0);
	}
	assert_int_equal(blk_close(b), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size < (off_t)MIB(10));
	assert_true(st.st_blocks * 512 < (off_t)MIB(1)); /* given back to the file system */
	close(fd);
}

static void tables_stay_within_their_budget(void **state)
{
	struct blk *b = must_open(qcow2_fd(GIB(4), 12, NULL, 0), BLK_FORMAT_QCOW2, false);
	struct blk_stats st;

	b->tables.budget = KIB(64);
	for (uint64_t off = 0; off < GIB(4); off += MIB(7))
		put(b, off, 512, (int)(off >> 20));
	for (uint64_t off = 0; off < GIB(4); off += MIB(7))
		expect_bytes(b, off, 512, (uint8_t)(off >> 20));
	blk_get_stats(b, &st);
	assert_true(st.meta_cache_bytes <= KIB(72));
	assert_int_equal(blk_close(b), 0);
}

static void expect_sound(struct blk *b)
{
	struct blk_check chk;
	struct err e = { 0 };

	assert_int_equal(blk_check(b, &chk, &e), 0);
	if (e.code)
		fail_msg("%s", e.msg);
	assert_int_equal(chk.corruptions + chk.leaks + chk.copied_errors, 0);
}

/*
 * The block that counts the dropped clusters is read to find a free one. There is no room for
 * it beside the two tables in memory, and both are dirty: a publish comes first.
 */
static void a_publish_to_make_room_leaves_the_refcounts_right(void **state)
{
	int fd = qcow2_fd(KIB(512), 9, NULL, 0);
	struct blk *b = must_open(dup(fd), BLK_FORMAT_QCOW2, false);

	put(b, 0, KIB(64), 1);
	assert_int_equal(blk_close(b), 0);
	b = must_open(fd, BLK_FORMAT_QCOW2, false);
	assert_int_equal(blk_pdiscard(b, KIB(16), KIB(32)), 0);
	b->tables.budget = (sizeof(struct qtable) + 512) * 5 / 2;
	put(b, KIB(64), 512, 2);
	expect_sound(b);
	put(b, KIB(96), KIB(32), 3);
	expect_bytes(b, 0, KIB(16), 1);
	expect_bytes(b, KIB(16), KIB(32), 0);
	expect_bytes(b, KIB(48), KIB(16), 1);
	expect_bytes(b, KIB(64), 512, 2);
	expect_bytes(b, KIB(96), KIB(32), 3);
	expect_sound(b);
	assert_int_equal(blk_close(b), 0);
}

/* Writes and discards with room for a few tables, so that every publish happens in mid-change. */
static void refcounts_hold_with_hardly_any_room_for_tables(void **state)
{
	unsigned seed = 5, model[256] = { 0 }; /* by 8 KiB of the disk */
	struct blk *b = must_open(qcow2_fd(MIB(2), 9, NULL, 0), BLK_FORMAT_QCOW2, false);

	for (unsigned i = 0; i < 4000; i++) {
		unsigned at = (unsigned)rand_r(&seed) % ARRAY_SIZE(model);

		b->tables.budget = 700 * (1 + (uint64_t)rand_r(&seed) % 12);
		model[at] = rand_r(&seed) % 3 ? 1 + i % 255 : 0;
		if (model[at])
			put(b, at * KIB(8), KIB(8), (int)model[at]);
		else
			assert_int_equal(blk_pdiscard(b, at * KIB(8), KIB(8)), 0);
		if (i % 500 == 499)
			expect_sound(b);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(model); i++)
		expect_bytes(b, i * KIB(8), KIB(8), (int)model[i]);
	assert_int_equal(blk_close(b), 0);
}

/* ---- a file that fails ------------------------------------------------------------------- */

struct failing {
	int fd, writes_left, syncs_left;
};

static ssize_t failing_pread(void *ctx, int fd, void *buf, size_t len, uint64_t off)
{
	return pread(((struct failing *)ctx)->fd, buf, len, (off_t)off);
}

static ssize_t failing_pwrite(void *ctx, int fd, const void *buf, size_t len, uint64_t off)
{
	struct failing *f = ctx;

	if (f->writes_left-- <= 0)
		return -ENOSPC;
	return pwrite(f->fd, buf, len, (off_t)off);
}

static int failing_sync(void *ctx, int fd)
{
	return ((struct failing *)ctx)->syncs_left-- <= 0 ? -EIO : 0;
}

static int failing_falloc(void *ctx, int fd, int mode, uint64_t off, uint64_t len)
{
	return -EOPNOTSUPP;
}

static int failing_size(void *ctx, int fd, uint64_t *out)
{
	struct stat st;

	if (fstat(((struct failing *)ctx)->fd, &st))
		return -errno;
	*out = (uint64_t)st.st_size;
	return 0;
}

static const struct bfile_ops failing_ops = {
	.pread = failing_pread,
	.pwrite = failing_pwrite,
	.datasync = failing_sync,
	.falloc = failing_falloc,
	.size = failing_size,
};

static struct blk *open_failing(struct failing *f)
{
	struct blk_open o = {
		.path = "failing", .fd = -1, .format = BLK_FORMAT_QCOW2, .no_lock = true
	};
	struct err e = { 0 };
	struct blk *b = NULL;

	if (blk_open_with(&o, &failing_ops, f, &b, &e))
		fail_msg("%s", e.msg);
	return b;
}

/* The disk below is full for a while, at every possible moment: nothing is lost by it. */
static void a_full_disk_is_an_error_and_no_more(void **state)
{
	for (int at = 0; at < 40; at++) {
		struct failing f = { .fd = qcow2_fd(MIB(1), 12, NULL, 0),
				     .writes_left = at,
				     .syncs_left = 1000 };
		struct blk *b = open_failing(&f);
		struct blk_check chk;
		struct err e;
		uint8_t ok[16], buf[6000];

		for (int i = 0; i < 16; i++) {
			memset(buf, i + 1, sizeof(buf));
			ok[i] = !blk_pwrite(b, (uint64_t)i * 20000, buf, sizeof(buf));
			(void)blk_flush(b);
		}
		f.writes_left = 100000;
		assert_int_equal(blk_flush(b), 0);
		for (int i = 0; i < 16; i++)
			if (ok[i])
				expect_bytes(b, (uint64_t)i * 20000, sizeof(buf), i + 1);
		assert_int_equal(blk_check(b, &chk, &e), 0);
		assert_int_equal(chk.corruptions + chk.copied_errors + chk.leaks, 0);
		assert_int_equal(blk_close(b), 0);
		close(f.fd);
	}
}

static void after_a_failed_flush_nothing_more_is_linked(void **state)
{
	struct failing f = { .fd = qcow2_fd(MIB(1), 12, NULL, 0), .writes_left = 10000 };
	struct blk *b = open_failing(&f);
	uint8_t buf[512] = { 1 };

	assert_int_equal(blk_pwrite(b, 0, buf, sizeof(buf)), 0);
	assert_int_equal(blk_flush(b), -EIO);
	f.syncs_left = 1000;
	assert_int_equal(blk_flush(b), -EIO);
	assert_int_equal(blk_pwrite(b, MIB(1) / 2, buf, sizeof(buf)), -EIO);
	assert_int_equal(blk_close(b), -EIO);
	close(f.fd);
}

static void refcounts_of_every_width_keep_their_neighbours(void **state)
{
	for (unsigned order = 0; order <= 6; order++) {
		uint64_t max = order == 6 ? UINT64_MAX : BIT64(BIT32(order)) - 1;
		uint8_t block[512] = { 0 };

		for (uint64_t i = 0; i < 32; i += 2)
			refcount_store(block, i, order, max);
		for (uint64_t i = 0; i < 32; i++)
			assert_true(refcount_load(block, i, order) == (i % 2 ? 0 : max));
		refcount_store(block, 6, order, 1);
		assert_true(refcount_load(block, 6, order) == 1);
		assert_true(refcount_load(block, 4, order) == max);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_past_the_end_are_refused),
		cmocka_unit_test(zeroes_read_as_zeros_in_either_format),
		cmocka_unit_test(discard_above_a_backing_file_reads_as_zeros),
		cmocka_unit_test(a_short_backing_file_reads_as_zeros_past_its_end),
		cmocka_unit_test(a_loop_of_backing_files_is_refused),
		cmocka_unit_test(an_ephemeral_overlay_leaves_the_image_alone),
		cmocka_unit_test(small_clusters_make_the_refcount_table_grow),
		cmocka_unit_test(dropped_clusters_are_used_again),
		cmocka_unit_test(tables_stay_within_their_budget),
		cmocka_unit_test(a_publish_to_make_room_leaves_the_refcounts_right),
		cmocka_unit_test(refcounts_hold_with_hardly_any_room_for_tables),
		cmocka_unit_test(a_full_disk_is_an_error_and_no_more),
		cmocka_unit_test(after_a_failed_flush_nothing_more_is_linked),
		cmocka_unit_test(refcounts_of_every_width_keep_their_neighbours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
