/* SPDX-License-Identifier: MIT */
/*
 * grub_priv.h - GRUB's script: the interpreter (grub_script.c), its commands (grub_cmds.c)
 * and the menu they build (bootcfg_grub.c).
 */
#ifndef HV_GRUB_PRIV_H
#define HV_GRUB_PRIV_H

#include "boot_priv.h"

#define GRUB_VARS_MAX 512
#define GRUB_FUNCS_MAX 64
#define GRUB_ITEMS_MAX 512
#define GRUB_ARGS_MAX 128
#define GRUB_DEPTH_MAX 24    /* nesting of lists, functions, files */
#define GRUB_STEPS_MAX 40000u /* statements looked at in one discovery */
#define GRUB_BODY_STEPS 1000u /* of those, at least this many for every entry */
#define GRUB_FILES_MAX 16
#define GRUB_VAR_NAME_MAX 64

struct grub_args {
	char *v[GRUB_ARGS_MAX];
	size_t n;
};

/* A piece of script; the text belongs to struct grub and lives as long. */
struct grub_range {
	const char *p, *end;
};

struct grub_var {
	char *name, *value;
};

struct grub_func {
	char *name;
	struct grub_range body;
};

enum grub_kind { GRUB_ENTRY, GRUB_SUBMENU, GRUB_BLS };
struct grub_item {
	enum grub_kind kind;
	char *title, *id;
	int parent; /* index of the submenu it lies in, or -1 */
	struct grub_range body;
	struct boot_entry bls; /* GRUB_BLS: read already */
	int list_index;	       /* where it went in the boot list, or -1 */
};

/* What linux and initrd said while an entry's body ran. */
struct grub_target {
	struct boot_entry *be;
	bool has_kernel;
};

struct grub {
	struct gfs *g;
	struct gfs_fs *fs; /* where grub.cfg lies */
	struct grub_var *var;
	size_t n_vars;
	struct grub_func func[GRUB_FUNCS_MAX];
	size_t n_funcs;
	struct grub_item *item;
	size_t n_items;
	char *file[GRUB_FILES_MAX]; /* texts of the files read */
	size_t n_files;
	int parent;		     /* submenu that is being run, or -1 */
	struct grub_target *target;  /* entry that is being run, or NULL */
	const struct grub_args *pos; /* $1 … of the function that is being run */
	unsigned depth, steps;
	int status;  /* of the last command; 0 is true */
	bool failed; /* syntax or a bound: stop, keep what was found */
	bool returning;
};

/** grub_run - interpret a piece of script. */
void grub_run(struct grub *g, struct grub_range r);
/** grub_run_file - read and interpret a file of the guest; -ENOENT… ; bounded in number. */
int grub_run_file(struct grub *g, struct gfs_fs *fs, const char *path);
/** grub_call - run one command, a function of the script included; sets g->status. */
void grub_call(struct grub *g, const struct grub_args *a);
/** grub_builtin - run a built-in command; false if there is none of that name. */
bool grub_builtin(struct grub *g, const struct grub_args *a);
/** grub_menuentry - the commands menuentry and submenu with their body. */
void grub_menuentry(struct grub *g, const struct grub_args *a, struct grub_range body);

const char *grub_get(const struct grub *g, const char *name);
void grub_set(struct grub *g, const char *name, const char *value);

/** grub_dev_name - how GRUB calls a file system's device: "hd0,gpt2", "lvm/vg-lv". */
void grub_dev_name(const struct gfs_fs *fs, char *out, size_t size);
/** grub_dev - the file system on a device; NULL if unknown. */
struct gfs_fs *grub_dev(struct grub *g, const char *name, size_t len);
/** grub_path - split "(device)/path" or "/path" (on $root); path NULL if there is none. */
struct gfs_fs *grub_path(struct grub *g, const char *arg, const char **path);

#endif
