/* SPDX-License-Identifier: MIT */
/*
 * ext2, ext3 and ext4 through libext2fs.
 *
 * libext2fs finds superblock, groups, inodes and extents and checks their checksums;
 * file data and directories are read here, because every loop over an image's content
 * must have a bound of ours. Before libext2fs sees the superblock, the sizes in it that
 * it would allocate by are compared with the window's size.
 *
 * A journal left dirty is replayed in memory (jbd2.c): the file system is opened once to
 * find the journal, and again with the journal's blocks laid over the device.
 * Orphaned inodes are left alone: they are files that no directory names any more.
 */
#include "ext4_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define SB_OFF 1024u
#define SB_LEN 1024u
#define GROUPS_MAX (1u << 20) /* 128 TiB with 4 KiB blocks; 64 MiB of descriptors */
#define DIR_BYTES_MAX MIB(256)
#define INLINE_MAX 65536u

struct ext4 {
	ext2_filsys fs;
	struct ext4_dev dev;
};

struct ext4_file {
	ext2_filsys fs;
	struct ext4_dev *dev;
	ext2_ino_t ino;
	struct ext2_inode inode;
	ext2_extent_handle_t extents; /* NULL: block-mapped or inline */
	uint8_t *inline_data;
	size_t inline_len;
	uint64_t run_lblk, run_pblk, run_len; /* the run found last */
};

/* libext2fs' numbers are its own: sort them into the few that callers tell apart. */
static int ext4_errno(errcode_t r)
{
	switch (r) {
	case 0: return 0;
	case EXT2_ET_NO_MEMORY: return -ENOMEM;
	case EXT2_ET_SHORT_READ: return -EIO;
	case EXT2_ET_UNSUPP_FEATURE:
	case EXT2_ET_RO_UNSUPP_FEATURE: return -ENOTSUP;
	default: return r > 0 && r < 256 ? -(int)r : -EUCLEAN;
	}
}

/* ---- one file --------------------------------------------------------------------------- */

static int ext4_load_inline(struct ext4_file *f)
{
	size_t size = 0;
	int r = ext4_errno(ext2fs_inline_data_size(f->fs, f->ino, &size));

	if (r)
		return r;
	if (size > INLINE_MAX)
		return -EUCLEAN;
	f->inline_data = calloc(1, MAX(size, (size_t)EXT4_MIN_INLINE_DATA_SIZE));
	if (!f->inline_data)
		return -ENOMEM;
	f->inline_len = size;
	return ext4_errno(
		ext2fs_inline_data_get(f->fs, f->ino, NULL, f->inline_data, &f->inline_len));
}

int ext4_ino_open(ext2_filsys fs, struct ext4_dev *d, ext2_ino_t ino, struct ext4_file **out)
{
	struct ext4_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->fs = fs;
	f->dev = d;
	f->ino = ino;
	r = ext4_errno(ext2fs_read_inode(fs, ino, &f->inode));
	if (!r && (f->inode.i_flags & EXT4_ENCRYPT_FL))
		r = -ENOTSUP;
	else if (!r && (f->inode.i_flags & EXT4_INLINE_DATA_FL))
		r = ext4_load_inline(f);
	else if (!r && (f->inode.i_flags & EXT4_EXTENTS_FL))
		r = ext4_errno(ext2fs_extent_open2(fs, ino, &f->inode, &f->extents));
	if (r) {
		ext4_ino_close(f);
		return r;
	}
	*out = f;
	return 0;
}

void ext4_ino_close(struct ext4_file *f)
{
	if (!f)
		return;
	if (f->extents)
		ext2fs_extent_free(f->extents);
	free(f->inline_data);
	free(f);
}

uint64_t ext4_ino_size(const struct ext4_file *f)
{
	return EXT2_I_SIZE(&f->inode);
}

/* By extent tree: one descent a run. A hole is told a block at a time. */
static int ext4_map_extent(struct ext4_file *f, uint64_t lblk, uint64_t *pblk, uint64_t *run)
{
	struct ext2fs_extent ext;
	errcode_t r = ext2fs_extent_goto(f->extents, lblk);

	*pblk = 0;
	*run = 1;
	if (r == EXT2_ET_EXTENT_NOT_FOUND)
		return 0;
	if (!r)
		r = ext2fs_extent_get(f->extents, EXT2_EXTENT_CURRENT, &ext);
	if (r)
		return ext4_errno(r);
	if (lblk < ext.e_lblk || lblk - ext.e_lblk >= ext.e_len)
		return -EUCLEAN;
	*run = ext.e_len - (lblk - ext.e_lblk);
	if (!(ext.e_flags & EXT2_EXTENT_FLAGS_UNINIT)) /* else allocated, never written: zeros */
		*pblk = ext.e_pblk + (lblk - ext.e_lblk);
	return 0;
}

