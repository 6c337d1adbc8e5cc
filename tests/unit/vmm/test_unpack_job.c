/* SPDX-License-Identifier: MIT */
/* The launcher's side of LINK_UNPACK with its helper process, the machine's side by hand. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../support/mini_kernel.h"
#include "boot/kimage.h"
#include "boot/unpack.h"
#include "hv/bytes.h"
#include "hv/fd.h"
#include "link.h"
#include "unpack_job.h"

struct fixture {
	char cache[64];
	int launcher, machine;
	struct unpack_job job;
	struct link_msg answer;
	int fd;
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int sv[2];

	strcpy(f->cache, "/tmp/hv-job-XXXXXX");
	if (!mkdtemp(f->cache) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	setenv("XDG_CACHE_HOME", f->cache, 1);
	f->launcher = sv[0];
	f->machine = sv[1];
	f->fd = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unpack_job_cancel(&f->job);
	fd_close(&f->launcher);
	fd_close(&f->machine);
	fd_close(&f->fd);
	nftw(f->cache, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static int payload(const void *data, size_t n, bool seal)
{
	int fd = memfd_create("payload", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(fd_write_full(fd, data, n), 0);
	if (seal)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK),
				 0);
	return fd;
}

static int kernel_payload_fd(enum mini_codec codec)
{
	CLEANUP_FREE uint8_t *elf = malloc(MINI_MAX);
	size_t n;
	CLEANUP_FREE uint8_t *in = mini_pack(codec, elf, mini_vmlinux(elf, 3), &n);

	return payload(in, n, true);
}

/* Wait for the helper as the launcher's SIGCHLD would. */
static void ask(struct fixture *f, int payload_fd)
{
	fd_close(&f->fd);
	unpack_job_start(&f->job, f->launcher, payload_fd);
	while (f->job.helper.pid) {
		usleep(1000);
		unpack_job_reap(&f->job);
	}
	assert_int_equal(link_recv(f->machine, &f->answer, &f->fd), 0);
	assert_int_equal(f->answer.type, LINK_UNPACKED);
}

static void expect_kernel(struct fixture *f, const char *how)
{
	struct kimage k;

	assert_string_equal(f->answer.path, how);
	assert_int_equal(kimage_open(&k, f->fd, NULL), 0);
	assert_int_equal(k.start, MINI_BASE);
	assert_true(kimage_relocatable(&k));
}

static void a_kernel_is_unpacked_once(void **state)
{
	struct fixture *f = *state;

	for (enum mini_codec c = 0; c < MINI_CODECS; c++) {
		CLEANUP_FD int fd = kernel_payload_fd(c);

		ask(f, fd);
		expect_kernel(f, "cache miss");
		ask(f, fd);
		expect_kernel(f, "cache hit");
	}
}

static void without_a_cache_it_is_unpacked_each_time(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FD int fd = kernel_payload_fd(MINI_ZSTD);

	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	for (int i = 0; i < 2; i++) {
		ask(f, fd);
		expect_kernel(f, "not cached");
		assert_int_equal(f->answer.code, 1);
		assert_int_equal(ftruncate(f->fd, 0), -1); /* sealed */
	}
}

static void what_is_no_kernel_gets_no_answer_but_why(void **state)
{
	struct fixture *f = *state;
	const char text[] = "no kernel at all, and of no compression either";
	CLEANUP_FD int junk = payload(text, sizeof(text), true);
	CLEANUP_FREE uint8_t *elf = calloc(1, KIB(16));
	size_t n;
	CLEANUP_FREE uint8_t *in = mini_pack(MINI_LZ4, elf, KIB(16), &n);
	CLEANUP_FD int zeros = payload(in, n, true);

	store_le32(in + n - 4, UINT32_MAX);
	CLEANUP_FD int giant = payload(in, n, true);

	ask(f, junk);
	assert_true(f->answer.code < 0 && f->fd < 0);
	ask(f, zeros);
	assert_int_equal(f->answer.code, -ENOEXEC);
	ask(f, giant);
	assert_int_equal(f->answer.code, -EBADMSG);
}

static void a_payload_that_could_change_is_refused(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FD int open_fd = payload("abcd", 4, false);
	CLEANUP_FD int empty = payload("", 0, true);

	ask(f, open_fd);
	assert_int_equal(f->answer.code, -EPROTO);
	ask(f, empty);
	assert_int_equal(f->answer.code, -EPROTO);
	ask(f, -1);
	assert_int_equal(f->answer.code, -EPROTO);
}

static void a_cancelled_job_answers_and_leaves_no_process(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FD int fd = kernel_payload_fd(MINI_XZ);

	unpack_job_start(&f->job, f->launcher, fd);
	assert_true(f->job.helper.pid > 0);
	unpack_job_cancel(&f->job);
	assert_int_equal(f->job.helper.pid, 0);
	assert_int_equal(link_recv(f->machine, &f->answer, &f->fd), 0);
	assert_int_equal(f->answer.code, -ECANCELED);
	unpack_job_reap(&f->job);
	unpack_job_cancel(&f->job);
	ask(f, fd);
	expect_kernel(f, "cache miss");
}

static void an_order_that_comes_first_is_kept(void **state)
{
	struct fixture *f = *state;
	struct link_unpacked u;
	CLEANUP_FD int fd = kernel_payload_fd(MINI_LZ4), got = -1;

	assert_int_equal(link_send_type(f->launcher, LINK_STOP), 0);
	unpack_job_start(&f->job, f->launcher, fd);
	while (f->job.helper.pid)
		unpack_job_reap(&f->job);
	assert_int_equal(link_unpack(f->machine, fd, &u, NULL), 0);
	got = u.fd;
	assert_int_equal(u.order, LINK_STOP);
	assert_true(u.cached);
	assert_string_equal(u.how, "cache miss");
	shutdown(f->launcher, SHUT_RDWR);
	assert_int_equal(link_unpack(f->machine, fd, &u, NULL), -EPIPE);
	assert_int_equal(u.fd, -1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_kernel_is_unpacked_once),
		T(without_a_cache_it_is_unpacked_each_time),
		T(what_is_no_kernel_gets_no_answer_but_why),
		T(a_payload_that_could_change_is_refused),
		T(a_cancelled_job_answers_and_leaves_no_process),
		T(an_order_that_comes_first_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
