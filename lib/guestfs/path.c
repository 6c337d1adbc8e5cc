/* SPDX-License-Identifier: MIT */
/*
 * Paths and open files.
 *
 * The walk keeps its own stack of directories, so that ".." never asks the image and
 * never leaves its root; an absolute symbolic link starts again at that root. Path,
 * depth and links followed are bounded, whatever the image holds.
 */
#include "gfs_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"
#include "hv/overflow.h"

#define WALK_DEPTH_MAX 256

struct gfs_file {
	struct gfs_fs *fs;
	void *h;
	uint64_t off, size; /* the slice of the file that is shown */
};

struct walk {
	struct gfs_fs *fs;
	uint64_t stack[WALK_DEPTH_MAX]; /* [0] is the root */
	size_t depth;
	char todo[GFS_PATH_MAX]; /* what is still to be walked */
	unsigned links;
	struct gfs_stat st; /* of the top of the stack */
};

/* Take the next component out of w->todo; false when none is left. */
static bool walk_next(struct walk *w, char name[GFS_NAME_MAX + 1], int *r)
{
	char *p = w->todo + strspn(w->todo, "/");
	size_t len = strcspn(p, "/");

	*r = 0;
	if (!len)
		return false;
	if (len > GFS_NAME_MAX) {
		*r = -ENAMETOOLONG;
		return false;
	}
	memcpy(name, p, len);
	name[len] = 0;
	memmove(w->todo, p + len, strlen(p + len) + 1);
	return true;
}

/* Put a link's target in front of the rest of the path. */
static int walk_link(struct walk *w, uint64_t node)
{
	CLEANUP_FREE char *target = malloc(GFS_PATH_MAX);
	size_t len, rest = strlen(w->todo);
	int r;

	if (!target)
		return -ENOMEM;
	if (++w->links > GFS_SYMLINKS_MAX)
		return -ELOOP;
	r = w->fs->ops->readlink(w->fs, node, target);
	if (r)
		return r;
	len = strlen(target);
	if (!len)
		return -ENOENT;
	if (len + 1 + rest + 1 > sizeof(w->todo))
		return -ENAMETOOLONG;
	memmove(w->todo + len + 1, w->todo, rest + 1);
	memcpy(w->todo, target, len);
	w->todo[len] = '/';
	if (target[0] == '/')
		w->depth = 1;
	return 0;
}

static int walk_step(struct walk *w, const char *name, bool follow_last)
{
	uint64_t node;
	bool last;
	int r;

	if (!strcmp(name, "."))
		return 0;
	if (!strcmp(name, "..")) {
		w->depth -= w->depth > 1;
		return w->fs->ops->stat(w->fs, w->stack[w->depth - 1], &w->st);
	}
	if (w->st.kind != GFS_DIR)
		return -ENOTDIR;
	r = w->fs->ops->lookup(w->fs, w->stack[w->depth - 1], name, &node);
	if (r)
		return r;
	r = w->fs->ops->stat(w->fs, node, &w->st);
	if (r)
		return r;
	last = !w->todo[strspn(w->todo, "/")];
	if (w->st.kind == GFS_SYMLINK && (!last || follow_last)) {
		r = walk_link(w, node);
		return r ? r : w->fs->ops->stat(w->fs, w->stack[w->depth - 1], &w->st);
	}
	if (w->depth == WALK_DEPTH_MAX)
		return -ENAMETOOLONG;
	w->stack[w->depth++] = node;
	return 0;
}

static int walk_path(struct walk *w, const char *path, bool follow_last)
{
	char name[GFS_NAME_MAX + 1];
	size_t len = strlen(path);
	int r;

	if (len >= sizeof(w->todo))
		return -ENAMETOOLONG;
	memcpy(w->todo, path, len + 1);
	w->stack[0] = w->fs->root;
	w->depth = 1;
	r = w->fs->ops->stat(w->fs, w->fs->root, &w->st);
	while (!r && walk_next(w, name, &r))
		r = walk_step(w, name, follow_last);
	return r;
}

int gfs_lookup(struct gfs_fs *fs, const char *path, bool follow_last, uint64_t *node,
	       struct gfs_stat *st, struct err *e)
{
	CLEANUP_FREE struct walk *w = calloc(1, sizeof(*w));
	int r = gfs_use(fs, e);

	if (r)
		return r;
	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->fs = fs;
	r = walk_path(w, path, follow_last);
	if (r)
		return err_set(e, r, "%s: %s", path, strerror(-r));
	*node = w->stack[w->depth - 1];
	*st = w->st;
	return 0;
}