int ext4_file_map(struct ext4_file *f, uint64_t lblk, uint64_t *pblk, uint64_t *run)
{
	blk64_t found;
	int flags, r;

	if (lblk > UINT32_MAX)
		return -EUCLEAN;
	if (f->extents)
		return ext4_map_extent(f, lblk, pblk, run);
	*run = 1;
	r = ext4_errno(ext2fs_bmap2(f->fs, f->ino, &f->inode, NULL, 0, lblk, &flags, &found));
	*pblk = r ? 0 : found;
	return r;
}

/* Where @lblk lies, from the run found last if it can be. */
static int ext4_find(struct ext4_file *f, uint64_t lblk, uint64_t *pblk, uint64_t *left)
{
	uint64_t in;
	int r;

	if (lblk < f->run_lblk || lblk - f->run_lblk >= f->run_len) {
		f->run_len = 0;
		r = ext4_file_map(f, lblk, &f->run_pblk, &f->run_len);
		if (r)
			return r;
		f->run_lblk = lblk;
	}
	in = lblk - f->run_lblk;
	*pblk = f->run_pblk ? f->run_pblk + in : 0;
	*left = f->run_len - in;
	return 0;
}

/* [off, off+len) of a file; the caller has compared it with the size. */
static int ext4_ino_read(struct ext4_file *f, uint64_t off, uint8_t *buf, size_t len)
{
	uint32_t bs = f->fs->blocksize;

	if (f->inline_data) {
		memset(buf, 0, len);
		if (off < f->inline_len)
			memcpy(buf, f->inline_data + off, MIN(len, f->inline_len - (size_t)off));
		return 0;
	}
	while (len) {
		uint64_t pblk, left;
		size_t in = off % bs, n;
		int r = ext4_find(f, off / bs, &pblk, &left);

		if (r)
			return r;
		n = (size_t)MIN((uint64_t)len, left * bs - in);
		if (!pblk)
			memset(buf, 0, n);
		else if (pblk >= ext2fs_blocks_count(f->fs->super))
			return -EUCLEAN;
		else
			r = ext4_dev_read(f->dev, pblk * bs + in, buf, n);
		if (r)
			return r == -EINVAL ? -EUCLEAN : r;
		off += n;
		buf += n;
		len -= n;
	}
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

/* What libext2fs would allocate by, compared with the window before it may. */
static int ext4_check_super(const uint8_t *sb, uint64_t size, struct err *e)
{
	uint64_t blocks = load_le32(sb + 4), bytes, groups;
	uint32_t log = load_le32(sb + 24), per_group = load_le32(sb + 32);

	if (load_le32(sb + 96) & EXT4_FEATURE_INCOMPAT_64BIT)
		blocks |= (uint64_t)load_le32(sb + 336) << 32;
	if (log > 6 || !per_group || !load_le32(sb + 40))
		return err_set(e, -EUCLEAN, "superblock is damaged");
	if (!mul_u64(blocks, 1024u << log, &bytes) || bytes > size)
		return err_set(e, -EUCLEAN, "larger than the space it lies in");
	groups = DIV_ROUND_UP(blocks, (uint64_t)per_group);
	if (!groups || groups > GROUPS_MAX)
		return err_set(e, -ENOTSUP, "%" PRIu64 " block groups: more than is read here",
			       groups);
	if (load_le32(sb + 96) & EXT3_FEATURE_INCOMPAT_JOURNAL_DEV)
		return err_set(e, -ENOTSUP, "an external journal, not a file system");
	return 0;
}

static int ext4_open_fs(struct ext4 *x, int flags, struct err *e)
{
	uint8_t sb[SB_LEN];
	char name[32];
	errcode_t err;
	int r = ext4_dev_read(&x->dev, SB_OFF, sb, sizeof(sb));

	if (r)
		return err_set(e, r, "superblock: %s", strerror(-r));
	r = ext4_check_super(sb, x->dev.src->size, e);
	if (r)
		return r;
	ext4_dev_name(&x->dev, name);
	err = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS | flags, 0, 0, &ext4_io_manager, &x->fs);
	if (err) {
		x->fs = NULL;
		return err_set(e, ext4_errno(err), "%s",
			       err == EXT2_ET_UNSUPP_FEATURE ? "unknown feature in its superblock"
							     : "superblock or groups are damaged");
	}
	return 0;
}

