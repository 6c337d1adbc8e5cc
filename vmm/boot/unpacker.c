/* SPDX-License-Identifier: MIT */
/* The helper process: confine itself, map the payload, unpack, write, end. */
#include "unpacker.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flatten.h"
#include "hv/fd.h"
#include "unpack.h"

#define UNPACKER_PAYLOAD_FD 3
#define UNPACKER_OUT_FD 4
#define UNPACKER_CPU_S 120 /* xz takes a second; emulated hosts are fifty times slower */
#define UNPACKER_MEMORY (UNPACK_IN_MAX + UNPACK_OUT_MAX + UNPACK_MEMORY_MAX + MIB(128))
#define UNPACKER_FILE_MAX (UNPACK_OUT_MAX + MIB(1))

/* ---- in the helper ------------------------------------------------------------------------- */

/* Two descriptors at known numbers, nothing else. */
static int unpacker_fds(int payload_fd, int out_fd)
{
	int a = fcntl(payload_fd, F_DUPFD, UNPACKER_OUT_FD + 1);
	int b = fcntl(out_fd, F_DUPFD, UNPACKER_OUT_FD + 1);

	if (a < 0 || b < 0 || dup2(a, UNPACKER_PAYLOAD_FD) < 0 || dup2(b, UNPACKER_OUT_FD) < 0)
		return -errno;
	for (int fd = 0; fd < UNPACKER_PAYLOAD_FD; fd++)
		close(fd);
	return close_range(UNPACKER_OUT_FD + 1, ~0u, 0) < 0 ? -errno : 0;
}

static int unpacker_limit(int what, rlim_t max)
{
	const struct rlimit l = { max, max };

	return setrlimit(what, &l) < 0 ? -errno : 0;
}

static int unpacker_limits(void)
{
	int r = unpacker_limit(RLIMIT_CORE, 0);

	if (!r)
		r = unpacker_limit(RLIMIT_CPU, UNPACKER_CPU_S);
	if (!r)
		r = unpacker_limit(RLIMIT_FSIZE, UNPACKER_FILE_MAX);
	if (!r)
		r = unpacker_limit(RLIMIT_NOFILE, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	if (!r)
		r = unpacker_limit(RLIMIT_AS, UNPACKER_MEMORY);
#endif
	return r;
}

/* What is not in the list ends the process. */
static int unpacker_filter(void)
{
	static const int allowed[] = {
		SCMP_SYS(read),	       SCMP_SYS(pread64),    SCMP_SYS(write),
		SCMP_SYS(pwrite64),    SCMP_SYS(munmap),     SCMP_SYS(mremap),
		SCMP_SYS(brk),	       SCMP_SYS(madvise),    SCMP_SYS(futex),
		SCMP_SYS(exit),	       SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
#ifdef __SANITIZE_ADDRESS__
		SCMP_SYS(sigaltstack), /* its check before _exit() */
#endif
	};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(allowed) && !r; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!r)
		r = seccomp_load(ctx); /* sets no_new_privs first */
	seccomp_release(ctx);
	return r;
}

static int unpacker_confine(int payload_fd, int out_fd)
{
	int r = unpacker_fds(payload_fd, out_fd);

	if (r)
		return r;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	r = unpacker_limits();
	return r ? r : unpacker_filter();
}

static int unpacker_work(size_t len)
{
	uint8_t *in = mmap(NULL, len, PROT_READ, MAP_SHARED, UNPACKER_PAYLOAD_FD, 0), *out;
	uint64_t bytes;
	int r;

	if (in == MAP_FAILED)
		return -errno;
	bytes = unpack_claimed_bytes(in, len);
	if (!bytes || bytes > UNPACK_OUT_MAX)
		return -EBADMSG;
	out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (out == MAP_FAILED)
		return -errno;
	r = unpack_payload(in, len, out, bytes, NULL);
	return r ? r : flatten_elf(out, bytes, UNPACKER_OUT_FD, NULL);
}

/* The errno is the exit status: those of interest are all below 256. */
static HV_NORETURN void unpacker_child(int payload_fd, size_t len, int out_fd)
{
	int r = unpacker_confine(payload_fd, out_fd);

	if (!r)
		r = unpacker_work(len);
	_exit(-r & 0xff);
}

/* ---- in the launcher ----------------------------------------------------------------------- */

int unpacker_start(struct unpacker *u, int payload_fd, size_t len, struct err *e)
{
	*u = (struct unpacker){ .out_fd = memfd_create("kernel", MFD_CLOEXEC | MFD_ALLOW_SEALING) };
	if (u->out_fd < 0)
		return err_errno(e, "unpacking the kernel: memfd");
	u->pid = fork();
	if (u->pid == 0)
		unpacker_child(payload_fd, len, u->out_fd);
	if (u->pid > 0)
		return 0;
	u->pid = 0;
	fd_close(&u->out_fd);
	return err_errno(e, "unpacking the kernel: fork");
}

int unpacker_finish(struct unpacker *u, int wstatus, int *image_fd, struct err *e)
{
	CLEANUP_FD int out = fd_steal(&u->out_fd);
	int r = WIFEXITED(wstatus) ? -WEXITSTATUS(wstatus) : -ECHILD;

	u->pid = 0;
	if (r == -ECHILD)
		return err_set(e, r, "unpacking the kernel: ended by signal %d", WTERMSIG(wstatus));
	if (r)
		return err_set(e, r, "unpacking the kernel: %s",
			       r == -ENOTSUP ? "not gzip, xz, lz4 or zstd" : strerror(-r));
	if (fcntl(out, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_errno(e, "unpacking the kernel: sealing");
	*image_fd = fd_steal(&out);
	return 0;
}

void unpacker_cancel(struct unpacker *u)
{
	if (u->pid <= 0)
		return;
	kill(u->pid, SIGKILL);
	while (waitpid(u->pid, NULL, 0) < 0 && errno == EINTR)
		;
	u->pid = 0;
	fd_close(&u->out_fd);
}
