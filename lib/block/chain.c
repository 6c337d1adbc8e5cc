/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing: one image after the other down the chain, each through the caller's
 * gate, with a limit on depth and a look for loops. Backing files are read-only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block_int.h"
#include "hv/fd.h"
#include "qcow2.h"

struct open_ctx {
	const struct blk_open *o;
	const struct bfile_ops *ops;
	void *ops_ctx;
};

static int check_file_kind(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "%s is a directory, not a disk image", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "%s is neither a file nor a block device", path);
	return 0;
}

/* The same file twice in a chain is a loop: it would back itself. */
static int check_loop(const struct blk *b, const struct blk_image *img, struct err *e)
{
	struct stat st, other;

	if (fstat(img->file.fd, &st) < 0)
		return err_errno(e, "%s", img->path);
	for (unsigned i = 0; i < b->images; i++)
		if (!fstat(b->image[i]->file.fd, &other) && other.st_dev == st.st_dev &&
		    other.st_ino == st.st_ino)
			return err_set(e, -ELOOP, "%s: its backing files form a loop", img->path);
	return 0;
}

static int probe(struct blk_image *img, enum blk_format format, struct err *e)
{
	uint8_t head[4096];
	int r;

	if (format != BLK_FORMAT_PROBE) {
		img->drv = format == BLK_FORMAT_RAW ? &blk_raw_driver : &blk_qcow2_driver;
		return 0;
	}
	r = bfile_pread(&img->file, head, sizeof(head), 0);
	if (r) {
		errno = -r;
		return err_errno(e, "read %s", img->path);
	}
	img->probed = true;
	img->drv = memcmp(head, "QFI\xfb", 4) ? &blk_raw_driver : &blk_qcow2_driver;
	return 0;
}

void blk_image_free(struct blk_image *img)
{
	if (!img)
		return;
	/*
	 * Whoever took the locks: they end here. Closing alone would leave them to a ring's
	 * file table, which lets go of a file up to a second after the process is gone.
	 */
	if (img->file.fd >= 0 && !img->file.ctx)
		blk_unlock_fd(img->file.fd);
	bfile_fini(&img->file);
	free(img->path);
	free(img);
}

/* @fd is the caller's until success. */
static int image_open(struct blk *b, const struct open_ctx *c, int fd, const char *path,
		      enum blk_format format, struct blk_image **out, struct err *e)
{
	struct blk_image *img = calloc(1, sizeof(*img));
	int r = -ENOMEM;

	if (!img)
		return err_set(e, -ENOMEM, "%s: out of memory", path);
	img->file.fd = -1;
	img->blk = b;
	img->depth = b->images;
	img->readonly = img->depth || c->o->readonly;
	img->no_backing = c->o->no_backing;
	img->path = strdup(path);
	if (!img->path)
		goto out;
	r = c->ops ? 0 : check_file_kind(fd, path, e);
	if (r)
		goto out;
	r = bfile_init(&img->file, fd, c->ops, c->ops_ctx);
	if (!r && !c->ops)
		r = check_loop(b, img, e);
	if (!r && !c->o->no_lock && !c->ops) {
		r = blk_lock_fd(fd, !img->readonly, path, e);
		img->locked = !r;
	}
	if (r)
		goto out;
	img->file.unsafe = c->o->cache == BLK_CACHE_UNSAFE;
	r = probe(img, format, e);
	if (!r)
		r = img->drv->open(img, e);
	if (r)
		goto out;
	*out = img;
	return 0;
out:
	if (img->locked)
		blk_unlock_fd(fd);
	img->locked = false;
	img->file.fd = -1;
	blk_image_free(img);
	if (e && !e->code)
		err_set(e, r, "%s: %s", path, strerror(-r));
	return r;
}

