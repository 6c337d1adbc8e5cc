/* SPDX-License-Identifier: MIT */
/*
 * gfs_priv.h - what the files of lib/guestfs share.
 *
 * Layers inside, each using only those below it:
 *   boot.c, bootcfg_*.c   boot entries over files
 *   path.c                paths, symbolic links, open files
 *   ext4.c fat.c xfs.c    one struct gfs_ops each: nodes (64-bit numbers) to bytes
 *   gfs.c probe.c         which file system lies where
 *   parts.c lvm.c         windows of bytes out of disks
 */
#ifndef HV_GFS_PRIV_H
#define HV_GFS_PRIV_H

#include "hv/guestfs.h"

/* ---- windows ------------------------------------------------------------------------- */

/** gfs_src_read - @src's bytes with the range checked; -EINVAL past the end. */
int gfs_src_read(const struct gfs_source *src, uint64_t off, void *buf, size_t len);

/* ---- partitions ---------------------------------------------------------------------- */

#define GFS_PARTS_MAX 1024 /* of one disk; GPT tables beyond are refused */
#define GFS_UUID_TEXT 48   /* room for any identifier's text form */
#define GFS_LABEL_TEXT 160 /* 36 UTF-16 units of GPT as UTF-8 */

struct gfs_part {
	uint64_t off, len; /* bytes, within the disk */
	unsigned number;
	bool esp;
	char uuid[GFS_UUID_TEXT];
	char label[GFS_LABEL_TEXT];
};

/**
 * parts_scan - the partition table of a disk
 *
 * GPT (primary, else backup), else MBR with logical partitions.
 *
 * Return: 0 with *@out malloc'd (caller frees), *@n 0 if there is no table;
 * -errno for read errors and lack of memory only.
 */
int parts_scan(const struct gfs_source *disk, struct gfs_part **out, size_t *n);

/** gfs_guid_text - a GUID as GPT stores it, in its text form, lower case. */
void gfs_guid_text(const uint8_t *guid, char out[GFS_UUID_TEXT]);
/** gfs_uuid_text - 16 bytes in order, in text form, lower case. */
void gfs_uuid_text(const uint8_t *uuid, char out[GFS_UUID_TEXT]);
/** gfs_utf16_text - @n little-endian units (up to a 0) as UTF-8; always terminated, cut to fit. */
size_t gfs_utf16_text(const uint8_t *units, size_t n, char *out, size_t size);

/* ---- LVM ------------------------------------------------------------------------------ */

struct lvm;
/** lvm_new/lvm_free - a collector of physical volumes. NULL without memory. */
struct lvm *lvm_new(void);
void lvm_free(struct lvm *l);
/** lvm_add_pv - take in a window that probed as LVM2; @pv is copied. Broken metadata is noted. */
int lvm_add_pv(struct lvm *l, const struct gfs_source *pv, unsigned disk);
/** lvm_activate - once all are in: make the volumes whose every segment can be read. */
int lvm_activate(struct lvm *l);
/** lvm_count/lvm_get - the volumes; @name is "vg/lv"; valid until lvm_free(). */
size_t lvm_count(const struct lvm *l);
void lvm_get(struct lvm *l, size_t i, const char **name, struct gfs_source *src, unsigned *disk);
/** lvm_problem - a line on what could not be used, or "". */
const char *lvm_problem(const struct lvm *l);

/* ---- file systems ---------------------------------------------------------------------- */

struct gfs_probe {
	enum gfs_type type;
	bool lvm; /* an LVM2 physical volume */
	const char *type_name;
	char uuid[GFS_UUID_TEXT];
	char label[GFS_LABEL_TEXT];
};
/** gfs_probe - recognise what a window holds by its magic numbers; never fails. */
void gfs_probe(const struct gfs_source *src, struct gfs_probe *p);

/*
 * One kind of file system. A node is a file's number in it (inode, FAT: place of the
 * directory entry). Errors are negative errno; the caller puts the path in front.
 */
struct gfs_ops {
	int (*open)(struct gfs_fs *fs, struct err *e); /* sets fs->priv, fs->root, perhaps note */
	void (*close)(struct gfs_fs *fs);
	int (*stat)(struct gfs_fs *fs, uint64_t node, struct gfs_stat *st);
	/* The entry @name of a directory; -ENOENT. */
	int (*lookup)(struct gfs_fs *fs, uint64_t dir, const char *name, uint64_t *node);
	int (*readlink)(struct gfs_fs *fs, uint64_t node, char buf[GFS_PATH_MAX]);
	int (*readdir)(struct gfs_fs *fs, uint64_t dir, gfs_dirent_fn fn, void *ctx);
	/* A regular file's bytes; *@h is the driver's and is given back by file_close. */
	int (*file_open)(struct gfs_fs *fs, uint64_t node, void **h);
	int (*file_read)(struct gfs_fs *fs, void *h, uint64_t off, void *buf, size_t len);
	void (*file_close)(struct gfs_fs *fs, void *h);
};
extern const struct gfs_ops gfs_ext4_ops, gfs_fat_ops, gfs_xfs_ops;

/** gfs_ext4_raw_read - an opened ext4's bytes as its replayed journal has them (tests). */
int gfs_ext4_raw_read(struct gfs_fs *fs, uint64_t off, void *buf, size_t len);

#define GFS_NOTE_MAX 160
struct gfs_fs {
	struct gfs *gfs;
	struct gfs_fs_info info; /* points into the arrays below */
	struct gfs_source src;
	const struct gfs_ops *ops; /* NULL: cannot be read */
	void *priv;
	uint64_t root;
	bool opened;
	int open_error; /* a failed open is not tried again */
	char where[160], uuid[GFS_UUID_TEXT], label[GFS_LABEL_TEXT];
	char part_uuid[GFS_UUID_TEXT], part_label[GFS_LABEL_TEXT];
	char note[GFS_NOTE_MAX], problem[ERR_MSG_MAX];
};

/** gfs_use - open @fs if that was not done yet. */
int gfs_use(struct gfs_fs *fs, struct err *e);
/** gfs_lvm_problem - what LVM could not activate, or "". */
const char *gfs_lvm_problem(const struct gfs *g);

/** gfs_lookup - node of a path; @follow_last: a final symbolic link is followed too. */
int gfs_lookup(struct gfs_fs *fs, const char *path, bool follow_last, uint64_t *node,
	       struct gfs_stat *st, struct err *e);

#endif
