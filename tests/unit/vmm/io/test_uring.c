/* SPDX-License-Identifier: MIT */
/* What a restricted ring does and what it refuses. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "io/uring.h"

static struct uring *u;
static int last_res;

static int setup(void **state)
{
	int r = uring_new(&u);

	if (r) {
		printf("skip: io_uring: %s\n", strerror(-r));
		u = NULL;
	}
	return 0;
}

static int teardown(void **state)
{
	uring_free(u);
	return 0;
}

static void note(struct uring_op *op, int res)
{
	last_res = res;
}

static struct uring_op op = { .done = note };

static int wait_result(void)
{
	struct io_uring_cqe *cqe;

	assert_int_equal(io_uring_wait_cqe(uring_raw(u), &cqe), 0);
	assert_int_equal(uring_reap(u), 1);
	return last_res;
}

static void openat_is_refused(void **state)
{
	struct io_uring_sqe *sqe;

	if (!u)
		skip();
	sqe = io_uring_get_sqe(uring_raw(u));
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	io_uring_sqe_set_data(sqe, &op);
	io_uring_submit(uring_raw(u));
	assert_int_equal(wait_result(), -EACCES);
}

static void plain_descriptors_are_refused(void **state)
{
	struct io_uring_sqe *sqe;
	char b[4];

	if (!u)
		skip();
	sqe = io_uring_get_sqe(uring_raw(u));
	io_uring_prep_read(sqe, 0, b, sizeof(b), 0);
	io_uring_sqe_set_data(sqe, &op);
	io_uring_submit(uring_raw(u));
	assert_int_equal(wait_result(), -EACCES);
}

static void linking_and_draining_are_refused(void **state)
{
	struct io_uring_sqe *sqe;

	if (!u)
		skip();
	sqe = io_uring_get_sqe(uring_raw(u));
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, &op);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | IOSQE_IO_DRAIN);
	io_uring_submit(uring_raw(u));
	assert_int_equal(wait_result(), -EACCES);
}

static void registering_buffers_is_refused(void **state)
{
	char b[4096];
	struct iovec iov = { b, sizeof(b) };

	if (!u)
		skip();
	assert_int_equal(io_uring_register_buffers(uring_raw(u), &iov, 1), -EACCES);
	assert_int_equal(io_uring_unregister_files(uring_raw(u)), -EACCES);
}

static void fixed_files_are_read_written_and_synced(void **state)
{
	char path[] = "/tmp/hv-uring-XXXXXX", in[8] = { 0 };
	struct iovec out_iov = { "written", 8 }, in_iov = { in, 8 };
	int fd, slot;

	if (!u)
		skip();
	fd = mkstemp(path);
	unlink(path);
	slot = uring_add_files(u, &fd, 1);
	assert_true(slot >= 0);
	uring_writev(u, &op, (unsigned)slot, &out_iov, 1, 4096);
	assert_true(uring_submit(u));
	assert_int_equal(wait_result(), 8);
	uring_fdatasync(u, &op, (unsigned)slot);
	assert_true(uring_submit(u));
	assert_int_equal(wait_result(), 0);
	uring_readv(u, &op, (unsigned)slot, &in_iov, 1, 4096);
	assert_true(uring_submit(u));
	assert_int_equal(wait_result(), 8);
	assert_string_equal(in, "written");
	uring_fallocate(u, &op, (unsigned)slot, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096,
			4096);
	assert_true(uring_submit(u));
	assert_true(wait_result() == 0 || last_res == -EOPNOTSUPP);
	uring_del_files(u, (unsigned)slot, 1);
	uring_readv(u, &op, (unsigned)slot, &in_iov, 1, 4096);
	assert_true(uring_submit(u));
	assert_int_equal(wait_result(), -EBADF);
	close(fd);
}

static void file_slots_are_reused_and_run_out(void **state)
{
	int fds[3] = { 0, 1, 2 }, first, second;

	if (!u)
		skip();
	first = uring_add_files(u, fds, 3);
	second = uring_add_files(u, fds, 2);
	assert_int_equal(second, first + 3);
	uring_del_files(u, (unsigned)first, 3);
	assert_int_equal(uring_add_files(u, fds, 3), first);
	for (unsigned i = 5; i + 3 <= URING_FILES; i += 3)
		assert_true(uring_add_files(u, fds, 3) >= 0);
	assert_int_equal(uring_add_files(u, fds, 3), -ENFILE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(openat_is_refused),
		TEST(plain_descriptors_are_refused),
		TEST(linking_and_draining_are_refused),
		TEST(registering_buffers_is_refused),
		TEST(fixed_files_are_read_written_and_synced),
		TEST(file_slots_are_reused_and_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
