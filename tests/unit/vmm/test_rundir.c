/* SPDX-License-Identifier: MIT */
/* The runtime directory below a temporary XDG_RUNTIME_DIR; root steps down to use it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "config.h"
#include "hv/fd.h"
#include "rundir.h"

#define NOBODY 65534

static char base[] = "/tmp/rundir-XXXXXX";
static struct config cfg = { .cpus = 2, .memory_bytes = MIB(64) };

static int group_setup(void **state)
{
	(void)state;
	if (!mkdtemp(base) || setenv("XDG_RUNTIME_DIR", base, 1))
		return -1;
	/* Root's directory is /run/vmm, where a living VM may be. */
	return geteuid() == 0 && (chown(base, NOBODY, NOBODY) || seteuid(NOBODY));
}

static int group_teardown(void **state)
{
	char cmd[64];

	(void)state;
	/* Back to what LeakSanitizer may look at. */
	if (seteuid(getuid()) || prctl(PR_SET_DUMPABLE, 1))
		return -1;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
	return system(cmd);
}

static char *path_of(const char *rest)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/vmm/%s", base, rest);
	return path;
}

static int start(struct rundir *d, const char *wanted, const char *fallback, const struct stat *disk)
{
	struct err e = { 0 };
	int r = rundir_claim(d, wanted, fallback, &e);

	if (r)
		return r;
	return rundir_write_info(d, &cfg, getpid(), disk, disk ? 1 : 0, &e);
}

static void a_name_is_claimed_once_and_comes_free_again(void **state)
{
	struct rundir a, b;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(start(&a, "web", NULL, NULL), 0);
	assert_string_equal(a.name, "web");
	assert_string_equal(a.path, path_of("web"));
	assert_int_equal(rundir_claim(&b, "web", NULL, &e), -EEXIST);
	assert_string_equal(e.msg, "a VM named 'web' is running already");
	rundir_remove(&a);
	assert_int_equal(access(path_of("web"), F_OK), -1);
	assert_int_equal(start(&b, "web", NULL, NULL), 0);
	rundir_remove(&b);
}

static void a_default_name_gets_a_number_when_taken(void **state)
{
	struct rundir a, b, c;

	(void)state;
	assert_int_equal(start(&a, NULL, "disk", NULL), 0);
	assert_int_equal(start(&b, NULL, "disk", NULL), 0);
	assert_int_equal(start(&c, NULL, "disk", NULL), 0);
	assert_string_equal(a.name, "disk");
	assert_string_equal(b.name, "disk-2");
	assert_string_equal(c.name, "disk-3");
	rundir_remove(&b);
	assert_int_equal(start(&b, NULL, "disk", NULL), 0);
	assert_string_equal(b.name, "disk-2");
	rundir_remove(&a);
	rundir_remove(&b);
	rundir_remove(&c);
}

static int count(void *ctx, const struct rundir_vm *vm)
{
	(void)vm;
	++*(int *)ctx;
	return 0;
}

