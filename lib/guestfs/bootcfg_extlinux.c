/* SPDX-License-Identifier: MIT */
/*
 * extlinux.conf and syslinux.cfg: LABEL blocks with KERNEL or LINUX, APPEND, INITRD and
 * FDT lines; DEFAULT (or ONTIMEOUT) and MENU DEFAULT; INCLUDE, bounded.
 *
 * Paths without a leading slash count from the configuration file's directory.
 */
#include "boot_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

#define INCLUDE_DEPTH_MAX 4
#define INCLUDES_MAX 32
#define LABELS_MAX 128

struct ext_label {
	struct boot_entry be;
	char *kernel, *append, *initrds; /* as written */
	bool append_none;
};

struct extlinux {
	struct gfs_fs *fs;
	const char *config; /* path of the first file */
	struct ext_label *label;
	size_t n;
	char *def, *ontimeout, *append; /* global */
	int menu_default;		/* index, or -1 */
	unsigned includes;
};

static void set_text(char **dst, const char *s)
{
	free(*dst);
	*dst = strdup(s);
}

/* Absolute, as seen from the configuration file's directory. */
static char *ext_path(const struct extlinux *x, const char *name)
{
	struct text t = { 0 };

	if (name[0] != '/') {
		text_add(&t, x->config, (size_t)(strrchr(x->config, '/') - x->config));
		text_addc(&t, '/');
	}
	text_adds(&t, name);
	return text_take(&t);
}

static struct ext_label *label_new(struct extlinux *x, const char *name)
{
	struct ext_label *l;

	if (x->n == LABELS_MAX)
		return NULL;
	l = &x->label[x->n++];
	*l = (struct ext_label){ .be = { .source = "extlinux", .fs = x->fs } };
	l->be.id = strdup(name);
	l->be.config = strdup(x->config);
	return l;
}

/* "MENU LABEL text": the caret marks a hot key. */
static void menu_line(struct extlinux *x, struct ext_label *l, char *value)
{
	const char *key = word_next(&value);
	struct text t = { 0 };

	if (!key || !l)
		return;
	if (!strcasecmp(key, "default"))
		x->menu_default = (int)(x->n - 1);
	if (strcasecmp(key, "label"))
		return;
	for (value += strspn(value, " \t"); *value; value++)
		if (*value != '^')
			text_addc(&t, *value);
	free(l->be.title);
	l->be.title = text_take(&t);
}

static void label_line(struct ext_label *l, const char *key, char *value)
{
	if (!strcasecmp(key, "kernel") || !strcasecmp(key, "linux")) {
		set_text(&l->kernel, value);
	} else if (!strcasecmp(key, "initrd")) {
		set_text(&l->initrds, value);
	} else if (!strcasecmp(key, "append")) {
		l->append_none = !strcmp(value, "-");
		set_text(&l->append, l->append_none ? "" : value);
	}
}

static int read_config(struct extlinux *x, const char *path, unsigned depth);

static void config_line(struct extlinux *x, char *line, unsigned depth)
{
	struct ext_label *l = x->n ? &x->label[x->n - 1] : NULL;
	char *value = line;
	const char *key = word_next(&value);

	if (!key || key[0] == '#')
		return;
	value += strspn(value, " \t");
	if (!strcasecmp(key, "label")) {
		label_new(x, value);
	} else if (!strcasecmp(key, "default")) {
		set_text(&x->def, value);
	} else if (!strcasecmp(key, "ontimeout")) {
		set_text(&x->ontimeout, value);
	} else if (!strcasecmp(key, "include")) {
		CLEANUP_FREE char *path = ext_path(x, value);

		if (path)
			read_config(x, path, depth + 1);
	} else if (!strcasecmp(key, "menu") && value[0]) {
		menu_line(x, l, value);
	} else if (l) {
		label_line(l, key, value);
	} else if (!strcasecmp(key, "append")) {
		set_text(&x->append, value);
	}
}

static int read_config(struct extlinux *x, const char *path, unsigned depth)
{
	CLEANUP_FREE char *text = NULL;
	char *p, *line;
	int r;

	if (depth > INCLUDE_DEPTH_MAX || x->includes++ > INCLUDES_MAX)
		return 0;
	r = boot_read_text(x->fs, path, &text);
	if (r)
		return r;
	for (p = text; (line = line_next(&p));)
		config_line(x, line, depth);
	return 0;
}

/* ---- into the list
 * -------------------------------------------------------------------------------- */

