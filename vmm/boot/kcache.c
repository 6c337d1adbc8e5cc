/* SPDX-License-Identifier: MIT */
/* Where unpacked kernels are kept. */
#include "kcache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hv/fd.h"
#include "kimage_format.h"

#define KCACHE_TRAILER_MAGIC UINT64_C(0x444e45474d494b56) /* "VKIMGEND" */
#define KCACHE_CHUNK KIB(256)
#define KCACHE_FILE_MAX KCACHE_BYTES_MAX
#define KCACHE_STALE_S 600   /* a temporary file this old has lost its writer */
#define KCACHE_EVICT_MAX 256 /* removals in one go: other launchers may refill as we empty */

/* A name: 64 hex digits, "-", the format's version. */
#define KCACHE_NAME_MAX 72
#define KCACHE_TEMP_PREFIX ".new-"

struct kcache_trailer {
	uint64_t magic;
	uint64_t bytes; /* of the kimage before it */
	uint8_t digest[SHA256_BYTES];
	uint32_t crc;	      /* of the kimage */
	uint32_t trailer_crc; /* of all before this field */
};

static int kcache_base(char *buf, size_t len)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (xdg && *xdg == '/')
		n = snprintf(buf, len, "%s", xdg);
	else if (home && *home == '/')
		n = snprintf(buf, len, "%s/.cache", home);
	else
		return -ENOENT;
	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

/* Not in a home that is somebody else's (sudo keeps HOME): he could not use it any more. */
static int kcache_mkdir(const char *path)
{
	char *slash = strrchr(path, '/');
	CLEANUP_FREE char *parent = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	struct stat st;

	if (!stat(path, &st))
		return 0;
	if (!parent)
		return -ENOMEM;
	if (stat(parent, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid())
		return -EPERM;
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int kcache_dir(char *buf, size_t len, bool create)
{
	int r = kcache_base(buf, len);
	size_t n;

	if (!r && create)
		r = kcache_mkdir(buf);
	if (r)
		return r;
	n = strlen(buf);
	if (len - n < sizeof("/vmm"))
		return -ENAMETOOLONG;
	memcpy(buf + n, "/vmm", sizeof("/vmm"));
	return create ? kcache_mkdir(buf) : 0;
}

/* Ours, and nobody else may write it. */
static bool kcache_private(const struct stat *st)
{
	return st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

int kcache_open(struct err *e)
{
	char path[4096];
	struct stat st;
	int r = kcache_dir(path, sizeof(path), true);
	CLEANUP_FD int fd = -1;

	if (r)
		return err_set(e, r, "kernel cache: %s", strerror(-r));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "kernel cache: %s", path);
	if (!kcache_private(&st))
		return err_set(e, -EPERM, "kernel cache: %s: is not ours alone to write", path);
	return fd_steal(&fd);
}

static void kcache_name(const uint8_t digest[SHA256_BYTES], char name[KCACHE_NAME_MAX])
{
	for (unsigned i = 0; i < SHA256_BYTES; i++)
		snprintf(name + (size_t)2 * i, 3, "%02x", digest[i]);
	snprintf(name + (size_t)2 * SHA256_BYTES, KCACHE_NAME_MAX - 2 * SHA256_BYTES, "-%d",
		 KIMAGE_VERSION);
}

/* ---- one entry ----------------------------------------------------------------------------- */

/* Checksum of the first @bytes of @in; written to @out too, unless that is -1. */
static int kcache_stream(int in, uint64_t bytes, int out, uint32_t *crc)
{
	CLEANUP_FREE uint8_t *buf = malloc(KCACHE_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	*crc = 0;
	for (uint64_t off = 0; off < bytes && !r;) {
		size_t n = MIN(bytes - off, KCACHE_CHUNK);

		r = fd_pread_full(in, buf, n, off);
		if (!r)
			*crc = crc32c(*crc, buf, n);
		if (!r && out >= 0)
			r = fd_write_full(out, buf, n);
		off += n;
	}
	return r;
}

static uint32_t kcache_trailer_crc(const struct kcache_trailer *t)
{
	return crc32c(0, t, offsetof(struct kcache_trailer, trailer_crc));
}

static int kcache_verify(int fd, const uint8_t digest[SHA256_BYTES])
{
	struct kcache_trailer t;
	struct stat st;
	uint32_t crc;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || !kcache_private(&st) || st.st_size < (off_t)sizeof(t) ||
	    (uint64_t)st.st_size > KCACHE_FILE_MAX)
		return -EBADMSG;
	r = fd_pread_full(fd, &t, sizeof(t), (uint64_t)st.st_size - sizeof(t));
	if (r)
		return r;
	if (t.magic != KCACHE_TRAILER_MAGIC || t.bytes != (uint64_t)st.st_size - sizeof(t) ||
	    memcmp(t.digest, digest, sizeof(t.digest)) || t.trailer_crc != kcache_trailer_crc(&t))
		return -EBADMSG;
	r = kcache_stream(fd, t.bytes, -1, &crc);
	return r ? r : crc == t.crc ? 0 : -EBADMSG;
}

int kcache_get(int dir_fd, const uint8_t digest[SHA256_BYTES], int *fd)
{
	char name[KCACHE_NAME_MAX];
	CLEANUP_FD int got = -1;
	int r;

	kcache_name(digest, name);
	got = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (got < 0 && errno != ELOOP)
		return -errno;
	r = got < 0 ? -EBADMSG : kcache_verify(got, digest);
	if (r == -EBADMSG)
		unlinkat(dir_fd, name, 0);
	if (r)
		return r == -EBADMSG ? -ENOENT : r;
	futimens(got, NULL); /* what was used last goes last */
	*fd = fd_steal(&got);
	return 0;
}

/* ---- the directory ------------------------------------------------------------------------- */

struct kcache_scan {
	struct kcache_usage usage;
	char oldest[KCACHE_NAME_MAX];
	struct timespec age;
};

static bool kcache_older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static bool kcache_is_entry(const char *name)
{
	return strspn(name, "0123456789abcdef") == (size_t)2 * SHA256_BYTES &&
	       name[2 * SHA256_BYTES] == '-' && strlen(name) < KCACHE_NAME_MAX;
}

static void kcache_scan_one(int dir_fd, const char *name, struct kcache_scan *s)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return;
	if (!strncmp(name, KCACHE_TEMP_PREFIX, strlen(KCACHE_TEMP_PREFIX))) {
		if (st.st_mtim.tv_sec + KCACHE_STALE_S < time(NULL))
			unlinkat(dir_fd, name, 0);
		return;
	}
	if (!kcache_is_entry(name))
		return;
	if (!s->usage.entries++ || kcache_older(&st.st_mtim, &s->age)) {
		s->age = st.st_mtim;
		strcpy(s->oldest, name);
	}
	s->usage.bytes += (uint64_t)st.st_size;
}

static int kcache_scan(int dir_fd, struct kcache_scan *s)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	*s = (struct kcache_scan){ 0 };
	if (!d) {
		int r = -errno;

		fd_close(&fd);
		return r;
	}
	while ((de = readdir(d)))
		kcache_scan_one(dir_fd, de->d_name, s);
	closedir(d);
	return 0;
}

