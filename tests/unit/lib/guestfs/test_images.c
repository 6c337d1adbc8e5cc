/* SPDX-License-Identifier: MIT */
/*
 * ext4, FAT and XFS on the images that tests/support/make-guestfs-corpus.sh makes
 * (tests are run in the project's top folder).
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../support/gfs_support.h"
#include "hv/fd.h"

struct image {
	uint8_t *data;
	struct sparse_disk disk;
	struct gfs *g;
	struct gfs_fs *fs;
};

static struct image *image_open(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct image *im = calloc(1, sizeof(*im));
	struct gfs_source src;
	size_t size;

	assert_true(fd >= 0);
	assert_int_equal(fd_slurp(fd, MIB(1), &im->data, &size), 0);
	assert_int_equal(sparse_open(&im->disk, im->data, size), 0);
	src = sparse_source(&im->disk);
	assert_int_equal(gfs_open_sources(&src, 1, &im->g, NULL), 0);
	assert_int_equal(gfs_fs_count(im->g), 1);
	im->fs = gfs_fs_get(im->g, 0);
	return im;
}

static void image_close(struct image *im)
{
	gfs_close(im->g);
	sparse_close(&im->disk);
	free(im->data);
	free(im);
}

static void assert_content(struct gfs_fs *fs, const char *path, const char *want)
{
	struct err e = { 0 };
	uint8_t *buf;
	size_t len;

	if (gfs_read_file(fs, path, 4096, &buf, &len, &e))
		fail_msg("%s", e.msg);
	assert_string_equal((char *)buf, want);
	free(buf);
}

static void ext_of_every_layout(void **state)
{
	static const char *const images[] = { "tests/fuzz/corpus/ext4/ext2",
					      "tests/fuzz/corpus/ext4/inline-csum",
					      "tests/fuzz/corpus/ext4/journaljo",
					      "tests/fuzz/corpus/ext4/journaljo-c" };
	char link[GFS_PATH_MAX];
	struct gfs_stat st;

	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		struct image *im = image_open(images[i]);

		assert_content(im->fs, "/vmlinuz", "kernel\n");
		assert_content(im->fs, "/dir/f3", "3\n");
		assert_int_equal(gfs_readlink(im->fs, "/dir/long", link, NULL), 0);
		assert_int_equal(strlen(link), 93);
		assert_int_equal(gfs_stat(im->fs, "/dir/none", &st, NULL), -ENOENT);
		assert_int_equal(gfs_stat(im->fs, "/boot", &st, NULL), 0);
		assert_int_equal(st.kind, GFS_DIR);
		image_close(im);
	}
}

static void dirty_journal_is_replayed(void **state)
{
	struct image *im = image_open("tests/fuzz/corpus/ext4/journaljo");
	struct gfs_stat st;

	assert_int_equal(gfs_stat(im->fs, "/", &st, NULL), 0);
	assert_non_null(strstr(gfs_fs_info(im->fs)->note, "3 transactions, 2 blocks"));
	image_close(im);
}

static void fat_names_long_and_short_in_any_case(void **state)
{
	struct image *im = image_open("tests/fuzz/corpus/fat/fat12");

	assert_content(im->fs, "/efi/linux/A LONG NAME.EFI", "kernel\n");
	assert_content(im->fs, "/EFI/Linux/ALONGN~1.EFI", "kernel\n");
	assert_string_equal(gfs_fs_info(im->fs)->label, "ESP");
	image_close(im);
	im = image_open("tests/fuzz/corpus/fat/fat32");
	assert_content(im->fs, "/loader/loader.conf",
		       "menuentry \"a\" {\n linux /boot/vmlinuz-6.1 root=/dev/vda\n}\n");
	image_close(im);
}

static void xfs_of_both_versions(void **state)
{
	static const char *const images[] = { "tests/fuzz/corpus/xfs/v5",
					      "tests/fuzz/corpus/xfs/v4" };

	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		struct image *im = image_open(images[i]);

		assert_content(im->fs, "/link", "kernel\n");
		assert_content(im->fs, "/dir/a-file-number-8", "1\n");
		image_close(im);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ext_of_every_layout),
		cmocka_unit_test(dirty_journal_is_replayed),
		cmocka_unit_test(fat_names_long_and_short_in_any_case),
		cmocka_unit_test(xfs_of_both_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
