/* SPDX-License-Identifier: MIT */
/* Payload out of the kernel file, over the link, and back as a kimage. */
#include "kernel_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "boot/kernel.h"
#include "hv/fd.h"

static double fetch_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Is it the kernel of the last boot? */
static bool fetch_is_kept(const struct kernel_fetch *f, int payload_fd)
{
	uint8_t digest[SHA256_BYTES];
	struct stat st;
	void *p;

	if (f->kept_fd < 0 || fstat(payload_fd, &st) < 0)
		return false;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, payload_fd, 0);
	if (p == MAP_FAILED)
		return false;
	sha256(p, (size_t)st.st_size, digest);
	munmap(p, (size_t)st.st_size);
	return !memcmp(digest, f->kept_digest, sizeof(digest));
}

static void fetch_keep(struct kernel_fetch *f, const struct link_unpacked *u)
{
	fd_close(&f->kept_fd);
	if (!u->cached)
		return; /* a memfd: too much memory to hold for a reboot */
	f->kept_fd = fcntl(u->fd, F_DUPFD_CLOEXEC, 3);
	memcpy(f->kept_digest, u->digest, sizeof(f->kept_digest));
}

static int fetch_unpacked(struct kernel_fetch *f, int payload_fd, struct kernel_fetched *out,
			  const char **how, struct link_unpacked *u, struct err *e)
{
	int r = link_unpack(f->link_fd, payload_fd, u, e);

	out->order = u->order;
	if (!r) {
		fetch_keep(f, u);
		out->fd = fd_steal(&u->fd);
		*how = u->how;
		return 0;
	}
	if (!fetch_is_kept(f, payload_fd))
		return r;
	out->fd = fcntl(f->kept_fd, F_DUPFD_CLOEXEC, 3);
	*how = "as at the last boot";
	return out->fd < 0 ? err_errno(e, "unpacked kernel") : 0;
}

void kernel_fetch(struct kernel_fetch *f, const struct boot_source *kernel, struct log_ctx *log,
		  struct kernel_fetched *out)
{
	double start = fetch_now_ms();
	CLEANUP_FD int payload = -1;
	struct link_unpacked u;
	const char *how = "";
	struct err e = { 0 };
	int r = kernel_payload(kernel, &payload, &e);

	*out = (struct kernel_fetched){ .fd = -1 };
	if (r == -ENOEXEC)
		return; /* no bzImage */
	if (!r)
		r = fetch_unpacked(f, payload, out, &how, &u, &e);
	if (r)
		log_info(log, "%s: the guest will unpack it", e.msg);
	else
		snprintf(out->how, sizeof(out->how), "%.63s, %.1f ms", how, fetch_now_ms() - start);
}

void kernel_fetch_fini(struct kernel_fetch *f)
{
	fd_close(&f->kept_fd);
}
