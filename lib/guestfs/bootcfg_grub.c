/* SPDX-License-Identifier: MIT */
/*
 * GRUB 2: from grub.cfg to boot entries.
 *
 * The file is run once, as GRUB would at start; that sets variables and collects menu
 * items. Then every item's body is run with those variables, a submenu's to get more
 * items and an entry's to see what it would load. The default is then looked up the way
 * GRUB does: by number, title or id, level by level along "submenu>entry".
 */
#include "grub_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

#define SUBMENU_DEPTH_MAX 4

static const char *const config_paths[] = {
	"/boot/grub/grub.cfg",
	"/grub/grub.cfg",
	"/boot/grub2/grub.cfg",
	"/grub2/grub.cfg",
};

/* ---- the menu ----------------------------------------------------------------------------------
 */

/* Options of menuentry that take a value. */
static bool takes_value(const char *opt)
{
	static const char *const with[] = { "--class", "--users", "--hotkey", "--id", "--source" };

	for (size_t i = 0; i < ARRAY_SIZE(with); i++)
		if (!strcmp(opt, with[i]))
			return true;
	return false;
}

void grub_menuentry(struct grub *g, const struct grub_args *a, struct grub_range body)
{
	struct grub_item *it;
	const char *title = NULL, *id = NULL;
	bool submenu = !strcmp(a->v[0], "submenu");

	if ((!submenu && strcmp(a->v[0], "menuentry")) || g->target || g->n_items == GRUB_ITEMS_MAX)
		return;
	for (size_t i = 1; i < a->n; i++) {
		if (!strcmp(a->v[i], "--id") && i + 1 < a->n)
			id = a->v[++i];
		else if (!strncmp(a->v[i], "--id=", 5))
			id = a->v[i] + 5;
		else if (takes_value(a->v[i]))
			i++;
		else if (strncmp(a->v[i], "--", 2) && !title)
			title = a->v[i];
	}
	it = &g->item[g->n_items++];
	*it = (struct grub_item){ .kind = submenu ? GRUB_SUBMENU : GRUB_ENTRY,
				  .title = strdup(title ? title : ""),
				  .id = strdup(id ? id : ""),
				  .parent = g->parent,
				  .body = body,
				  .list_index = -1 };
	if (!it->title || !it->id)
		g->failed = true;
}

/* "Advanced options>Debian, with Linux 6.1": the path that GRUB's default may use. */
static char *item_path(const struct grub *g, size_t i)
{
	struct text t = { 0 };

	if (g->item[i].parent >= 0) {
		char *up = item_path(g, (size_t)g->item[i].parent);

		text_adds(&t, up ? up : "");
		text_addc(&t, '>');
		free(up);
	}
	text_adds(&t, g->item[i].title);
	return text_take(&t);
}

/* ---- running bodies -----------------------------------------------------------------------------
 */

struct env_copy {
	struct grub_var *var;
	size_t n;
};

static void vars_free(struct grub_var *var, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(var[i].name);
		free(var[i].value);
	}
	free(var);
}

/* A body must not change what the next one sees: run it on a copy of the variables. */
static int env_push(struct grub *g, struct env_copy *saved)
{
	struct grub_var *copy = calloc(GRUB_VARS_MAX, sizeof(*copy));
	size_t n = 0;

	for (; copy && n < g->n_vars; n++) {
		copy[n].name = strdup(g->var[n].name);
		copy[n].value = strdup(g->var[n].value);
		if (!copy[n].name || !copy[n].value) {
			vars_free(copy, n + 1);
			return -ENOMEM;
		}
	}
	if (!copy)
		return -ENOMEM;
	*saved = (struct env_copy){ g->var, g->n_vars };
	g->var = copy;
	return 0;
}

static void env_pop(struct grub *g, struct env_copy *saved)
{
	vars_free(g->var, g->n_vars);
	g->var = saved->var;
	g->n_vars = saved->n;
}

