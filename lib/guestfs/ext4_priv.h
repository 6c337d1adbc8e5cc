/* SPDX-License-Identifier: MIT */
/* ext4_priv.h - ext4.c, its io_manager (ext4_io.c) and the journal (jbd2.c). */
#ifndef HV_EXT4_PRIV_H
#define HV_EXT4_PRIV_H

#include <ext2fs/ext2fs.h>

#include "gfs_priv.h"

/* One file system block whose newest contents lie in the journal. */
struct ext4_patch {
	uint64_t block;		/* file system block */
	uint64_t journal_block; /* where its contents are, also a file system block */
	uint32_t order;		/* jbd2.c: of writing */
	bool escaped;		/* the first four bytes were the journal's magic */
};

/*
 * What libext2fs reads from: the window, with the journal's blocks laid over it.
 * Patches are sorted by block, one each, before the overlay is used.
 */
struct ext4_dev {
	const struct gfs_source *src;
	uint32_t block_size; /* of the patches; set before there are any */
	struct ext4_patch *patch;
	size_t n_patch;
	struct ext4_cache *cache;
};

/** ext4_dev_init/ext4_dev_fini - caller's storage; -ENOMEM. */
int ext4_dev_init(struct ext4_dev *d, const struct gfs_source *src);
void ext4_dev_fini(struct ext4_dev *d);
/** ext4_dev_read - bytes with the overlay applied; -EINVAL past the end. */
int ext4_dev_read(struct ext4_dev *d, uint64_t off, void *buf, size_t len);
/** ext4_dev_forget - drop what was read before there were patches. */
void ext4_dev_forget(struct ext4_dev *d);
/** ext4_dev_name - what to pass to ext2fs_open2() as the name, so that it opens @d. */
void ext4_dev_name(const struct ext4_dev *d, char name[32]);
extern struct struct_io_manager ext4_io_manager;

struct ext4_file;
/** ext4_ino_open/close/size - an inode's data; also for the journal's. */
int ext4_ino_open(ext2_filsys fs, struct ext4_dev *d, ext2_ino_t ino, struct ext4_file **out);
void ext4_ino_close(struct ext4_file *f);
uint64_t ext4_ino_size(const struct ext4_file *f);
/** ext4_file_map - where block @lblk of a file lies (*@pblk 0: a hole) and for how many blocks. */
int ext4_file_map(struct ext4_file *f, uint64_t lblk, uint64_t *pblk, uint64_t *run);

/**
 * jbd2_replay - read the journal of @fs (opened without it) and fill @d's patches
 *
 * Return: 0 with what was done in @note; -ENOTSUP (fast commits to replay, unknown
 * feature), -EUCLEAN, -ENOMEM with a line in @e.
 */
int jbd2_replay(ext2_filsys fs, struct ext4_dev *d, char *note, size_t note_size, struct err *e);

#endif
