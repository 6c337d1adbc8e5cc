/* SPDX-License-Identifier: MIT */
/*
 * guestfs.h - read what is inside a guest's disks: partitions, LVM, file systems, boot entries.
 *
 * Nothing is mounted, no root is needed, nothing is ever written. All that is read is
 * hostile: every size is bounded before it is used, symbolic links are resolved inside
 * the image's root alone. One thread at a time per struct gfs and all that hangs on it.
 */
#ifndef HV_GUESTFS_H
#define HV_GUESTFS_H

#include <stdio.h>

#include "hv/base.h"
#include "hv/err.h"

struct blk;
struct json_t;
struct gfs;
struct gfs_fs;
struct gfs_file;

#define GFS_NAME_MAX 255	/* bytes of one name; FAT's long names are turned to UTF-8 */
#define GFS_PATH_MAX 4096	/* bytes of a path, the NUL included */
#define GFS_SYMLINKS_MAX 40	/* followed in one look-up */

/* ---- disks and file systems -------------------------------------------------------- */

/* Any run of bytes that can hold partitions: tests and fuzzers read from memory. */
struct gfs_source {
	/* Read exactly @len bytes at @off; 0 or -errno. Within @size only. */
	int (*read)(void *ctx, uint64_t off, void *buf, size_t len);
	void *ctx;
	uint64_t size;	/* bytes */
};

enum gfs_type {
	GFS_UNKNOWN,	/* nothing recognised; includes blank space */
	GFS_EXT,	/* ext2, ext3, ext4 */
	GFS_FAT,
	GFS_XFS,
	GFS_FOREIGN,	/* recognised by name only: btrfs, LUKS, ZFS, NTFS, swap … */
};

/* What is known of one file system; strings are never NULL and live as long as the gfs. */
struct gfs_fs_info {
	enum gfs_type type;
	const char *type_name;	/* "ext4", "vfat", "xfs", "btrfs", "LUKS", … */
	const char *where;	/* "partition 2", "volume vg0/root", "whole disk", "disk 2 partition 1" */
	const char *uuid;	/* as blkid prints it, or "" */
	const char *label;	/* or "" */
	const char *part_uuid;	/* GPT: unique GUID; MBR: "1a2b3c4d-01"; or "" */
	const char *part_label;	/* GPT: partition name; or "" */
	unsigned disk;		/* index into gfs_open()'s array (LVM: the first PV's) */
	unsigned partition;	/* from 1 as Linux numbers them; 0: whole disk or LVM */
	bool esp;		/* EFI system partition by its type code */
	uint64_t size;		/* bytes of the partition or volume */
	const char *note;	/* "journal replayed: 12 blocks", "dirty log ignored", or "" */
	const char *problem;	/* why it cannot be read although of a known type, or "" */
};

/**
 * gfs_open - find the partitions, volumes and file systems of some disks
 * @disks: borrowed until gfs_close(); LVM volumes may span them
 *
 * Reads tables and superblocks only; a file system is opened (and a dirty ext4
 * journal replayed in memory) with its first use.
 *
 * Return: 0 with *@out; -errno with a line in @e. A disk with nothing on it is
 * no error: gfs_fs_count() is 0 then.
 */
int gfs_open(struct blk **disks, size_t n, struct gfs **out, struct err *e);
/** gfs_open_sources - the same over any byte source; @src is copied, its ctx borrowed. */
int gfs_open_sources(const struct gfs_source *src, size_t n, struct gfs **out, struct err *e);
/** gfs_close - release everything, file systems included; NULL is allowed. */
void gfs_close(struct gfs *g);

/** gfs_fs_count/gfs_fs_get - the file systems, in the order of disks and partitions. */
size_t gfs_fs_count(const struct gfs *g);
struct gfs_fs *gfs_fs_get(struct gfs *g, size_t i);
/** gfs_fs_info - what it is; the pointer stays valid and its note is filled by the first use. */
const struct gfs_fs_info *gfs_fs_info(const struct gfs_fs *fs);

/* ---- files --------------------------------------------------------------------------- */

enum gfs_kind { GFS_FILE, GFS_DIR, GFS_SYMLINK, GFS_SPECIAL };
struct gfs_stat {
	enum gfs_kind kind;
	uint32_t mode;		/* permission bits; FAT: 0755 or 0644 */
	uint32_t uid, gid;
	uint64_t size;		/* bytes */
	uint64_t mtime;		/* seconds since 1970, UTC */
};

/** gfs_stat - follows symbolic links; -ENOENT, -ENOTDIR, -ELOOP, -ENOTSUP, -EUCLEAN. */
int gfs_stat(struct gfs_fs *fs, const char *path, struct gfs_stat *st, struct err *e);
/** gfs_lstat - like gfs_stat(), but describes a final symbolic link itself. */
int gfs_lstat(struct gfs_fs *fs, const char *path, struct gfs_stat *st, struct err *e);
/** gfs_readlink - target of a symbolic link, NUL-terminated, into @buf. */
int gfs_readlink(struct gfs_fs *fs, const char *path, char buf[GFS_PATH_MAX], struct err *e);

