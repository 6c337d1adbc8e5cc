/* SPDX-License-Identifier: MIT */
/*
 * XFS, versions 4 and 5, for reading (XFS Algorithms & Data Structures).
 *
 * Files are found from the root directory alone: the inode trees are not needed for that.
 * The log is not replayed: after a hard stop, what was changed in the last seconds may
 * be seen as it was before. Realtime files are refused.
 */
#include "xfs_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

enum { VERSION_MASK = 0x000f, VERSION_DIRV2 = 0x2000, VERSION_MORE = 0x8000 };
enum { FEATURES2_FTYPE = 0x200 };
enum { INCOMPAT_FTYPE = 0x01, INCOMPAT_KNOWN = 0xff };
enum { DIFLAG_REALTIME = 0x1 };
enum { DIFLAG2_BIGTIME = 0x08, DIFLAG2_NREXT64 = 0x10 };
#define INODE_MAGIC 0x494eu
#define CORE_V2 100u
#define CORE_V3 176u
#define SYMLINK_MAGIC 0x58534c4du
#define SYMLINK_HEADER 56u
#define SYMLINK_MAX 1024u
#define BIGTIME_EPOCH BIT64(31) /* seconds before 1970 */

/* ---- superblock
 * ---------------------------------------------------------------------------------- */

static int xfs_features(struct xfs *x, const uint8_t *sb, struct err *e)
{
	uint16_t version = load_be16(sb + 100);
	uint32_t incompat = load_be32(sb + 216);

	switch (version & VERSION_MASK) {
	case 4:
		x->ftype = (version & VERSION_MORE) && (load_be32(sb + 200) & FEATURES2_FTYPE);
		if (!(version & VERSION_DIRV2))
			return err_set(e, -ENOTSUP, "it has directories of version 1");
		return 0;
	case 5:
		x->v5 = true;
		x->ftype = incompat & INCOMPAT_FTYPE;
		if (incompat & ~(uint32_t)INCOMPAT_KNOWN)
			return err_set(e, -ENOTSUP, "it has unknown features 0x%x",
				       incompat & ~(uint32_t)INCOMPAT_KNOWN);
		return 0;
	}
	return err_set(e, -ENOTSUP, "it is of version %u", version & VERSION_MASK);
}

static bool xfs_layout(struct xfs *x, const uint8_t *sb)
{
	uint32_t inode = load_be16(sb + 104);
	uint64_t blocks = load_be64(sb + 8), bytes;

	x->block_size = load_be32(sb + 4);
	x->block_log = sb[120];
	x->inode_log = sb[122];
	x->inop_log = sb[123];
	x->agblk_log = sb[124];
	x->ag_blocks = load_be32(sb + 84);
	x->ag_count = load_be32(sb + 88);
	x->root = load_be64(sb + 56);
	if (x->block_log < 9 || x->block_log > 16 || x->block_size != BIT32(x->block_log) ||
	    x->inode_log < 8 || x->inode_log > 11 || inode != BIT32(x->inode_log) ||
	    x->inode_log > x->block_log || x->inop_log != x->block_log - x->inode_log ||
	    x->agblk_log > 31 || x->ag_blocks > BIT32(x->agblk_log) || sb[192] > 16 - x->block_log)
		return false;
	x->dir_block_size = x->block_size << sb[192];
	return x->ag_blocks && x->ag_count && mul_u64(blocks, x->block_size, &bytes) &&
	       bytes <= x->src->size && blocks <= (uint64_t)x->ag_blocks * x->ag_count &&
	       blocks > (uint64_t)x->ag_blocks * (x->ag_count - 1);
}

static int xfs_open(struct gfs_fs *fs, struct err *e)
{
	CLEANUP_FREE struct xfs *x = calloc(1, sizeof(*x));
	struct xfs_inode root;
	uint8_t sb[512];
	int r;

	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->src = &fs->src;
	r = gfs_src_read(&fs->src, 0, sb, sizeof(sb));
	if (r)
		return err_set(e, r, "superblock: %s", strerror(-r));
	r = xfs_features(x, sb, e);
	if (r)
		return r;
	if (!xfs_layout(x, sb))
		return err_set(e, -EUCLEAN, "its superblock is damaged, or it is cut short");
	r = xfs_inode_read(x, x->root, &root);
	if (r || !S_ISDIR(root.mode))
		return err_set(e, r ? r : -EUCLEAN, "its root directory cannot be read");
	fs->root = x->root;
	fs->priv = ptr_steal(&x);
	snprintf(fs->note, sizeof(fs->note), "log not replayed");
	return 0;
}

