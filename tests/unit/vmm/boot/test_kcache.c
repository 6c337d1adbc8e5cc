/* SPDX-License-Identifier: MIT */
/* The cache: hits, damaged entries, bounds, whose directory it is. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "boot/kcache.h"
#include "hv/fd.h"

#define IMAGE_BYTES 300000

static char base[64], dir[80];
static uint8_t image[IMAGE_BYTES];

static void digest_of(unsigned n, uint8_t d[SHA256_BYTES])
{
	sha256(&n, sizeof(n), d);
}

static int image_fd(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, image, sizeof(image)), 0);
	return fd;
}

static int setup(void **state)
{
	strcpy(base, "/tmp/hv-kcache-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(dir, sizeof(dir), "%s/vmm", base);
	setenv("XDG_CACHE_HOME", base, 1);
	for (size_t i = 0; i < sizeof(image); i++)
		image[i] = (uint8_t)(i * 31 >> 3);
	return 0;
}

static unsigned each_file(void (*fn)(const char *path))
{
	DIR *d = opendir(dir);
	struct dirent *de;
	unsigned n = 0;

	while (d && (de = readdir(d))) {
		char path[512];

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		n++;
		if (fn)
			fn(path);
	}
	if (d)
		closedir(d);
	return n;
}

static void file_remove(const char *path)
{
	unlink(path);
}

static int teardown(void **state)
{
	each_file(file_remove);
	rmdir(dir);
	return rmdir(base);
}

static int put(int cache, unsigned n)
{
	CLEANUP_FD int in = image_fd(), out = -1;
	uint8_t d[SHA256_BYTES];

	digest_of(n, d);
	return kcache_put(cache, d, in, &out);
}

static int get(int cache, unsigned n)
{
	CLEANUP_FD int fd = -1;
	CLEANUP_FREE uint8_t *back = malloc(IMAGE_BYTES);
	uint8_t d[SHA256_BYTES];
	int r;

	digest_of(n, d);
	r = kcache_get(cache, d, &fd);
	if (r)
		return r;
	assert_int_equal(fd_pread_full(fd, back, IMAGE_BYTES, 0), 0);
	assert_memory_equal(back, image, IMAGE_BYTES);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	return 0;
}

static void what_was_put_is_found_and_nothing_else(void **state)
{
	CLEANUP_FD int cache = kcache_open(NULL);
	struct kcache_usage u;

	assert_true(cache >= 0);
	assert_int_equal(get(cache, 1), -ENOENT);
	assert_int_equal(put(cache, 1), 0);
	assert_int_equal(get(cache, 1), 0);
	assert_int_equal(get(cache, 2), -ENOENT);
	assert_int_equal(put(cache, 1), 0); /* another launcher was quicker */
	assert_int_equal(get(cache, 1), 0);
	assert_int_equal(kcache_usage(cache, &u), 0);
	assert_int_equal(u.entries, 1);
	assert_in_range(u.bytes, IMAGE_BYTES, IMAGE_BYTES + 100);
}