static void add_initrds(const struct extlinux *x, struct boot_entry *be, const char *list)
{
	while (*list) {
		size_t n = strcspn(list, ", \t");
		CLEANUP_FREE char *name = strndup(list, n);
		CLEANUP_FREE char *path = name && n ? ext_path(x, name) : NULL;

		if (n && (!path || boot_add_initrd(be, x->fs, path)))
			boot_problem(be, "more than %d initrds", BOOT_INITRDS_MAX);
		list += n;
		list += strspn(list, ", \t");
	}
}

/* APPEND may carry initrd=, which is for the loader and not for the kernel. */
static void take_append(const struct extlinux *x, struct ext_label *l, char *words)
{
	struct text t = { 0 };
	char *word;

	while ((word = word_next(&words))) {
		if (strncmp(word, "initrd=", 7))
			text_word(&t, word);
		else if (!l->initrds)
			add_initrds(x, &l->be, word + 7);
	}
	if (t.failed)
		boot_problem(&l->be, "its command line is too long");
	l->be.cmdline = text_take(&t);
}

static int label_add(struct extlinux *x, struct ext_label *l, struct boot_list *list)
{
	CLEANUP_FREE char *append = strdup(l->append	    ? l->append
					   : l->append_none ? ""
					   : x->append	    ? x->append
							    : "");
	char *kernel = l->kernel, *word = kernel ? word_next(&kernel) : NULL;

	if (!append)
		return -ENOMEM;
	if (!word || strstr(word, ".c32") || strstr(word, ".bin") || strstr(word, ".com"))
		return 0; /* a menu module or another loader */
	l->be.kernel.path = ext_path(x, word);
	if (l->initrds)
		add_initrds(x, &l->be, l->initrds);
	take_append(x, l, append);
	if (!l->be.title && l->be.id)
		l->be.title = strdup(l->be.id);
	return boot_add(list, &l->be);
}

static void label_fini(struct ext_label *l)
{
	boot_entry_fini(&l->be);
	free(l->kernel);
	free(l->append);
	free(l->initrds);
}

static void choose_default(struct extlinux *x, struct boot_list *l, size_t first,
			   const char *menu_id)
{
	const char *want = x->ontimeout ? x->ontimeout : menu_id ? menu_id : x->def;

	for (size_t i = first; want && i < l->n; i++)
		if (!l->entry[i].problem && !strcasecmp(l->entry[i].id, want))
			boot_set_default(l, i, "%s of extlinux's configuration is '%s'",
					 x->ontimeout ? "ONTIMEOUT"
					 : menu_id    ? "MENU DEFAULT"
						      : "DEFAULT",
					 want);
	for (size_t i = first; i < l->n; i++)
		if (!l->entry[i].problem)
			boot_set_default(l, i, "first usable label of extlinux's configuration");
}

static int extlinux_read(struct boot_scan *s, struct gfs_fs *fs, const char *path)
{
	struct extlinux x = { .fs = fs, .config = path, .menu_default = -1 };
	CLEANUP_FREE char *menu_id = NULL;
	size_t first = s->list->n;
	int r;

	x.label = calloc(LABELS_MAX, sizeof(*x.label));
	if (!x.label)
		return -ENOMEM;
	r = read_config(&x, path, 0);
	if (x.menu_default >= 0 && x.label[x.menu_default].be.id)
		menu_id = strdup(x.label[x.menu_default].be.id);
	for (size_t i = 0; !r && i < x.n; i++)
		r = label_add(&x, &x.label[i], s->list);
	if (!r)
		choose_default(&x, s->list, first, menu_id);
	for (size_t i = 0; i < x.n; i++)
		label_fini(&x.label[i]);
	free(x.label);
	free(x.def);
	free(x.ontimeout);
	free(x.append);
	return r == -ENOMEM ? r : 0;
}

int bootcfg_extlinux(struct boot_scan *s, struct gfs_fs *fs)
{
	static const char *const paths[] = {
		"/boot/extlinux.conf",		"/extlinux.conf",
		"/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf",
		"/boot/syslinux/extlinux.conf", "/boot/syslinux/syslinux.cfg",
		"/syslinux/extlinux.conf",	"/syslinux/syslinux.cfg",
		"/boot/syslinux.cfg",		"/syslinux.cfg",
	};
	size_t first = s->list->n;
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_SIZE(paths) && s->list->n == first; i++)
		if (boot_is_file(fs, paths[i]))
			r = extlinux_read(s, fs, paths[i]);
	return r;
}