static void xfs_close(struct gfs_fs *fs)
{
	free(fs->priv);
}

/* ---- inodes
 * -------------------------------------------------------------------------------------------- */

static int inode_place(const struct xfs *x, uint64_t ino, uint64_t *off)
{
	uint64_t block;
	int r;

	if (ino >> (x->agblk_log + x->inop_log) >= x->ag_count)
		return -EUCLEAN;
	r = xfs_block_off(x, ino >> x->inop_log, &block);
	*off = r ? 0 : block + ((ino & (BIT64(x->inop_log) - 1)) << x->inode_log);
	return r;
}

int xfs_inode_read(const struct xfs *x, uint64_t ino, struct xfs_inode *in)
{
	size_t size = (size_t)1 << x->inode_log, core;
	uint8_t *d = in->raw;
	uint64_t off;
	int r = inode_place(x, ino, &off);

	if (!r)
		r = gfs_src_read(x->src, off, d, size);
	if (r)
		return r == -EINVAL ? -EUCLEAN : r;
	if (load_be16(d) != INODE_MAGIC || d[4] < 1 || d[4] > 3)
		return -EUCLEAN;
	core = d[4] == 3 ? CORE_V3 : CORE_V2;
	in->mode = load_be16(d + 2);
	in->format = d[5];
	in->size = load_be64(d + 56);
	in->extents = load_be32(d + 76);
	in->realtime = load_be16(d + 90) & DIFLAG_REALTIME;
	if (d[4] == 3 && (load_be64(d + 120) & DIFLAG2_NREXT64))
		in->extents = load_be64(d + 24);
	in->fork = d + core;
	in->fork_len = d[82] ? (size_t)d[82] * 8 : size - core;
	if (in->fork_len > size - core || in->size > INT64_MAX)
		return -EUCLEAN;
	return 0;
}

static uint64_t inode_mtime(const uint8_t *d)
{
	uint64_t raw = load_be64(d + 40);

	if (d[4] == 3 && (load_be64(d + 120) & DIFLAG2_BIGTIME)) {
		uint64_t s = raw / 1000000000u;

		return s > BIGTIME_EPOCH ? s - BIGTIME_EPOCH : 0;
	}
	return (int32_t)(raw >> 32) > 0 ? raw >> 32 : 0;
}

void xfs_stat_of(const struct xfs_inode *in, struct gfs_stat *st)
{
	*st = (struct gfs_stat){ .kind = S_ISREG(in->mode)   ? GFS_FILE
					 : S_ISDIR(in->mode) ? GFS_DIR
					 : S_ISLNK(in->mode) ? GFS_SYMLINK
							     : GFS_SPECIAL,
				 .mode = in->mode & 07777,
				 .uid = load_be32(in->raw + 8),
				 .gid = load_be32(in->raw + 12),
				 .size = in->size,
				 .mtime = inode_mtime(in->raw) };
}

static int xfs_stat(struct gfs_fs *fs, uint64_t node, struct gfs_stat *st)
{
	struct xfs_inode in;
	int r = xfs_inode_read(fs->priv, node, &in);

	if (!r)
		xfs_stat_of(&in, st);
	return r;
}

/* A link's target in blocks of its own; version 5 puts a header on each. */
static int remote_link(const struct xfs *x, const struct xfs_inode *in, char *buf)
{
	size_t head = x->v5 ? SYMLINK_HEADER : 0, done = 0;
	uint8_t h[SYMLINK_HEADER];
	struct xfs_map m;
	int r = xfs_map_load(x, in, &m);

	for (uint64_t off = 0; !r && done < in->size; off += x->block_size) {
		size_t n = MIN((size_t)in->size - done, x->block_size - head);

		r = head ? xfs_map_read(x, &m, off, h, head) : 0;
		if (!r && head && load_be32(h) != SYMLINK_MAGIC)
			r = -EUCLEAN;
		if (!r)
			r = xfs_map_read(x, &m, off + head, buf + done, n);
		done += n;
	}
	xfs_map_fini(&m);
	return r;
}