static void kcache_evict(int dir_fd)
{
	struct kcache_scan s;

	for (unsigned i = 0; i < KCACHE_EVICT_MAX; i++) {
		if (kcache_scan(dir_fd, &s) ||
		    (s.usage.entries <= KCACHE_ENTRIES_MAX && s.usage.bytes <= KCACHE_BYTES_MAX))
			return;
		unlinkat(dir_fd, s.oldest, 0);
	}
}

int kcache_usage(int dir_fd, struct kcache_usage *u)
{
	struct kcache_scan s;
	int r = kcache_scan(dir_fd, &s);

	*u = s.usage;
	return r;
}

/* ---- a new entry --------------------------------------------------------------------------- */

static int kcache_write(int out, const uint8_t digest[SHA256_BYTES], int image_fd)
{
	struct kcache_trailer t = { .magic = KCACHE_TRAILER_MAGIC };
	struct stat st;
	int r;

	if (fstat(image_fd, &st) < 0)
		return -errno;
	t.bytes = (uint64_t)st.st_size;
	if (t.bytes > KCACHE_FILE_MAX - sizeof(t))
		return -EFBIG;
	memcpy(t.digest, digest, sizeof(t.digest));
	r = kcache_stream(image_fd, t.bytes, out, &t.crc);
	t.trailer_crc = kcache_trailer_crc(&t);
	return r ? r : fd_write_full(out, &t, sizeof(t));
}

int kcache_put(int dir_fd, const uint8_t digest[SHA256_BYTES], int image_fd, int *fd)
{
	char name[KCACHE_NAME_MAX], temp[64];
	CLEANUP_FD int out = -1, in = -1;
	int r;

	kcache_name(digest, name);
	snprintf(temp, sizeof(temp), KCACHE_TEMP_PREFIX "%d-%.16s", (int)getpid(), name);
	unlinkat(dir_fd, temp, 0); /* of an earlier process with our number */
	out = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	r = kcache_write(out, digest, image_fd);
	if (!r) {
		in = openat(dir_fd, temp, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		r = in < 0 ? -errno : 0;
	}
	if (!r && renameat(dir_fd, temp, dir_fd, name) < 0)
		r = -errno;
	if (r) {
		unlinkat(dir_fd, temp, 0);
		return r;
	}
	kcache_evict(dir_fd);
	*fd = fd_steal(&in);
	return 0;
}
