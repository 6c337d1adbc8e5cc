/* SPDX-License-Identifier: MIT */
/*
 * boot_priv.h - what boot.c and the readers of boot loader configurations share.
 *
 * Configuration files come out of the guest's disk: sizes, counts, nesting and steps are
 * bounded here, and a file that breaks a bound yields what was found up to there.
 */
#ifndef HV_BOOT_PRIV_H
#define HV_BOOT_PRIV_H

#include "gfs_priv.h"

#define BOOT_CONFIG_MAX MIB(1) /* bytes of one configuration file */
#define BOOT_FILE_MAX GIB(4)   /* bytes of a kernel or an initrd */

/* ---- bounded text ---------------------------------------------------------------------- */

/* A string that grows to BOOT_CMDLINE_MAX * 4 and then stops, remembering that it did. */
struct text {
	char *s; /* NULL while empty; else NUL-terminated */
	size_t len, cap;
	bool failed; /* too long, or no memory */
};
#define TEXT_MAX (4u * BOOT_CMDLINE_MAX)
void text_add(struct text *t, const char *s, size_t n);
void text_adds(struct text *t, const char *s);
void text_addc(struct text *t, char c);
/** text_word - add @s after a space, unless it is empty or the first. */
void text_word(struct text *t, const char *s);
/** text_take - the string, now the caller's (never NULL unless out of memory); resets @t. */
char *text_take(struct text *t);
void text_fini(struct text *t);

/** line_next - cut the next line off *@p (modified in place), trimmed; NULL at the end. */
char *line_next(char **p);
/** word_next - cut the next blank-separated word off *@p; NULL at the end. */
char *word_next(char **p);

/** boot_vercmp - compare as rpm compares versions: runs of digits by value, letters by code. */
int boot_vercmp(const char *a, const char *b);

/* ---- entries --------------------------------------------------------------------------- */

/** boot_entry_fini - release what an entry owns; it is zeroed. */
void boot_entry_fini(struct boot_entry *be);
/** boot_add - check the files of @be (boot_check()) and move it into @l; frees it when full. */
int boot_add(struct boot_list *l, struct boot_entry *be);
/** boot_add_initrd - one more initrd for @be; -E2BIG, -ENOMEM. */
int boot_add_initrd(struct boot_entry *be, struct gfs_fs *fs, const char *path);
/** boot_check - look whether kernel and initrds are there; else set @be->problem. */
void boot_check(struct boot_entry *be);
/** boot_problem - set @be->problem unless there is one. */
void boot_problem(struct boot_entry *be, const char *fmt, ...) HV_PRINTF(2, 3);
/** boot_set_default - make entry @i the default, unless a default was set, with the reason. */
void boot_set_default(struct boot_list *l, size_t i, const char *fmt, ...) HV_PRINTF(3, 4);
/** boot_read_text - a small text file whose NUL bytes are turned to spaces. */
int boot_read_text(struct gfs_fs *fs, const char *path, char **out);
bool boot_is_file(struct gfs_fs *fs, const char *path);

/* A sorted list of the names in a directory that end in a suffix. */
struct names {
	char **v;
	size_t n;
};
#define NAMES_MAX 1024
int names_read(struct gfs_fs *fs, const char *dir, const char *prefix, const char *suffix,
	       struct names *out);
void names_fini(struct names *n);
/** names_sort - by boot_vercmp(); @newest_first as it says. */
void names_sort(struct names *n, bool newest_first);

/* What a boot loader configuration is read into. */
struct boot_scan {
	struct gfs *g;
	struct boot_list *list;
};

/* Variables as GRUB knows them, for BLS entries: NULL if not set. */
typedef const char *(*boot_var_fn)(void *ctx, const char *name);

/*
 * Each looks on @fs for its kind of configuration and adds what it finds to the scan's
 * list, setting the default that its loader would take. 0 if there is none; -ENOMEM.
 */
int bootcfg_grub(struct boot_scan *s, struct gfs_fs *fs);
int bootcfg_bls(struct boot_scan *s, struct gfs_fs *fs);
int bootcfg_extlinux(struct boot_scan *s, struct gfs_fs *fs);
int bootcfg_systemd(struct boot_scan *s, struct gfs_fs *fs);
int bootcfg_uki(struct boot_scan *s, struct gfs_fs *fs);
int bootcfg_newest(struct boot_scan *s, struct gfs_fs *fs);

/**
 * bls_read_dir - the entries of a loader/entries directory, in the order shown
 * @base: "" or "/boot": where the paths in the entries are looked up if not at the root
 * @var:  expands $name in options and initrds; NULL: not expanded
 */
int bls_read_dir(struct gfs_fs *fs, const char *dir, const char *source, boot_var_fn var, void *ctx,
		 struct boot_entry **out, size_t *n);

#endif