static int run_body(struct grub *g, size_t i, struct grub_target *target)
{
	struct env_copy saved;
	int r = env_push(g, &saved);

	if (r)
		return r;
	g->target = target;
	g->parent = target ? -1 : (int)i;
	g->returning = false;
	g->depth = 0;
	/* A script that ran away at the top still leaves each body some steps. */
	g->steps = MIN(g->steps, GRUB_STEPS_MAX - GRUB_BODY_STEPS);
	grub_set(g, "chosen", g->item[i].title);
	grub_run(g, g->item[i].body);
	g->failed = false; /* a broken body is that entry's problem alone */
	g->target = NULL;
	g->parent = -1;
	env_pop(g, &saved);
	return 0;
}

static unsigned item_depth(const struct grub *g, size_t i)
{
	unsigned d = 0;

	for (int p = g->item[i].parent; p >= 0; p = g->item[p].parent)
		d++;
	return d;
}

/* Items grow while this runs: submenus add theirs at the end. */
static int run_submenus(struct grub *g)
{
	int r = 0;

	for (size_t i = 0; !r && i < g->n_items; i++)
		if (g->item[i].kind == GRUB_SUBMENU && item_depth(g, i) < SUBMENU_DEPTH_MAX)
			r = run_body(g, i, NULL);
	return r;
}

/* ---- into the list
 * -------------------------------------------------------------------------------- */

static int add_entry(struct grub *g, struct boot_list *l, size_t i, const char *config)
{
	struct boot_entry be = { .source = "grub.cfg", .fs = g->fs };
	struct grub_target target = { .be = &be };
	int r = run_body(g, i, &target);

	if (r || !target.has_kernel) { /* memtest, firmware setup, another system's loader */
		boot_entry_fini(&be);
		return r;
	}
	be.title = item_path(g, i);
	be.id = strdup(g->item[i].id);
	be.config = strdup(config);
	g->item[i].list_index = (int)l->n;
	return boot_add(l, &be);
}

static int add_items(struct grub *g, struct boot_list *l, int parent, const char *config)
{
	int r = 0;

	for (size_t i = 0; !r && i < g->n_items && l->n < BOOT_ENTRIES_MAX; i++) {
		struct grub_item *it = &g->item[i];

		if (it->parent != parent)
			continue;
		if (it->kind == GRUB_SUBMENU) {
			r = add_items(g, l, (int)i, config);
		} else if (it->kind == GRUB_BLS) {
			it->list_index = (int)l->n;
			r = boot_add(l, &it->bls);
		} else {
			r = add_entry(g, l, i, config);
		}
	}
	return r;
}

/* ---- the default
 * ------------------------------------------------------------------------------------ */

/* The item of menu @parent that @name (of @len bytes) means, or -1. */
static int find_item(const struct grub *g, int parent, const char *name, size_t len)
{
	char *end;
	unsigned long nth = strtoul(name, &end, 10), k = 0;
	bool number = len && isdigit((unsigned char)name[0]) && end == name + len;

	for (size_t i = 0; i < g->n_items; i++) {
		const struct grub_item *it = &g->item[i];

		if (it->parent != parent)
			continue;
		if (number ? k == nth
			   : (strlen(it->id) == len && !memcmp(it->id, name, len)) ||
				     (strlen(it->title) == len && !memcmp(it->title, name, len)))
			return (int)i;
		k++;
	}
	return -1;
}

/* Length of the first part of "a>b"; ">>" is a literal one. */
static size_t path_part(const char *s)
{
	size_t n = 0;

	while (s[n] && (s[n] != '>' || s[n + 1] == '>'))
		n += s[n] == '>' ? 2 : 1;
	return n;
}

static int find_default(const struct grub *g, const char *path)
{
	int at = -1;

	for (;;) {
		size_t len = path_part(path);

		at = find_item(g, at, path, len);
		if (at < 0 || !path[len])
			break;
		path += len + 1;
	}
	/* A submenu opens with its own first entry. */
	while (at >= 0 && g->item[at].kind == GRUB_SUBMENU)
		at = find_item(g, at, "0", 1);
	return at;
}

