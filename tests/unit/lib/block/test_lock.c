/* SPDX-License-Identifier: MIT */
/* QEMU's lock bytes: who excludes whom. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hv/block.h"

static char path[64];

static int another(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int setup(void **state)
{
	int fd;

	strcpy(path, "/tmp/hv-lock-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	return unlink(path);
}

static void writer_excludes_writer_and_reader(void **state)
{
	int a = another(), b = another();
	struct err e;

	assert_int_equal(blk_lock_fd(a, true, path, &e), 0);
	assert_int_equal(blk_lock_fd(b, true, path, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "in use by another program"));
	assert_int_equal(blk_lock_fd(b, false, path, &e), -EBUSY);
	blk_unlock_fd(a);
	assert_int_equal(blk_lock_fd(b, true, path, &e), 0);
	close(a);
	close(b);
}

static void readers_share_and_exclude_a_writer(void **state)
{
	int a = another(), b = another(), c = another();
	struct err e;

	assert_int_equal(blk_lock_fd(a, false, path, &e), 0);
	assert_int_equal(blk_lock_fd(b, false, path, &e), 0);
	assert_int_equal(blk_lock_fd(c, true, path, &e), -EBUSY);
	close(a);
	assert_int_equal(blk_lock_fd(c, true, path, &e), -EBUSY);
	close(b);
	assert_int_equal(blk_lock_fd(c, true, path, &e), 0);
	close(c);
}

static void a_passed_descriptor_keeps_the_lock(void **state)
{
	int a = another(), b = another(), passed = dup(a);
	struct err e;

	assert_int_equal(blk_lock_fd(a, true, path, &e), 0);
	close(a);
	assert_int_equal(blk_lock_fd(b, true, path, &e), -EBUSY);
	assert_int_equal(blk_lock_fd(passed, true, path, &e), 0); /* its own */
	close(passed);
	assert_int_equal(blk_lock_fd(b, true, path, &e), 0);
	close(b);
}

/* Byte 101: "I write"; byte 203: "nobody else resizes". As QEMU's file driver has them. */
static void the_bytes_are_qemus(void **state)
{
	const int held[] = { 100, 101, 103, 201, 203 };
	int a = another(), b = another();
	struct err e;

	assert_int_equal(blk_lock_fd(a, true, path, &e), 0);
	for (int at = 95; at < 210; at++) {
		struct flock fl = { .l_type = F_WRLCK, .l_start = at, .l_len = 1 };
		bool want = false;

		for (unsigned i = 0; i < ARRAY_SIZE(held); i++)
			want |= held[i] == at;
		assert_int_equal(fcntl(b, F_OFD_GETLK, &fl), 0);
		assert_int_equal(fl.l_type != F_UNLCK, want);
	}
	close(a);
	close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writer_excludes_writer_and_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(readers_share_and_exclude_a_writer, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_passed_descriptor_keeps_the_lock, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_bytes_are_qemus, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