/**
 * gfs_read_file - a whole small file
 * @max: bytes; a larger file is -EFBIG
 *
 * Return: 0 with *@buf malloc'd (caller frees), a NUL behind its *@len bytes.
 */
int gfs_read_file(struct gfs_fs *fs, const char *path, size_t max, uint8_t **buf, size_t *len,
		  struct err *e);

/** gfs_file_open - a regular file for reading in pieces; close before gfs_close(). */
int gfs_file_open(struct gfs_fs *fs, const char *path, struct gfs_file **out, struct err *e);
/** gfs_file_size - bytes; for a slice (unified kernel image) those of the slice. */
uint64_t gfs_file_size(const struct gfs_file *f);
/** gfs_file_pread - exactly @len bytes at @off; -EINVAL past the end, -EIO, -EUCLEAN. */
int gfs_file_pread(struct gfs_file *f, uint64_t off, void *buf, size_t len);
void gfs_file_close(struct gfs_file *f);

/* Called once a name, "." and ".." left out; non-zero ends the walk and is returned. */
typedef int (*gfs_dirent_fn)(void *ctx, const char *name, enum gfs_kind kind);
/** gfs_readdir - names in directory order; at most GFS_DIRENTS_MAX, then -E2BIG. */
#define GFS_DIRENTS_MAX 1000000
int gfs_readdir(struct gfs_fs *fs, const char *path, gfs_dirent_fn fn, void *ctx, struct err *e);

/* ---- boot entries -------------------------------------------------------------------- */

/* A file, or a piece of one: unified kernel images hold kernel and initrd as sections. */
struct boot_file {
	struct gfs_fs *fs;
	char *path;
	uint64_t off, len;	/* bytes; len 0: the whole file from off 0 */
};

struct boot_entry {
	char *title;
	char *id;		/* GRUB's --id, the BLS file's name, extlinux's label … */
	const char *source;	/* "grub.cfg", "BLS", "extlinux", "systemd-boot", "UKI", "newest kernel" */
	struct gfs_fs *fs;	/* where the configuration lies */
	char *config;		/* path of the configuration file there, or "" */
	struct boot_file kernel;
	struct boot_file *initrd;
	size_t n_initrd;	/* loaded one behind the other, in this order */
	char *cmdline;
	char *problem;		/* NULL: usable; else why not ("/vmlinuz-6.1: no such file") */
};

struct boot_list {
	struct boot_entry *entry;
	size_t n;
	size_t default_index;	/* of an entry without problem */
	char *why;		/* why that one is the default */
};

#define BOOT_ENTRIES_MAX 256
#define BOOT_INITRDS_MAX 16
#define BOOT_CMDLINE_MAX 4096	/* bytes with NUL; longer ones are refused, as Linux would cut them */

/**
 * gfs_boot_entries - what the boot loader on the disks would offer
 *
 * Return: 0 with at least one usable entry in @out (release by boot_list_free());
 * -ENOENT if there is none, with a line in @e that names what could not be read
 * ("partition 2 is btrfs, which vmm cannot read") and the way out (--kernel).
 */
int gfs_boot_entries(struct gfs *g, struct boot_list *out, struct err *e);
/** boot_list_free - release; safe on a zeroed list, idempotent. */
void boot_list_free(struct boot_list *l);

/**
 * boot_list_choose - the entry that --boot-entry names
 * @which: NULL for the default; a number from 1 as boot_list_print() shows it; else a
 *         title or id, compared whole first and then as a unique part of the title
 *
 * Return: 0 with *@index; -ENOENT or -ENOTUNIQ with a line in @e.
 */
int boot_list_choose(const struct boot_list *l, const char *which, size_t *index, struct err *e);

/** boot_file_open - the kernel or an initrd of an entry; sizes and offsets are the slice's. */
int boot_file_open(const struct boot_file *bf, struct gfs_file **out, struct err *e);

/**
 * boot_cmdline_serial - the command line with a serial console on it
 *
 * Adds "console=ttyS0" as the last kernel argument (before a "--") unless some
 * console=ttyS… or console=uart… is there already.
 *
 * Return: a malloc'd string, NULL without memory; *@added (may be NULL) tells.
 */
char *boot_cmdline_serial(const char *cmdline, bool *added);

/** boot_list_print - the table of `vmm boot-entries`; untrusted bytes are escaped. */
void boot_list_print(const struct boot_list *l, FILE *out);
/** boot_list_json - the same as a new jansson object (caller json_decref()s), NULL without memory. */
struct json_t *boot_list_json(const struct boot_list *l);

#endif
