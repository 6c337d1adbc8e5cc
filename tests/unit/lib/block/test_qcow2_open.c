/* SPDX-License-Identifier: MIT */
/* Headers that lie: each field out of its limits is an error before it costs anything. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../../lib/block/qcow2.h"
#include "hv/bytes.h"

#define H(field) offsetof(struct qcow2_header, field)

static int image_new(void)
{
	struct blk_create c = { .size = MIB(4), .cluster_bits = 12 };
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct err e;

	assert_int_equal(blk_create_qcow2(fd, &c, &e), 0);
	return fd;
}

static void poke(int fd, size_t at, const void *data, size_t len)
{
	assert_int_equal(pwrite(fd, data, len, (off_t)at), len);
}

static void poke32(int fd, size_t at, uint32_t v)
{
	uint8_t be[4];

	store_be32(be, v);
	poke(fd, at, be, 4);
}

static void poke64(int fd, size_t at, uint64_t v)
{
	uint8_t be[8];

	store_be64(be, v);
	poke(fd, at, be, 8);
}

static uint64_t peek64(int fd, size_t at)
{
	uint8_t be[8];

	assert_int_equal(pread(fd, be, 8, (off_t)at), 8);
	return load_be64(be);
}

/* Opens a duplicate, so that @fd stays for a look at the file afterwards. */
static int try_open(int fd, bool readonly, struct blk **b, struct err *e)
{
	struct blk_open o = { .path = "image",
			      .fd = dup(fd),
			      .format = BLK_FORMAT_QCOW2,
			      .readonly = readonly,
			      .no_lock = true };
	int r = blk_open(&o, b, e);

	if (r)
		close(o.fd);
	return r;
}

static void expect_refused(int fd, int want)
{
	struct blk *b;
	struct err e = { 0 };

	assert_int_equal(try_open(fd, true, &b, &e), want);
	assert_int_equal(e.code, want);
	assert_true(e.msg[0]);
	close(fd);
}

static void numbers_out_of_range_are_refused(void **state)
{
	static const struct {
		size_t at;
		unsigned width;
		uint64_t v;
		int want;
	} bad[] = {
		{ H(magic), 4, 0, -EINVAL },
		{ H(version), 4, 1, -ENOTSUP },
		{ H(version), 4, 4, -ENOTSUP },
		{ H(cluster_bits), 4, 8, -EUCLEAN },
		{ H(cluster_bits), 4, 22, -EUCLEAN },
		{ H(cluster_bits), 4, UINT32_MAX, -EUCLEAN },
		{ H(size), 8, UINT64_MAX, -EUCLEAN },
		{ H(size), 8, BIT64(62), -EUCLEAN },
		{ H(crypt_method), 4, 1, -ENOTSUP },
		{ H(crypt_method), 4, 2, -ENOTSUP },
		{ H(l1_size), 4, 0, -EUCLEAN },
		{ H(l1_size), 4, UINT32_MAX, -EFBIG },
		{ H(l1_size), 4, 4194304, -EUCLEAN },
		{ H(l1_table_offset), 8, 0, -EUCLEAN },
		{ H(l1_table_offset), 8, 513, -EUCLEAN },
		{ H(l1_table_offset), 8, UINT64_MAX - 4095, -EUCLEAN },
		{ H(l1_table_offset), 8, 4096, -EUCLEAN }, /* on the refcount table */
		{ H(refcount_table_offset), 8, 0, -EUCLEAN },
		{ H(refcount_table_offset), 8, BIT64(60), -EUCLEAN },
		{ H(refcount_table_clusters), 4, 0, -EUCLEAN },
		{ H(refcount_table_clusters), 4, UINT32_MAX, -EFBIG },
		{ H(nb_snapshots), 4, 65537, -EFBIG },
		{ H(nb_snapshots), 4, 1, -EUCLEAN },
		{ H(refcount_order), 4, 7, -EUCLEAN },
		{ H(header_length), 4, 80, -EUCLEAN },
		{ H(header_length), 4, 8192, -EUCLEAN },
		{ H(header_length), 4, 105, -EUCLEAN },
		{ H(backing_file_size), 4, 0, 0 },
		{ H(incompatible_features), 8, 4, -ENOTSUP },
		{ H(incompatible_features), 8, 8, -EUCLEAN },  /* zlib, and the bit */
		{ H(incompatible_features), 8, 16, -EUCLEAN }, /* extended L2 of 4 KiB */
		{ H(incompatible_features), 8, BIT64(63), -ENOTSUP },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = image_new();

		if (bad[i].width == 4)
			poke32(fd, bad[i].at, (uint32_t)bad[i].v);
		else
			poke64(fd, bad[i].at, bad[i].v);
		if (bad[i].want)
			expect_refused(fd, bad[i].want);
		else
			close(fd);
	}
}

static void backing_names_out_of_the_header_are_refused(void **state)
{
	int fd = image_new();

	poke64(fd, H(backing_file_offset), 4000);
	poke32(fd, H(backing_file_size), 200);
	expect_refused(fd, -EUCLEAN);
	fd = image_new();
	poke64(fd, H(backing_file_offset), 1000);
	poke32(fd, H(backing_file_size), 1024);
	expect_refused(fd, -EUCLEAN);
	fd = image_new();
	poke64(fd, H(backing_file_offset), UINT64_MAX);
	poke32(fd, H(backing_file_size), 5);
	expect_refused(fd, -EUCLEAN);
}

static void an_unknown_feature_is_named_from_the_table(void **state)
{
	struct qcow2_feature_name f = { .type = 0, .bit = 9, .name = "time travel" };
	int fd = image_new();
	struct err e = { 0 };
	struct blk *b;

	poke(fd, sizeof(struct qcow2_header) + 8, &f, sizeof(f));
	poke64(fd, H(incompatible_features), BIT64(9));
	assert_int_equal(try_open(fd, true, &b, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "time travel"));
	close(fd);
}

