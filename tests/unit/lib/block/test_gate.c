/* SPDX-License-Identifier: MIT */
/* Which of the files that an image names are opened. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hv/block.h"

static char dir[64], parent[96], outside[96];

static void touch(const char *name)
{
	char p[160];
	int fd;

	snprintf(p, sizeof(p), "%s/%s", dir, name);
	fd = open(p, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static int setup(void **state)
{
	char p[128];

	strcpy(dir, "/tmp/hv-gate-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(parent, sizeof(parent), "%s/in/disk.qcow2", dir);
	snprintf(outside, sizeof(outside), "%s/outside.raw", dir);
	snprintf(p, sizeof(p), "%s/in", dir);
	mkdir(p, 0700);
	snprintf(p, sizeof(p), "%s/in/sub", dir);
	mkdir(p, 0700);
	touch("in/disk.qcow2");
	touch("in/base.raw");
	touch("in/sub/deep.raw");
	touch("outside.raw");
	snprintf(p, sizeof(p), "%s/in/link.raw", dir);
	assert_int_equal(symlink("base.raw", p), 0);
	snprintf(p, sizeof(p), "%s/in/fifo", dir);
	assert_int_equal(mkfifo(p, 0600), 0);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static int knock(enum blk_gate_policy policy, const char *name, struct err *e)
{
	struct blk_gate g = { .policy = policy, .option = "--backing allow" };
	char path[BLK_PATH_MAX];
	int fd = -1, r = blk_gate_open(&g, parent, name, &fd, path, e);

	if (!r)
		assert_int_equal(close(fd), 0);
	return r;
}

static void same_dir_opens_what_lies_beneath(void **state)
{
	char abs[128];
	struct err e;

	snprintf(abs, sizeof(abs), "%s/in/base.raw", dir);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, "base.raw", &e), 0);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, "file:base.raw", &e), 0);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, "sub/deep.raw", &e), 0);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, abs, &e), 0);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, "missing.raw", &e), -ENOENT);
}

static void same_dir_refuses_the_way_out(void **state)
{
	struct err e;

	assert_int_equal(knock(BLK_GATE_SAME_DIR, "../outside.raw", &e), -EACCES);
	assert_non_null(strstr(e.msg, "--backing allow"));
	assert_int_equal(knock(BLK_GATE_SAME_DIR, outside, &e), -EACCES);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, "sub/../../outside.raw", &e), -EACCES);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, "/etc/passwd", &e), -EACCES);
}

static void same_dir_follows_no_symlink(void **state)
{
	struct err e;

	assert_int_equal(knock(BLK_GATE_SAME_DIR, "link.raw", &e), -EACCES);
}

static void nobody_opens_a_fifo_or_a_directory(void **state)
{
	struct err e;

	assert_int_equal(knock(BLK_GATE_ALLOW, "fifo", &e), -EACCES);
	assert_int_equal(knock(BLK_GATE_SAME_DIR, "fifo", &e), -EACCES);
	assert_int_equal(knock(BLK_GATE_ALLOW, "sub", &e), -EISDIR);
}

static void pseudo_names_are_refused_by_every_policy(void **state)
{
	const char *const names[] = { "nbd:unix:/x", "json:{\"driver\":\"raw\"}", "http://h/x",
				      "" };
	struct err e;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_true(knock(BLK_GATE_ALLOW, names[i], &e) < 0);
}

static void deny_denies_and_allow_allows(void **state)
{
	struct err e;

	assert_int_equal(knock(BLK_GATE_DENY, "base.raw", &e), -EACCES);
	assert_int_equal(knock(BLK_GATE_ALLOW, outside, &e), 0);
	assert_int_equal(knock(BLK_GATE_ALLOW, "../outside.raw", &e), 0);
	assert_int_equal(knock(BLK_GATE_ALLOW, "link.raw", &e), 0);
}

static void control_bytes_of_a_name_do_not_reach_the_message(void **state)
{
	struct err e;

	assert_true(knock(BLK_GATE_DENY, "a\033[2Jb\n", &e) < 0);
	for (const char *p = e.msg; *p; p++)
		assert_true((unsigned char)*p >= 0x20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_dir_opens_what_lies_beneath),
		cmocka_unit_test(same_dir_refuses_the_way_out),
		cmocka_unit_test(same_dir_follows_no_symlink),
		cmocka_unit_test(nobody_opens_a_fifo_or_a_directory),
		cmocka_unit_test(pseudo_names_are_refused_by_every_policy),
		cmocka_unit_test(deny_denies_and_allow_allows),
		cmocka_unit_test(control_bytes_of_a_name_do_not_reach_the_message),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
