/* SPDX-License-Identifier: MIT */
/* From a sealed payload to an unpacked kernel, by the cache or by a helper process. */
#include "unpack_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/kcache.h"
#include "boot/unpack.h"
#include "hv/fd.h"
#include "hv/log.h"
#include "link.h"

#define JOB_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* @how or, with a negative @code, why not; @code 1: not cached. The digest goes along: the machine
 * may keep the fd. */
static void job_answer(struct unpack_job *j, int code, const char *how, int fd)
{
	struct link_msg *m = calloc(1, sizeof(*m));

	if (m) {
		m->type = LINK_UNPACKED;
		m->code = code;
		snprintf(m->path, sizeof(m->path), "%s", how);
		memcpy(m->name, j->digest, sizeof(j->digest));
		link_send(j->link_fd, m, fd);
	}
	free(m);
	fd_close(&j->dir_fd);
}

/* Only what cannot change under us is worth a hash. */
static int job_hash(int payload_fd, uint8_t digest[SHA256_BYTES], size_t *len, struct err *e)
{
	int seals = payload_fd < 0 ? -1 : fcntl(payload_fd, F_GET_SEALS);
	struct stat st;
	void *p;

	if (seals < 0 || (seals & JOB_SEALS) != JOB_SEALS || fstat(payload_fd, &st) < 0 ||
	    st.st_size <= 0 || (uint64_t)st.st_size > UNPACK_IN_MAX)
		return err_set(e, -EPROTO, "unpacking the kernel: no payload");
	*len = (size_t)st.st_size;
	p = mmap(NULL, *len, PROT_READ, MAP_SHARED, payload_fd, 0);
	if (p == MAP_FAILED)
		return err_errno(e, "unpacking the kernel: mmap");
	sha256(p, *len, digest);
	munmap(p, *len);
	return 0;
}

static bool job_cached(struct unpack_job *j)
{
	CLEANUP_FD int fd = -1;
	struct err e = { 0 };

	j->dir_fd = kcache_open(&e);
	if (j->dir_fd < 0) {
		log_info(NULL, "%s", e.msg);
		return false;
	}
	if (kcache_get(j->dir_fd, j->digest, &fd))
		return false;
	job_answer(j, 0, "cache hit", fd);
	return true;
}

void unpack_job_start(struct unpack_job *j, int link_fd, int payload_fd)
{
	struct err e = { 0 };
	size_t len = 0;
	int r;

	unpack_job_cancel(j);
	*j = (struct unpack_job){ .link_fd = link_fd, .dir_fd = -1 };
	r = job_hash(payload_fd, j->digest, &len, &e);
	if (!r && job_cached(j))
		return;
	if (!r)
		r = unpacker_start(&j->helper, payload_fd, len, &e);
	if (r)
		job_answer(j, r, e.msg, -1);
}

/* Without the cache the memfd itself serves. */
static void job_keep(struct unpack_job *j, int image_fd)
{
	CLEANUP_FD int fd = -1;
	int r = j->dir_fd < 0 ? -ENOENT : kcache_put(j->dir_fd, j->digest, image_fd, &fd);

	if (j->dir_fd >= 0 && r)
		log_info(NULL, "kernel cache: writing: %s", strerror(-r));
	if (r)
		job_answer(j, 1, "not cached", image_fd);
	else
		job_answer(j, 0, "cache miss", fd);
}

void unpack_job_reap(struct unpack_job *j)
{
	CLEANUP_FD int image = -1;
	struct err e = { 0 };
	int wstatus, r;

	if (!j->helper.pid || waitpid(j->helper.pid, &wstatus, WNOHANG) != j->helper.pid)
		return;
	r = unpacker_finish(&j->helper, wstatus, &image, &e);
	if (r)
		job_answer(j, r, e.msg, -1);
	else
		job_keep(j, image);
}

void unpack_job_cancel(struct unpack_job *j)
{
	if (!j->helper.pid)
		return;
	unpacker_cancel(&j->helper);
	job_answer(j, -ECANCELED, "unpacking the kernel: stopped", -1);
}