static void compatible_bits_stay_and_autoclear_bits_go(void **state)
{
	int fd = image_new();
	struct err e = { 0 };
	struct blk *b;

	poke64(fd, H(compatible_features), BIT64(40));
	poke64(fd, H(autoclear_features), BIT64(41) | 1);
	assert_int_equal(try_open(fd, true, &b, &e), 0);
	blk_close(b);
	assert_int_equal(peek64(fd, H(autoclear_features)), BIT64(41) | 1);
	assert_int_equal(try_open(fd, false, &b, &e), 0);
	assert_int_equal(blk_close(b), 0);
	assert_int_equal(peek64(fd, H(autoclear_features)), 0);
	assert_int_equal(peek64(fd, H(compatible_features)), BIT64(40));
	close(fd);
}

static void a_corrupt_image_is_read_only(void **state)
{
	int fd = image_new();
	struct err e = { 0 };
	struct blk *b;

	poke64(fd, H(incompatible_features), QCOW2_INCOMPAT_CORRUPT);
	assert_int_equal(try_open(fd, false, &b, &e), -EUCLEAN);
	assert_int_equal(try_open(fd, true, &b, &e), 0);
	blk_close(b);
	close(fd);
}

static void corruption_found_later_sets_the_bit_and_stops_writes(void **state)
{
	int fd = image_new();
	uint8_t buf[512] = { 1 };
	struct err e = { 0 };
	struct blk *b;

	poke64(fd, 3 * 4096, 4096 | QCOW2_COPIED); /* L2 table on the refcount table */
	assert_int_equal(try_open(fd, false, &b, &e), 0);
	assert_int_equal(blk_pwrite(b, 0, buf, sizeof(buf)), -EUCLEAN);
	assert_int_equal(blk_pwrite(b, MIB(3), buf, sizeof(buf)), -EUCLEAN);
	assert_int_equal(blk_pread(b, MIB(3), buf, sizeof(buf)), 0);
	assert_int_equal(peek64(fd, H(incompatible_features)), QCOW2_INCOMPAT_CORRUPT);
	blk_close(b);
	close(fd);
}

/* Entries of an L2 table that point where no data can be. */
static void bad_data_offsets_are_corruption(void **state)
{
	const uint64_t bad[] = { 4096, 2 * 4096 + 512, 1 * 4096, BIT64(50), 3 * 4096 };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = image_new();
		uint8_t buf[512] = { 1 };
		struct err e = { 0 };
		struct blk *b;

		poke64(fd, 3 * 4096, (8 * 4096) | QCOW2_COPIED);
		poke64(fd, 8 * 4096, bad[i] | QCOW2_COPIED);
		poke64(fd, 9 * 4096, 0);
		assert_int_equal(try_open(fd, false, &b, &e), 0);
		assert_int_equal(blk_pread(b, 0, buf, sizeof(buf)), -EUCLEAN);
		assert_int_equal(blk_pwrite(b, 0, buf, sizeof(buf)), -EUCLEAN);
		blk_close(b);
		close(fd);
	}
}

static void a_dirty_image_is_repaired_before_use(void **state)
{
	int fd = image_new();
	uint8_t buf[4096], back[4096];
	struct blk_check chk;
	struct err e = { 0 };
	struct blk *b;

	memset(buf, 7, sizeof(buf));
	assert_int_equal(try_open(fd, false, &b, &e), 0);
	assert_int_equal(blk_pwrite(b, 8192, buf, sizeof(buf)), 0);
	assert_int_equal(blk_close(b), 0);
	/* Refcounts as they were before: zero for everything that was allocated. */
	for (int c = 4; c < 100; c++)
		poke(fd, 2 * 4096 + (size_t)c * 2, "\0\0", 2);
	poke64(fd, H(incompatible_features), QCOW2_INCOMPAT_DIRTY);
	assert_int_equal(try_open(fd, false, &b, &e), 0);
	assert_int_equal(blk_pwrite(b, 0, buf, sizeof(buf)), 0);
	assert_int_equal(blk_pread(b, 8192, back, sizeof(back)), 0);
	assert_memory_equal(buf, back, sizeof(buf));
	assert_int_equal(blk_check(b, &chk, &e), 0);
	assert_int_equal(chk.corruptions + chk.leaks + chk.copied_errors, 0);
	assert_int_equal(blk_close(b), 0);
	assert_int_equal(peek64(fd, H(incompatible_features)), 0);
	close(fd);
}

static void backing_files_are_denied_without_a_gate(void **state)
{
	struct blk_create c = { .size = MIB(1),
				.backing = "base",
				.backing_format = BLK_FORMAT_RAW };
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct err e = { 0 };
	struct blk *b;

	assert_int_equal(blk_create_qcow2(fd, &c, &e), 0);
	assert_int_equal(try_open(fd, true, &b, &e), -EACCES);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_out_of_range_are_refused),
		cmocka_unit_test(backing_names_out_of_the_header_are_refused),
		cmocka_unit_test(an_unknown_feature_is_named_from_the_table),
		cmocka_unit_test(compatible_bits_stay_and_autoclear_bits_go),
		cmocka_unit_test(a_corrupt_image_is_read_only),
		cmocka_unit_test(corruption_found_later_sets_the_bit_and_stops_writes),
		cmocka_unit_test(bad_data_offsets_are_corruption),
		cmocka_unit_test(a_dirty_image_is_repaired_before_use),
		cmocka_unit_test(backing_files_are_denied_without_a_gate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
