/* SPDX-License-Identifier: MIT */
/* fd.c, and log.c, whose lines are read back through a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "hv/fd.h"
#include "hv/log.h"

static void whole_reads_and_writes_meet_at_any_offset(void **state)
{
	CLEANUP_FD int fd = memfd_create("t", MFD_CLOEXEC);
	char buf[8] = "";

	(void)state;
	assert_int_equal(fd_pwrite_full(fd, "hello", 5, 1000), 0);
	assert_int_equal(fd_pread_full(fd, buf, 5, 1000), 0);
	assert_string_equal(buf, "hello");
	assert_int_equal(fd_pread_full(fd, buf, 6, 1000), -ENODATA);
	assert_int_equal(fd_pread_full(fd, buf, 0, 5000), 0);
	assert_int_equal(fd_write_full(fd, "ab", 2), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_full(fd, buf, 2), 0);
	assert_int_equal(fd_read_full(-1, buf, 2), -EBADF);
	assert_int_equal(fd_write_full(-1, buf, 2), -EBADF);
}

static void a_short_read_of_a_pipe_is_continued_and_its_end_told(void **state)
{
	int p[2];
	char buf[4];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "abc", 3), 3);
	close(p[1]);
	assert_int_equal(fd_read_full(p[0], buf, 2), 0);
	assert_int_equal(fd_read_full(p[0], buf, 2), -ENODATA);
	close(p[0]);
}

static void slurping_is_bounded_and_terminated(void **state)
{
	CLEANUP_FD int fd = memfd_create("t", MFD_CLOEXEC);
	CLEANUP_FD int dir = open("/", O_RDONLY | O_CLOEXEC);
	uint8_t *text;
	size_t len;

	(void)state;
	assert_int_equal(fd_slurp(fd, 10, &text, &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(text[0], 0);
	free(text);
	assert_int_equal(fd_write_full(fd, "0123456789", 10), 0);
	assert_int_equal(fd_slurp(fd, 10, &text, &len), 0);
	assert_string_equal((char *)text, "0123456789");
	free(text);
	assert_int_equal(fd_slurp(fd, 9, &text, &len), -EFBIG);
	assert_int_equal(fd_slurp(dir, 1 << 20, &text, &len), -EISDIR);
	assert_int_equal(fd_slurp(-1, 10, &text, &len), -EBADF);
}

static void closing_keeps_errno_and_stealing_hands_over_once(void **state)
{
	int fd = memfd_create("t", MFD_CLOEXEC), taken;

	(void)state;
	taken = fd_steal(&fd);
	assert_int_equal(fd, -1);
	errno = ENOSPC;
	fd_close(&fd);
	fd_close(&taken);
	assert_int_equal(taken, -1);
	assert_int_equal(errno, ENOSPC);
}

static void nonblocking_mode_is_switched(void **state)
{
	int p[2];
	char c;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(fd_set_nonblock(p[0], true), 0);
	assert_int_equal(read(p[0], &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fd_set_nonblock(p[0], false), 0);
	assert_int_equal(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
	close(p[0]);
	close(p[1]);
}

/* ---- log ---------------------------------------------------------------------------------------- */

static int saved_stderr, log_pipe[2];

static int log_setup(void **state)
{
	(void)state;
	saved_stderr = dup(STDERR_FILENO);
	if (pipe2(log_pipe, O_NONBLOCK | O_CLOEXEC))
		return -1;
	log_init("prog", LOG_DEBUG);
	return dup2(log_pipe[1], STDERR_FILENO) < 0;
}

static int log_teardown(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(log_pipe[0]);
	close(log_pipe[1]);
	return 0;
}

static const char *logged(void)
{
	static char buf[32768];
	ssize_t n = read(log_pipe[0], buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = 0;
	return buf;
}

static void a_line_names_program_vm_and_device(void **state)
{
	const struct log_ctx c = { .vm = "web", .dev = "blk0" };

	(void)state;
	log_warn(&c, "sector %d", 7);
	assert_string_equal(logged(), "prog: web: blk0: sector 7\n");
	log_error(NULL, "x");
	assert_string_equal(logged(), "prog: x\n");
}

static void levels_below_the_chosen_one_are_silent(void **state)
{
	(void)state;
	log_init("prog", LOG_WARN);
	log_info(NULL, "x");
	log_debug(NULL, "x");
	assert_string_equal(logged(), "");
	assert_true(log_enabled(LOG_ERROR) && !log_enabled(LOG_INFO));
}

static void a_line_stays_one_printable_line_of_bounded_length(void **state)
{
	static char big[5000];
	const struct log_ctx c = { .vm = big };
	const char *l;

	(void)state;
	log_warn(NULL, "a\nb\x1b[2Jc\x7f");
	assert_string_equal(logged(), "prog: a?b?[2Jc?\n");
	memset(big, 'x', sizeof(big) - 1);
	log_warn(NULL, "%s", big);
	l = logged();
	assert_true(strlen(l) < 1100);
	assert_ptr_equal(strchr(l, '\n'), l + strlen(l) - 1);
	log_warn(&c, "%s", big);
	l = logged();
	assert_true(strlen(l) < 1100);
	assert_ptr_equal(strchr(l, '\n'), l + strlen(l) - 1);
}

static void lines_a_guest_provokes_are_limited_and_counted(void **state)
{
	struct log_ctx c = { .dev = "rng" };
	unsigned lines = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		log_guest(&c, "odd");
	for (const char *p = logged(); (p = strchr(p, '\n')); p++)
		lines++;
	assert_true(lines >= 10 && lines <= 30);	/* a second may have turned meanwhile */
	assert_int_equal(c.dropped, 1000 - lines);
	log_init("prog", LOG_WARN);
	log_guest(&c, "odd");
	assert_string_equal(logged(), "");
}

#define L(f) cmocka_unit_test_setup_teardown(f, log_setup, log_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_reads_and_writes_meet_at_any_offset),
		cmocka_unit_test(a_short_read_of_a_pipe_is_continued_and_its_end_told),
		cmocka_unit_test(slurping_is_bounded_and_terminated),
		cmocka_unit_test(closing_keeps_errno_and_stealing_hands_over_once),
		cmocka_unit_test(nonblocking_mode_is_switched),
		L(a_line_names_program_vm_and_device),
		L(levels_below_the_chosen_one_are_silent),
		L(a_line_stays_one_printable_line_of_bounded_length),
		L(lines_a_guest_provokes_are_limited_and_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