static void ext4_close_fs(struct ext4 *x)
{
	if (x->fs)
		ext2fs_free(x->fs);
	x->fs = NULL;
}

/* The file system is open as the disk has it: replay its journal and open it again. */
static int ext4_recover(struct gfs_fs *gfs, struct ext4 *x, struct err *e)
{
	int r;

	if (!ext2fs_has_feature_journal_needs_recovery(x->fs->super))
		return 0;
	if (!x->fs->super->s_journal_inum)
		return err_set(e, -ENOTSUP, "its journal is dirty and lies on another device");
	x->dev.block_size = x->fs->blocksize;
	r = jbd2_replay(x->fs, &x->dev, gfs->note, sizeof(gfs->note), e);
	ext4_close_fs(x);
	if (r)
		return r;
	ext4_dev_forget(&x->dev);
	return ext4_open_fs(x, 0, e);
}

static int ext4_open(struct gfs_fs *gfs, struct err *e)
{
	struct ext4 *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	r = ext4_dev_init(&x->dev, &gfs->src);
	if (r)
		err_set(e, r, "out of memory");
	/* A block caught in mid-write is what the journal is there to mend: no checksums yet. */
	if (!r)
		r = ext4_open_fs(x, EXT2_FLAG_IGNORE_CSUM_ERRORS, e);
	if (!r)
		r = ext4_recover(gfs, x, e);
	if (r) {
		ext4_close_fs(x);
		ext4_dev_fini(&x->dev);
		free(x);
		return r;
	}
	gfs->priv = x;
	gfs->root = EXT2_ROOT_INO;
	return 0;
}

static void ext4_close(struct gfs_fs *gfs)
{
	struct ext4 *x = gfs->priv;

	ext4_close_fs(x);
	ext4_dev_fini(&x->dev);
	free(x);
}

/* ---- operations -------------------------------------------------------------------------- */

static enum gfs_kind ext4_kind(uint16_t mode)
{
	if (LINUX_S_ISREG(mode))
		return GFS_FILE;
	if (LINUX_S_ISDIR(mode))
		return GFS_DIR;
	return LINUX_S_ISLNK(mode) ? GFS_SYMLINK : GFS_SPECIAL;
}

static int ext4_stat(struct gfs_fs *gfs, uint64_t node, struct gfs_stat *st)
{
	struct ext4 *x = gfs->priv;
	struct ext2_inode in;
	int r;

	if (!node || node > x->fs->super->s_inodes_count)
		return -EUCLEAN;
	r = ext4_errno(ext2fs_read_inode(x->fs, (ext2_ino_t)node, &in));
	if (r)
		return r;
	*st = (struct gfs_stat){ .kind = ext4_kind(in.i_mode),
				 .mode = in.i_mode & 07777,
				 .uid = inode_uid(in),
				 .gid = inode_gid(in),
				 .size = EXT2_I_SIZE(&in),
				 .mtime = in.i_mtime };
	return 0;
}

static int ext4_readlink(struct gfs_fs *gfs, uint64_t node, char buf[GFS_PATH_MAX])
{
	struct ext4 *x = gfs->priv;
	struct ext4_file *f;
	uint64_t size;
	int r = ext4_ino_open(x->fs, &x->dev, (ext2_ino_t)node, &f);

	if (r)
		return r;
	size = ext4_ino_size(f);
	if (!size || size >= GFS_PATH_MAX) {
		r = -EUCLEAN;
	} else if (ext2fs_is_fast_symlink(&f->inode) && size < sizeof(f->inode.i_block)) {
		memcpy(buf, f->inode.i_block, size);
	} else {
		r = ext4_ino_read(f, 0, (uint8_t *)buf, size);
	}
	buf[r ? 0 : size] = 0;
	ext4_ino_close(f);
	return r;
}

struct dir_walk {
	gfs_dirent_fn fn;
	void *ctx;
	const char *want; /* lookup: the name; *@found its inode */
	uint64_t found;
	unsigned seen;
};

