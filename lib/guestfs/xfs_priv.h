/* SPDX-License-Identifier: MIT */
/* xfs_priv.h - xfs.c (superblock, inodes, files), xfs_map.c (extents), xfs_dir.c (directories). */
#ifndef HV_XFS_PRIV_H
#define HV_XFS_PRIV_H

#include "gfs_priv.h"

#define XFS_EXTENTS_MAX (1u << 20) /* of one file */

struct xfs {
	const struct gfs_source *src;
	bool v5, ftype;
	uint32_t block_size, dir_block_size;
	unsigned block_log, inode_log, inop_log, agblk_log;
	uint32_t ag_blocks, ag_count;
	uint64_t root;
};

enum xfs_format { XFS_LOCAL = 1, XFS_EXTENTS = 2, XFS_BTREE = 3 };
struct xfs_inode {
	uint8_t raw[2048];
	uint16_t mode;
	enum xfs_format format;
	uint64_t size, extents; /* bytes; records */
	const uint8_t *fork;	/* the data fork in raw */
	size_t fork_len;
	bool realtime;
};

/* Logical blocks [lblk, lblk + count) lie at file system block @fsblk. */
struct xfs_extent {
	uint64_t lblk, fsblk;
	uint32_t count;
	bool unwritten;
};
struct xfs_map {
	struct xfs_extent *ext; /* ascending, without overlap */
	size_t n, cap;
};

/** xfs_inode_read - inode @ino; -EUCLEAN. */
int xfs_inode_read(const struct xfs *x, uint64_t ino, struct xfs_inode *in);
/** xfs_stat_of - @in in general terms. */
void xfs_stat_of(const struct xfs_inode *in, struct gfs_stat *st);

/** xfs_block_off - byte offset of a file system block; -EUCLEAN if there is no such block. */
int xfs_block_off(const struct xfs *x, uint64_t fsblk, uint64_t *off);
/** xfs_map_load - all extents of a file with format EXTENTS or BTREE; xfs_map_fini() always. */
int xfs_map_load(const struct xfs *x, const struct xfs_inode *in, struct xfs_map *m);
void xfs_map_fini(struct xfs_map *m);
/** xfs_map_read - bytes by the map; holes and unwritten extents read as zeros. */
int xfs_map_read(const struct xfs *x, const struct xfs_map *m, uint64_t off, void *buf, size_t len);

/* One name of a directory: non-zero ends the walk. */
typedef int (*xfs_name_fn)(void *ctx, const uint8_t *name, size_t len, uint64_t ino, int ftype);
/** xfs_dir_walk - every name of directory @in, "." and ".." left out; ftype -1 if not recorded. */
int xfs_dir_walk(const struct xfs *x, const struct xfs_inode *in, xfs_name_fn fn, void *ctx);

#endif
