/* SPDX-License-Identifier: MIT */
/*
 * The gate: which files an image may name. Names come out of images, that is from strangers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hv/block.h"
#include "hv/fd.h"

#define GATE_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static int gate_refuse(const struct blk_gate *g, const char *parent, const char *name,
		       const char *why, struct err *e)
{
	err_set(e, -EACCES, "%s names the backing file '%.*s', %s", parent, 200, name, why);
	if (g->option)
		err_hint(e, "%s permits it", g->option);
	return -EACCES;
}

/* "nbd:...", "json:{...}", "http://...": a scheme before any slash is no file name. */
static bool has_scheme(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':';
}

/* The directory part of @path, with its last slash; "" for none. */
static size_t dir_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

static int open_beneath(int dir, const char *name)
{
	struct open_how how = { .flags = GATE_FLAGS,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS };
	int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));

	if (fd >= 0 || errno != ENOSYS)
		return fd;
	if (strchr(name, '/') || !strcmp(name, "..")) {
		errno = EXDEV;
		return -1;
	}
	return openat(dir, name, GATE_FLAGS | O_NOFOLLOW);
}

static int gate_same_dir(const struct blk_gate *g, const char *parent, const char *name, int *out,
			 struct err *e)
{
	size_t n = dir_len(parent);
	CLEANUP_FREE char *dir = n ? strndup(parent, n) : strdup(".");
	CLEANUP_FD int dir_fd = -1;

	if (!dir)
		return err_set(e, -ENOMEM, "out of memory");
	/* An absolute name is fine where it spells the same directory. */
	if (name[0] == '/') {
		if (!n || dir_len(name) != n || strncmp(name, parent, n))
			return gate_refuse(g, parent, name, "which is outside its directory", e);
		name += n;
	}
	dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return err_errno(e, "%s", dir);
	*out = open_beneath(dir_fd, name);
	if (*out >= 0)
		return 0;
	if (errno == EXDEV || errno == ELOOP)
		return gate_refuse(g, parent, name,
				   "which is a symbolic link or outside its directory", e);
	return err_errno(e, "%s: backing file '%s'", parent, name);
}

/* The name as seen from the naming image: absolute, or relative to that one's directory. */
static int gate_path(const char *parent, const char *name, char path[BLK_PATH_MAX], struct err *e)
{
	size_t n = name[0] == '/' ? 0 : dir_len(parent);
	int len = snprintf(path, BLK_PATH_MAX, "%.*s%s", (int)n, parent, name);

	if (len < 0 || len >= BLK_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "%s: its backing file's name is too long", parent);
	return 0;
}

static int gate_check_kind(int fd, const struct blk_gate *g, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (S_ISREG(st.st_mode) || (S_ISBLK(st.st_mode) && g->policy == BLK_GATE_ALLOW))
		return 0;
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "backing file %s is a directory", path);
	return err_set(e, -EACCES, "backing file %s is not a regular file", path);
}

int blk_gate_open(void *ctx, const char *parent, const char *name, int *fd, char path[BLK_PATH_MAX],
		  struct err *e)
{
	const struct blk_gate *g = ctx;
	CLEANUP_FD int got = -1;
	int r;

	if (!strncmp(name, "file:", 5))
		name += 5;
	if (!name[0])
		return err_set(e, -EINVAL, "%s names an empty backing file", parent);
	if (has_scheme(name))
		return err_set(e, -ENOTSUP,
			       "%s names the backing file '%.*s', which is not a file name", parent,
			       200, name);
	if (g->policy == BLK_GATE_DENY)
		return gate_refuse(g, parent, name, "and backing files are denied", e);
	r = gate_path(parent, name, path, e);
	if (!r && g->policy == BLK_GATE_SAME_DIR)
		r = gate_same_dir(g, parent, name, &got, e);
	else if (!r && (got = open(path, GATE_FLAGS)) < 0)
		r = err_errno(e, "%s: backing file '%s'", parent, path);
	if (!r)
		r = gate_check_kind(got, g, path, e);
	if (!r && g->lock)
		r = blk_lock_fd(got, false, path, e);
	if (!r)
		*fd = fd_steal(&got);
	return r;
}