static int xfs_readlink(struct gfs_fs *fs, uint64_t node, char buf[GFS_PATH_MAX])
{
	const struct xfs *x = fs->priv;
	struct xfs_inode in;
	int r = xfs_inode_read(x, node, &in);

	if (r)
		return r;
	if (!S_ISLNK(in.mode) || !in.size || in.size > SYMLINK_MAX)
		return -EUCLEAN;
	if (in.format != XFS_LOCAL)
		r = remote_link(x, &in, buf);
	else if (in.size <= in.fork_len)
		memcpy(buf, in.fork, in.size);
	else
		r = -EUCLEAN;
	buf[r ? 0 : in.size] = 0;
	return r;
}

/* ---- directories
 * ------------------------------------------------------------------------------------------ */

struct search {
	const char *name;
	size_t len;
	uint64_t found;
};

static int match_name(void *ctx, const uint8_t *name, size_t len, uint64_t ino, int ftype)
{
	struct search *s = ctx;

	if (len != s->len || memcmp(name, s->name, len))
		return 0;
	s->found = ino;
	return 1;
}

static int xfs_lookup(struct gfs_fs *fs, uint64_t dir, const char *name, uint64_t *node)
{
	struct search s = { .name = name, .len = strlen(name) };
	struct xfs_inode in;
	int r = xfs_inode_read(fs->priv, dir, &in);

	if (!r)
		r = xfs_dir_walk(fs->priv, &in, match_name, &s);
	*node = s.found;
	return r < 0 ? r : s.found ? 0 : -ENOENT;
}

struct listing {
	struct gfs_fs *fs;
	gfs_dirent_fn fn;
	void *ctx;
	unsigned seen;
};

static int list_name(void *ctx, const uint8_t *name, size_t len, uint64_t ino, int ftype)
{
	static const enum gfs_kind kinds[] = { GFS_SPECIAL, GFS_FILE,	 GFS_DIR,     GFS_SPECIAL,
					       GFS_SPECIAL, GFS_SPECIAL, GFS_SPECIAL, GFS_SYMLINK };
	struct listing *l = ctx;
	char text[GFS_NAME_MAX + 1];
	struct gfs_stat st;

	memcpy(text, name, len);
	text[len] = 0;
	if (strlen(text) != len || strchr(text, '/'))
		return 0;
	if (++l->seen > GFS_DIRENTS_MAX)
		return -E2BIG;
	if (ftype >= 0 && (size_t)ftype < ARRAY_SIZE(kinds))
		return l->fn(l->ctx, text, kinds[ftype]);
	return l->fn(l->ctx, text, xfs_stat(l->fs, ino, &st) ? GFS_SPECIAL : st.kind);
}

static int xfs_readdir(struct gfs_fs *fs, uint64_t dir, gfs_dirent_fn fn, void *ctx)
{
	struct listing l = { fs, fn, ctx, 0 };
	struct xfs_inode in;
	int r = xfs_inode_read(fs->priv, dir, &in);

	return r ? r : xfs_dir_walk(fs->priv, &in, list_name, &l);
}

/* ---- files
 * --------------------------------------------------------------------------------------------------
 */

static int xfs_file_open(struct gfs_fs *fs, uint64_t node, void **h)
{
	struct xfs_inode in;
	struct xfs_map *m;
	int r = xfs_inode_read(fs->priv, node, &in);

	if (r)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	r = xfs_map_load(fs->priv, &in, m);
	if (r) {
		xfs_map_fini(m);
		free(m);
		return r;
	}
	*h = m;
	return 0;
}

static int xfs_file_read(struct gfs_fs *fs, void *h, uint64_t off, void *buf, size_t len)
{
	return xfs_map_read(fs->priv, h, off, buf, len);
}

static void xfs_file_close(struct gfs_fs *fs, void *h)
{
	xfs_map_fini(h);
	free(h);
}

const struct gfs_ops gfs_xfs_ops = {
	.open = xfs_open,
	.close = xfs_close,
	.stat = xfs_stat,
	.lookup = xfs_lookup,
	.readlink = xfs_readlink,
	.readdir = xfs_readdir,
	.file_open = xfs_file_open,
	.file_read = xfs_file_read,
	.file_close = xfs_file_close,
};