static void choose_default(struct grub *g, struct boot_list *l, size_t first)
{
	const char *def = grub_get(g, "default");
	int at = find_default(g, def && *def ? def : "0");
	bool found = at >= 0;

	if (!found)
		at = find_default(g, "0");
	if (at >= 0 && g->item[at].list_index >= 0 && (size_t)g->item[at].list_index < l->n) {
		const struct boot_entry *be = &l->entry[g->item[at].list_index];

		if (!be->problem) {
			boot_set_default(
				l, (size_t)g->item[at].list_index,
				found ? "grub.cfg's default is '%s'"
				      : "first entry: grub.cfg's default '%s' is not in its menu",
				def && *def ? def : "0");
			return;
		}
	}
	for (size_t i = first; i < l->n; i++) {
		if (l->entry[i].problem)
			continue;
		boot_set_default(
			l, i, "first usable entry: grub.cfg's default '%s' cannot be booted here",
			def && *def ? def : "0");
		return;
	}
}

/* ---- one grub.cfg
 * -------------------------------------------------------------------------------------- */

static void grub_init_vars(struct grub *g, const char *path)
{
	static const char *const yes[] = {
		"feature_menuentry_id",
		"feature_menuentry_options",
		"feature_default_font_path",
		"feature_timeout_style",
		"feature_platform_search_hint",
		"feature_all_video_module",
		"feature_chainloader_bpb",
		"feature_ntldr",
		"feature_200_final",
		"feature_nativedisk_cmd",
	};
	char dev[256], prefix[512];

	grub_dev_name(g->fs, dev, sizeof(dev));
	snprintf(prefix, sizeof(prefix), "(%s)%.*s", dev, (int)(strrchr(path, '/') - path), path);
	grub_set(g, "root", dev);
	grub_set(g, "prefix", prefix);
	grub_set(g, "grub_platform", "pc");
	grub_set(g, "grub_cpu", "x86_64");
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		grub_set(g, yes[i], "y");
}

static void grub_free(struct grub *g)
{
	for (size_t i = 0; g->item && i < g->n_items; i++) {
		free(g->item[i].title);
		free(g->item[i].id);
		boot_entry_fini(&g->item[i].bls);
	}
	for (size_t i = 0; i < g->n_funcs; i++)
		free(g->func[i].name);
	for (size_t i = 0; i < g->n_files; i++)
		free(g->file[i]);
	vars_free(g->var, g->n_vars);
	free(g->item);
	free(g);
}

static int grub_read(struct boot_scan *s, struct gfs_fs *fs, const char *path)
{
	struct grub *g = calloc(1, sizeof(*g));
	size_t first = s->list->n;
	int r = -ENOMEM;

	if (!g)
		return r;
	g->g = s->g;
	g->fs = fs;
	g->parent = -1;
	g->var = calloc(GRUB_VARS_MAX, sizeof(*g->var));
	g->item = calloc(GRUB_ITEMS_MAX, sizeof(*g->item));
	if (g->var && g->item) {
		grub_init_vars(g, path);
		r = grub_run_file(g, fs, path);
		g->failed = false;
	}
	if (!r)
		r = run_submenus(g);
	if (!r)
		r = add_items(g, s->list, -1, path);
	if (!r)
		choose_default(g, s->list, first);
	grub_free(g);
	return r == -ENOMEM ? r : 0;
}

/* /EFI/debian/grub.cfg and its like: mostly three lines that lead to the real one. */
static int grub_read_esp(struct boot_scan *s, struct gfs_fs *fs)
{
	struct names dirs = { 0 };
	int r = 0;

	if (!fs->info.esp || names_read(fs, "/EFI", "", "", &dirs))
		return 0;
	for (size_t i = 0; !r && i < dirs.n && !s->list->n; i++) {
		char path[GFS_NAME_MAX + 32];

		snprintf(path, sizeof(path), "/EFI/%s/grub.cfg", dirs.v[i]);
		if (boot_is_file(fs, path))
			r = grub_read(s, fs, path);
	}
	names_fini(&dirs);
	return r;
}

int bootcfg_grub(struct boot_scan *s, struct gfs_fs *fs)
{
	size_t first = s->list->n;
	int r = 0;

	/* One of them: /boot/grub is /grub again where a link "boot -> ." lies at the root. */
	for (size_t i = 0; !r && i < ARRAY_SIZE(config_paths) && s->list->n == first; i++)
		if (boot_is_file(fs, config_paths[i]))
			r = grub_read(s, fs, config_paths[i]);
	return r ? r : grub_read_esp(s, fs);
}
