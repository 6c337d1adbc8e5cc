/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "boot/plan.h"
#include "hv/block.h"
#include "hv/fd.h"

static int memory_file(const char *text)
{
	int fd = memfd_create("plan", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	return fd;
}

static void files_become_sources_in_order(void **state)
{
	CLEANUP_FD int kernel = memory_file("kernel text");
	CLEANUP_FD int one = memory_file("1");
	CLEANUP_FD int two = memory_file("22");
	const int fds[] = { one, two };
	const char *const names[] = { "one.img", "two.img" };
	const struct boot_plan_args args = { .append = "root=/dev/vda1 quiet", .extra = "ds=nocloud" };
	struct boot_plan p;
	char buf[8] = "";

	(void)state;
	assert_int_equal(boot_plan_files(&p, kernel, "vmlinuz", fds, names, 2, &args, NULL), 0);
	assert_string_equal(p.kernel.name, "vmlinuz");
	assert_int_equal(p.kernel.size, 11);
	assert_int_equal(p.kernel.read(p.kernel.ctx, 7, buf, 4), 0);
	assert_string_equal(buf, "text");
	assert_int_equal(p.n_initrd, 2);
	assert_string_equal(p.initrd[1].name, "two.img");
	assert_int_equal(p.initrd[1].size, 2);
	assert_string_equal(p.cmdline, "root=/dev/vda1 quiet ds=nocloud");
	boot_plan_fini(&p);
	assert_true(fcntl(kernel, F_GETFD) >= 0);	/* borrowed */
}

static void missing_parts_leave_no_blanks(void **state)
{
	CLEANUP_FD int kernel = memory_file("k");
	struct boot_plan_args args = { 0 };
	struct boot_plan p;

	(void)state;
	assert_int_equal(boot_plan_files(&p, kernel, "k", NULL, NULL, 0, &args, NULL), 0);
	assert_string_equal(p.cmdline, "");
	boot_plan_fini(&p);
	args = (struct boot_plan_args){ .append = "", .extra = "x" };
	assert_int_equal(boot_plan_files(&p, kernel, "k", NULL, NULL, 0, &args, NULL), 0);
	assert_string_equal(p.cmdline, "x");
	boot_plan_fini(&p);
	boot_plan_fini(&p);	/* and again */
}

static void what_is_no_regular_file_is_refused(void **state)
{
	CLEANUP_FD int kernel = memory_file("k");
	CLEANUP_FD int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const char *const names[] = { "initrd" };
	const struct boot_plan_args args = { 0 };
	struct boot_plan p;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(boot_plan_files(&p, dir, "/", NULL, NULL, 0, &args, &e), -EINVAL);
	assert_string_equal(e.msg, "/: not a regular file");
	assert_int_equal(boot_plan_files(&p, kernel, "k", &null, names, 1, &args, &e), -EINVAL);
	assert_string_equal(e.msg, "initrd: not a regular file");
	assert_int_equal(boot_plan_files(&p, -1, "k", NULL, NULL, 0, &args, &e), -EBADF);
}

static void a_blank_disk_holds_nothing_to_boot(void **state)
{
	const struct boot_plan_args args = { 0 };
	struct blk_open o = { .path = "blank.raw", .format = BLK_FORMAT_RAW, .readonly = true,
			      .no_lock = true };
	struct blk *disk;
	struct boot_plan p;
	struct err e = { 0 };

	(void)state;
	o.fd = memfd_create("blank", MFD_CLOEXEC);
	assert_int_equal(ftruncate(o.fd, MIB(1)), 0);
	assert_int_equal(blk_open(&o, &disk, &e), 0);
	assert_int_equal(boot_plan_disks(&p, &disk, 1, &args, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "--kernel"));
	blk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_become_sources_in_order),
		cmocka_unit_test(missing_parts_leave_no_blanks),
		cmocka_unit_test(what_is_no_regular_file_is_refused),
		cmocka_unit_test(a_blank_disk_holds_nothing_to_boot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