int gfs_stat(struct gfs_fs *fs, const char *path, struct gfs_stat *st, struct err *e)
{
	uint64_t node;

	return gfs_lookup(fs, path, true, &node, st, e);
}

int gfs_lstat(struct gfs_fs *fs, const char *path, struct gfs_stat *st, struct err *e)
{
	uint64_t node;

	return gfs_lookup(fs, path, false, &node, st, e);
}

int gfs_readlink(struct gfs_fs *fs, const char *path, char buf[GFS_PATH_MAX], struct err *e)
{
	struct gfs_stat st;
	uint64_t node;
	int r = gfs_lookup(fs, path, false, &node, &st, e);

	if (r)
		return r;
	if (st.kind != GFS_SYMLINK)
		return err_set(e, -EINVAL, "%s: not a symbolic link", path);
	r = fs->ops->readlink(fs, node, buf);
	return r ? err_set(e, r, "%s: %s", path, strerror(-r)) : 0;
}

int gfs_readdir(struct gfs_fs *fs, const char *path, gfs_dirent_fn fn, void *ctx, struct err *e)
{
	struct gfs_stat st;
	uint64_t node;
	int r = gfs_lookup(fs, path, true, &node, &st, e);

	if (r)
		return r;
	if (st.kind != GFS_DIR)
		return err_set(e, -ENOTDIR, "%s: not a directory", path);
	r = fs->ops->readdir(fs, node, fn, ctx);
	return r < 0 ? err_set(e, r, "%s: %s", path, strerror(-r)) : r;
}

int gfs_file_open(struct gfs_fs *fs, const char *path, struct gfs_file **out, struct err *e)
{
	CLEANUP_FREE struct gfs_file *f = calloc(1, sizeof(*f));
	struct gfs_stat st;
	uint64_t node;
	int r = gfs_lookup(fs, path, true, &node, &st, e);

	if (r)
		return r;
	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	if (st.kind != GFS_FILE)
		return err_set(e, st.kind == GFS_DIR ? -EISDIR : -EINVAL, "%s: not a regular file",
			       path);
	f->fs = fs;
	f->size = st.size;
	r = fs->ops->file_open(fs, node, &f->h);
	if (r)
		return err_set(e, r, "%s: %s", path, strerror(-r));
	*out = ptr_steal(&f);
	return 0;
}

uint64_t gfs_file_size(const struct gfs_file *f)
{
	return f->size;
}

int gfs_file_pread(struct gfs_file *f, uint64_t off, void *buf, size_t len)
{
	if (!range_ok(off, len, f->size))
		return -EINVAL;
	return len ? f->fs->ops->file_read(f->fs, f->h, f->off + off, buf, len) : 0;
}

void gfs_file_close(struct gfs_file *f)
{
	if (!f)
		return;
	f->fs->ops->file_close(f->fs, f->h);
	free(f);
}

int gfs_read_file(struct gfs_fs *fs, const char *path, size_t max, uint8_t **buf, size_t *len,
		  struct err *e)
{
	CLEANUP_FREE uint8_t *data = NULL;
	struct gfs_file *f;
	int r = gfs_file_open(fs, path, &f, e);

	if (r)
		return r;
	if (f->size > max) {
		r = err_set(e, -EFBIG, "%s: larger than %zu bytes", path, max);
		goto out_file;
	}
	data = malloc((size_t)f->size + 1);
	if (!data) {
		r = err_set(e, -ENOMEM, "out of memory");
		goto out_file;
	}
	r = gfs_file_pread(f, 0, data, (size_t)f->size);
	if (r) {
		r = err_set(e, r, "%s: %s", path, strerror(-r));
		goto out_file;
	}
	*len = (size_t)f->size;
	data[*len] = 0;
	*buf = ptr_steal(&data);
out_file:
	gfs_file_close(f);
	return r;
}

int boot_file_open(const struct boot_file *bf, struct gfs_file **out, struct err *e)
{
	int r = gfs_file_open(bf->fs, bf->path, out, e);

	if (r || !bf->len)
		return r;
	if (!range_ok(bf->off, bf->len, (*out)->size)) {
		gfs_file_close(*out);
		return err_set(e, -EUCLEAN, "%s: section outside the file", bf->path);
	}
	(*out)->off = bf->off;
	(*out)->size = bf->len;
	return 0;
}