static void what_a_killed_vm_left_behind_is_taken_over_or_removed(void **state)
{
	struct rundir a, b;
	int n = 0;

	(void)state;
	assert_int_equal(start(&a, "old", NULL, NULL), 0);
	rundir_close(&a);	/* as if killed: the directory stays, the lock goes */
	assert_int_equal(access(path_of("old/info"), F_OK), 0);
	assert_int_equal(start(&b, "old", NULL, NULL), 0);
	assert_string_equal(b.name, "old");
	rundir_close(&b);
	assert_int_equal(rundir_each(count, &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_int_equal(access(path_of("old"), F_OK), -1);
}

/* Somebody who asks for the list all the time; to be ended by its pid. */
static pid_t visitor_start(void)
{
	pid_t pid = fork();
	int n;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		rundir_each(count, &n, NULL);
		usleep(200);
	}
}

static void visitors_do_not_cost_a_vm_its_name(void **state)
{
	struct err e = { 0 };
	struct rundir a;
	pid_t visitor[2];

	(void)state;
	visitor[0] = visitor_start();
	visitor[1] = visitor_start();
	for (int i = 0; i < 300; i++) {
		const char *wanted = i % 2 ? "race" : NULL;

		assert_int_equal(rundir_claim(&a, wanted, "race", &e), 0);
		assert_string_equal(a.name, "race");
		usleep(300);
		/* What was claimed stays. */
		assert_int_equal(access(path_of("race/lock"), F_OK), 0);
		if (i % 3)
			rundir_close(&a);
		else
			rundir_remove(&a);
	}
	for (size_t i = 0; i < ARRAY_SIZE(visitor); i++) {
		kill(visitor[i], SIGKILL);
		waitpid(visitor[i], NULL, 0);
	}
	rundir_each(count, &(int){ 0 }, NULL);
}

/* As a visitor or a VM that starts looks like for a moment. */
static void a_default_name_is_waited_for_while_nothing_says_a_vm_has_it(void **state)
{
	struct rundir a, b;
	struct err e = { 0 };
	pid_t pid;

	(void)state;
	assert_int_equal(rundir_claim(&a, NULL, "wait", &e), 0);
	pid = fork();
	if (pid == 0) {
		usleep(30000);
		_exit(0);	/* the last to hold the lock */
	}
	rundir_close(&a);
	assert_int_equal(rundir_claim(&b, NULL, "wait", &e), 0);
	assert_string_equal(b.name, "wait");
	waitpid(pid, NULL, 0);
	rundir_remove(&b);
}

static void living_vms_are_found_with_what_they_wrote(void **state)
{
	struct rundir a, b;
	struct rundir_vm vm;
	struct err e = { 0 };
	int n = 0;

	(void)state;
	assert_int_equal(start(&a, "one", NULL, NULL), 0);
	assert_int_equal(start(&b, "two", NULL, NULL), 0);
	assert_int_equal(rundir_each(count, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(rundir_find("two", &vm, &e), 0);
	assert_string_equal(vm.name, "two");
	assert_int_equal(vm.pid, getpid());
	assert_int_equal(vm.cpus, 2);
	assert_int_equal(vm.memory_bytes, MIB(64));
	assert_true(vm.started > 0);
	assert_int_equal(rundir_find("three", &vm, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no VM named 'three'"));
	rundir_remove(&a);
	rundir_remove(&b);
}

static void the_holder_of_a_disk_is_known_by_its_inode(void **state)
{
	struct rundir a;
	struct rundir_vm vm;
	struct stat self, other;

	(void)state;
	assert_int_equal(stat("/proc/self/exe", &self), 0);
	assert_int_equal(stat("/", &other), 0);
	assert_int_equal(start(&a, "holder", NULL, &self), 0);
	assert_true(rundir_disk_holder(&self, &vm));
	assert_string_equal(vm.name, "holder");
	assert_false(rundir_disk_holder(&other, &vm));
	rundir_remove(&a);
	assert_false(rundir_disk_holder(&self, &vm));
}

static void strange_entries_and_broken_info_are_passed_over(void **state)
{
	struct rundir a;
	struct rundir_vm vm;
	int n = 0, fd;

	(void)state;
	assert_int_equal(start(&a, "half", NULL, NULL), 0);
	fd = openat(a.dir_fd, "info", O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "{\"pid\":", 7), 7);
	close(fd);
	close(open(path_of("file"), O_CREAT | O_WRONLY, 0600));
	assert_int_equal(symlink("/", path_of("link")), 0);
	assert_int_equal(mkdir(path_of("nothing"), 0700), 0);
	assert_int_equal(rundir_each(count, &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_int_equal(rundir_find("half", &vm, NULL), -ENOENT);
	assert_int_equal(access("/etc", F_OK), 0);
	assert_int_equal(access(path_of("link"), F_OK), 0);	/* not ours to remove */
	unlink(path_of("file"));
	unlink(path_of("link"));
	rmdir(path_of("nothing"));
	rundir_remove(&a);
}

static void sockets_are_private_and_replace_a_dead_ones(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct rundir a;
	struct err e = { 0 };
	struct stat st;
	char path[RUNDIR_PATH_MAX];
	int fd, again, client;

	(void)state;
	assert_int_equal(start(&a, "sock", NULL, NULL), 0);
	assert_int_equal(rundir_listen(&a, "qmp.sock", &fd, &e), 0);
	assert_int_equal(rundir_socket("sock", "qmp.sock", path, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(rundir_listen(&a, "qmp.sock", &again, &e), 0);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(sa.sun_path, path);
	assert_int_equal(connect(client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(client);
	close(fd);
	close(again);
	rundir_remove(&a);
	assert_int_equal(access(path, F_OK), -1);
}

static void the_base_needs_an_absolute_variable_of_sane_length(void **state)
{
	char path[RUNDIR_PATH_MAX], *long_dir = malloc(4096);
	struct err e = { 0 };

	(void)state;
	assert_int_equal(rundir_base(path, &e), 0);
	unsetenv("XDG_RUNTIME_DIR");
	assert_int_equal(rundir_base(path, &e), -ENOENT);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	assert_int_equal(rundir_base(path, &e), -ENOENT);
	memset(long_dir, '/', 4095);
	long_dir[4095] = 0;
	setenv("XDG_RUNTIME_DIR", long_dir, 1);
	assert_int_equal(rundir_base(path, &e), -ENAMETOOLONG);
	setenv("XDG_RUNTIME_DIR", base, 1);
	free(long_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_claimed_once_and_comes_free_again),
		cmocka_unit_test(a_default_name_gets_a_number_when_taken),
		cmocka_unit_test(what_a_killed_vm_left_behind_is_taken_over_or_removed),
		cmocka_unit_test(visitors_do_not_cost_a_vm_its_name),
		cmocka_unit_test(a_default_name_is_waited_for_while_nothing_says_a_vm_has_it),
		cmocka_unit_test(living_vms_are_found_with_what_they_wrote),
		cmocka_unit_test(the_holder_of_a_disk_is_known_by_its_inode),
		cmocka_unit_test(strange_entries_and_broken_info_are_passed_over),
		cmocka_unit_test(sockets_are_private_and_replace_a_dead_ones),
		cmocka_unit_test(the_base_needs_an_absolute_variable_of_sane_length),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