static void files_and_directory_are_private(void **state)
{
	CLEANUP_FD int cache = kcache_open(NULL);
	uint8_t d[SHA256_BYTES];
	CLEANUP_FD int fd = -1;
	struct stat st;

	assert_int_equal(fstat(cache, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(put(cache, 1), 0);
	digest_of(1, d);
	assert_int_equal(kcache_get(cache, d, &fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void damage_one_byte(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDWR);

	assert_int_equal(fd_pwrite_full(fd, "\xff\xfe", 2, IMAGE_BYTES / 2), 0);
}

static void damage_trailer(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDWR);

	assert_int_equal(fd_pwrite_full(fd, "\x77", 1, IMAGE_BYTES + 9), 0);
}

static void damage_cut(const char *path)
{
	assert_int_equal(truncate(path, IMAGE_BYTES - 1000), 0);
}

static void damage_empty(const char *path)
{
	assert_int_equal(truncate(path, 0), 0);
}

static void damage_link(const char *path)
{
	unlink(path);
	assert_int_equal(symlink("/etc/passwd", path), 0);
}

static void damage_mode(const char *path)
{
	assert_int_equal(chmod(path, 0666), 0);
}

static void a_damaged_entry_is_made_anew(void **state)
{
	void (*const damage[])(const char *) = { damage_one_byte, damage_trailer, damage_cut,
						 damage_empty,	  damage_link,	  damage_mode };
	CLEANUP_FD int cache = kcache_open(NULL);

	for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
		assert_int_equal(put(cache, 1), 0);
		assert_int_equal(each_file(damage[i]), 1);
		assert_int_equal(get(cache, 1), -ENOENT);
		assert_int_equal(each_file(NULL), 0);
		assert_int_equal(put(cache, 1), 0);
		assert_int_equal(get(cache, 1), 0);
	}
}

static void an_entry_under_another_name_is_not_believed(void **state)
{
	CLEANUP_FD int cache = kcache_open(NULL);
	char from[200], to[200];
	uint8_t d[SHA256_BYTES];
	DIR *dp;

	assert_int_equal(put(cache, 1), 0);
	dp = opendir(dir);
	for (struct dirent *de; (de = readdir(dp));)
		if (de->d_name[0] != '.')
			snprintf(from, sizeof(from), "%s/%.100s", dir, de->d_name);
	closedir(dp);
	digest_of(2, d);
	strcpy(to, from);
	for (unsigned i = 0; i < SHA256_BYTES; i++) {
		char h[3];

		snprintf(h, sizeof(h), "%02x", d[i]);
		memcpy(to + strlen(dir) + 1 + (size_t)2 * i, h, 2);
	}
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(get(cache, 2), -ENOENT);
}

static void the_least_recently_used_entries_go(void **state)
{
	CLEANUP_FD int cache = kcache_open(NULL);
	struct kcache_usage u;

	for (unsigned i = 0; i < KCACHE_ENTRIES_MAX; i++) {
		assert_int_equal(put(cache, i), 0);
		usleep(20000); /* file times tick in jiffies */
	}
	assert_int_equal(get(cache, 0), 0);
	usleep(20000);
	assert_int_equal(put(cache, 100), 0);
	assert_int_equal(kcache_usage(cache, &u), 0);
	assert_int_equal(u.entries, KCACHE_ENTRIES_MAX);
	assert_int_equal(get(cache, 0), 0);
	assert_int_equal(get(cache, 1), -ENOENT);
	assert_int_equal(get(cache, 100), 0);
}

static void a_lost_writers_file_is_removed_in_time(void **state)
{
	const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	CLEANUP_FD int cache = kcache_open(NULL);
	CLEANUP_FD int stale = openat(cache, ".new-1-ab", O_CREAT | O_WRONLY, 0600);
	CLEANUP_FD int fresh = openat(cache, ".new-2-cd", O_CREAT | O_WRONLY, 0600);

	assert_int_equal(futimens(stale, old), 0);
	assert_true(fresh >= 0);
	assert_int_equal(put(cache, 1), 0);
	assert_int_equal(faccessat(cache, ".new-1-ab", F_OK, 0), -1);
	assert_int_equal(faccessat(cache, ".new-2-cd", F_OK, 0), 0);
}

static void a_directory_that_others_may_write_is_not_used(void **state)
{
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(kcache_open(NULL), -EPERM);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(symlink("/tmp", dir), 0);
	assert_true(kcache_open(NULL) < 0);
	unlink(dir);
}

static void no_home_is_no_cache(void **state)
{
	char path[100];

	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	assert_int_equal(kcache_dir(path, sizeof(path), true), -ENOENT);
	assert_int_equal(kcache_open(NULL), -ENOENT);
	setenv("HOME", base, 1);
	assert_int_equal(kcache_dir(path, sizeof(path), false), 0);
	assert_non_null(strstr(path, "/.cache/vmm"));
	setenv("XDG_CACHE_HOME", "relative", 1);
	assert_int_equal(kcache_dir(path, 20, false), -ENAMETOOLONG);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_put_is_found_and_nothing_else),
		T(files_and_directory_are_private),
		T(a_damaged_entry_is_made_anew),
		T(an_entry_under_another_name_is_not_believed),
		T(the_least_recently_used_entries_go),
		T(a_lost_writers_file_is_removed_in_time),
		T(a_directory_that_others_may_write_is_not_used),
		T(no_home_is_no_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