static int dir_entry(struct dir_walk *w, uint32_t ino, const uint8_t *name, size_t len,
		     uint8_t type)
{
	char text[GFS_NAME_MAX + 1];
	enum gfs_kind kind = type == EXT2_FT_REG_FILE  ? GFS_FILE
			     : type == EXT2_FT_DIR     ? GFS_DIR
			     : type == EXT2_FT_SYMLINK ? GFS_SYMLINK
						       : GFS_SPECIAL;

	if (w->want) {
		if (len == strlen(w->want) && !memcmp(name, w->want, len))
			w->found = ino;
		return w->found ? 1 : 0;
	}
	if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
		return 0;
	memcpy(text, name, len);
	text[len] = 0;
	if (strlen(text) != len || strchr(text, '/'))
		return 0; /* no name that a path could have */
	if (++w->seen > GFS_DIRENTS_MAX)
		return -E2BIG;
	return w->fn(w->ctx, text, kind);
}

/* The entries in one directory block (or inline piece); hash nodes look like empty ones. */
static int dir_block(struct dir_walk *w, const uint8_t *b, size_t n)
{
	for (size_t off = 0; off + 8 <= n;) {
		uint32_t ino = load_le32(b + off), rec = load_le16(b + off + 4);
		size_t len = b[off + 6];
		int r;

		if (rec == 65535 || (rec == 0 && n == 65536))
			rec = 65536; /* the whole of a 64 KiB block */
		if (rec < 8 || rec % 4 || rec > n - off)
			return -EUCLEAN;
		if (ino && len && 8 + len <= rec) {
			r = dir_entry(w, ino, b + off + 8, len, b[off + 7]);
			if (r)
				return r;
		}
		off += rec;
	}
	return 0;
}

static int dir_inline(struct dir_walk *w, struct ext4_file *f)
{
	size_t first = MIN(f->inline_len, (size_t)EXT4_MIN_INLINE_DATA_SIZE);
	int r = 0;

	if (first > 4) /* the parent's inode number stands in front */
		r = dir_block(w, f->inline_data + 4, first - 4);
	if (!r && f->inline_len > first)
		r = dir_block(w, f->inline_data + first, f->inline_len - first);
	return r;
}

static int ext4_walk_dir(struct gfs_fs *gfs, uint64_t dir, struct dir_walk *w)
{
	struct ext4 *x = gfs->priv;
	uint32_t bs = x->fs->blocksize;
	CLEANUP_FREE uint8_t *b = malloc(bs);
	struct ext4_file *f;
	uint64_t size;
	int r;

	if (!b)
		return -ENOMEM;
	r = ext4_ino_open(x->fs, &x->dev, (ext2_ino_t)dir, &f);
	if (r)
		return r;
	size = ext4_ino_size(f);
	if (f->inline_data)
		r = dir_inline(w, f);
	else if (size > DIR_BYTES_MAX || size % bs)
		r = -EUCLEAN;
	for (uint64_t off = 0; !f->inline_data && !r && off < size; off += bs) {
		r = ext4_ino_read(f, off, b, bs);
		if (!r && f->run_pblk) /* a hole in a directory has no entries */
			r = dir_block(w, b, bs);
	}
	ext4_ino_close(f);
	return r;
}

static int ext4_lookup(struct gfs_fs *gfs, uint64_t dir, const char *name, uint64_t *node)
{
	struct dir_walk w = { .want = name };
	int r = ext4_walk_dir(gfs, dir, &w);

	if (r < 0)
		return r;
	*node = w.found;
	return w.found ? 0 : -ENOENT;
}

static int ext4_readdir(struct gfs_fs *gfs, uint64_t dir, gfs_dirent_fn fn, void *ctx)
{
	struct dir_walk w = { .fn = fn, .ctx = ctx };

	return ext4_walk_dir(gfs, dir, &w);
}

static int ext4_file_open(struct gfs_fs *gfs, uint64_t node, void **h)
{
	struct ext4 *x = gfs->priv;

	return ext4_ino_open(x->fs, &x->dev, (ext2_ino_t)node, (struct ext4_file **)h);
}

static int ext4_file_read(struct gfs_fs *gfs, void *h, uint64_t off, void *buf, size_t len)
{
	return ext4_ino_read(h, off, buf, len);
}

static void ext4_file_close(struct gfs_fs *gfs, void *h)
{
	ext4_ino_close(h);
}

int gfs_ext4_raw_read(struct gfs_fs *gfs, uint64_t off, void *buf, size_t len)
{
	struct ext4 *x = gfs->priv;

	return ext4_dev_read(&x->dev, off, buf, len);
}

const struct gfs_ops gfs_ext4_ops = {
	.open = ext4_open,
	.close = ext4_close,
	.stat = ext4_stat,
	.lookup = ext4_lookup,
	.readlink = ext4_readlink,
	.readdir = ext4_readdir,
	.file_open = ext4_file_open,
	.file_read = ext4_file_read,
	.file_close = ext4_file_close,
};