int blk_image_stack(struct blk *b, struct blk_image *img)
{
	struct blk_image **grown;

	grown = realloc(b->image, (b->images + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	b->image = grown;
	img->blk = b;
	img->depth = b->images;
	b->image[b->images++] = img;
	b->any_direct |= img->file.direct;
	b->align = MAX(b->align, img->file.align);
	b->slow_io |= img->file.direct && img->drv->granularity(img) < img->file.align;
	return 0;
}

static enum blk_format backing_format(const char *name)
{
	if (!strcmp(name, "raw"))
		return BLK_FORMAT_RAW;
	return !strcmp(name, "qcow2") ? BLK_FORMAT_QCOW2 : BLK_FORMAT_PROBE;
}

/* Open what @img names, if it names anything; *@next is NULL at the chain's end. */
static int backing_open(struct blk *b, const struct open_ctx *c, struct blk_image *img,
			struct blk_image **next, struct err *e)
{
	const char *name = qcow2_backing_name(img), *fmt = qcow2_backing_format(img);
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FD int fd = -1;
	int r;

	*next = NULL;
	if (!name || c->o->no_backing)
		return 0;
	if (b->images >= BLK_CHAIN_MAX)
		return err_set(e, -ELOOP, "%s: more than %d images in the chain of backing files",
			       b->image[0]->path, BLK_CHAIN_MAX);
	if (fmt[0] && backing_format(fmt) == BLK_FORMAT_PROBE)
		return err_set(e, -ENOTSUP,
			       "%s: its backing file '%s' has the format '%s', which is not "
			       "supported (raw and qcow2 are; qemu-img convert makes one of them)",
			       img->path, name, fmt);
	if (!c->o->gate)
		return err_set(e, -EACCES, "%s: opening its backing file '%s' is not allowed",
			       img->path, name);
	path = calloc(1, BLK_PATH_MAX);
	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	r = c->o->gate(c->o->gate_ctx, img->path, name, &fd, path, e);
	if (r)
		return e && e->code ? r
				    : err_set(e, r, "%s: backing file '%s': %s", img->path, name,
					      strerror(-r));
	path[BLK_PATH_MAX - 1] = 0;
	r = image_open(b, c, fd, path, backing_format(fmt), next, e);
	if (r)
		return err_wrap(e, r, "backing file of %s", img->path);
	fd_steal(&fd);
	return 0;
}

static int chain_open(struct blk *b, const struct open_ctx *c, struct err *e)
{
	struct blk_image *img = NULL;
	int r = image_open(b, c, c->o->fd, c->o->path, c->o->format, &img, e);

	while (!r && img) {
		r = blk_image_stack(b, img);
		if (r) {
			img->drv->close(img);
			img->file.fd = img->depth ? img->file.fd : -1;
			blk_image_free(img);
			return err_set(e, r, "out of memory");
		}
		r = backing_open(b, c, img, &img, e);
	}
	return r;
}

static void blk_release(struct blk *b)
{
	for (unsigned i = 0; i < b->images; i++)
		blk_image_free(b->image[i]);
	table_cache_fini(b);
	pthread_mutex_destroy(&b->lock);
	free(b->image);
	free(b->cow);
	free(b->guard);
	free(b);
}

static struct blk *blk_alloc(void)
{
	struct blk *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->align = 512;
	b->tables.budget = BLK_TABLE_BUDGET;
	pthread_mutex_init(&b->lock, NULL);
	b->guard = aligned_alloc(4096, 4096);
	b->cow = aligned_alloc(4096, BLK_COW_BYTES);
	if (b->guard && b->cow)
		return b;
	blk_release(b);
	return NULL;
}

static int chain_close(struct blk *b)
{
	int r = 0;

	for (unsigned i = 0; i < b->images; i++) {
		int c = b->image[i]->drv->close(b->image[i]);

		r = r ? r : c;
	}
	return r;
}

int blk_open_with(const struct blk_open *o, const struct bfile_ops *ops, void *ops_ctx,
		  struct blk **out, struct err *e)
{
	struct open_ctx c = { .o = o, .ops = ops, .ops_ctx = ops_ctx };
	struct blk *b = blk_alloc();
	int r;

	if (e)
		e->code = 0;
	if (!b)
		return err_set(e, -ENOMEM, "%s: out of memory", o->path);
	b->readonly = o->readonly;
	b->cache = o->cache;
	r = chain_open(b, &c, e);
	if (!r)
		r = qcow2_make_writable(b, e);
	if (!r) {
		b->size = b->image[0]->size;
		*out = b;
		return 0;
	}
	chain_close(b);
	if (b->images) { /* the top descriptor stays the caller's */
		if (b->image[0]->locked)
			blk_unlock_fd(o->fd);
		b->image[0]->locked = false;
		b->image[0]->file.fd = -1;
	}
	blk_release(b);
	return r;
}

int blk_open(const struct blk_open *o, struct blk **out, struct err *e)
{
	return blk_open_with(o, NULL, NULL, out, e);
}

/* The first publish links, those after it take down the counters of what was dropped. */
static int close_publish(struct blk *b)
{
	int r = blk_own_flush(b);

	return r ? r : blk_own_settle(b);
}

int blk_close(struct blk *b)
{
	int r, c;

	assert(!b->queues);
	r = b->readonly || b->ephemeral ? 0 : close_publish(b);
	c = chain_close(b);
	blk_release(b);
	return r ? r : c;
}

/* ---- ephemeral overlay --------------------------------------------------------------- */

int blk_open_ephemeral(struct blk *base, int tmp_fd, struct blk **out, struct err *e)
{
	struct blk_create c = { .size = base->size };
	struct blk_open o = { .path = "temporary overlay",
			      .fd = tmp_fd,
			      .format = BLK_FORMAT_QCOW2,
			      .cache = BLK_CACHE_UNSAFE,
			      .no_lock = true };
	struct blk *b;
	int r;

	assert(base->readonly && !base->queues);
	r = base->images < BLK_CHAIN_MAX ? 0 : err_set(e, -ELOOP, "the chain is too long");
	if (!r)
		r = base->size ? blk_create_qcow2(tmp_fd, &c, e)
			       : err_set(e, -EINVAL, "the disk is empty");
	if (!r)
		r = blk_open(&o, &b, e);
	if (r)
		return err_wrap(e, r, "overlay in memory");
	for (unsigned i = 0; i < base->images && !r; i++)
		r = blk_image_stack(b, base->image[i]);
	if (r) { /* what was stacked stays the base's */
		for (unsigned i = 0; i < base->images; i++) {
			base->image[i]->blk = base;
			base->image[i]->depth = i;
		}
		b->images = 1;
		b->image[0]->file.fd = -1;
		chain_close(b);
		blk_release(b);
		return err_set(e, r, "out of memory");
	}
	table_cache_move(b, base);
	qcow2_set_backed(b->image[0]);
	b->ephemeral = true;
	base->images = 0;
	blk_release(base);
	*out = b;
	return 0;
}
