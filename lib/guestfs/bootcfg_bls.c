/* SPDX-License-Identifier: MIT */
/*
 * Boot Loader Specification entries: /loader/entries/NAME.conf, one entry a file.
 *
 * Order: GRUB's blscfg sorts by file name as versions, newest first. The specification
 * (systemd-boot) sorts by sort-key, machine-id and version, and by file name where there
 * is no sort-key; with no sort-key at all both agree.
 */
#include "boot_priv.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

#define VAR_NAME_MAX 64

struct bls {
	struct boot_entry be;
	char *sort_key, *machine, *version;
};

static void bls_fini(struct bls *b)
{
	boot_entry_fini(&b->be);
	free(b->sort_key);
	free(b->machine);
	free(b->version);
	*b = (struct bls){ 0 };
}

/* ---- one file -----------------------------------------------------------------------------------
 */

/* $name and ${name} by @var; what is not set vanishes, as in GRUB. */
static void expand(struct text *t, const char *s, boot_var_fn var, void *ctx)
{
	while (*s) {
		char name[VAR_NAME_MAX];
		size_t n = 0;
		bool braces;
		const char *v;

		if (*s != '$' || !var ||
		    !(isalpha((unsigned char)s[1]) || s[1] == '_' || s[1] == '{')) {
			text_addc(t, *s++);
			continue;
		}
		braces = *++s == '{';
		s += braces;
		for (; isalnum((unsigned char)*s) || *s == '_'; s++)
			if (n + 1 < sizeof(name))
				name[n++] = *s;
		name[n] = 0;
		s += braces && *s == '}';
		v = var(ctx, name);
		text_adds(t, v ? v : "");
	}
}

static void set_text(char **dst, const char *s)
{
	free(*dst);
	*dst = strdup(s);
}

/* The specification's paths start at the file system's root; some tools write them from "/". */
static char *bls_path(struct gfs_fs *fs, const char *dir, const char *value)
{
	struct text t = { 0 };

	if (value[0] != '/')
		text_addc(&t, '/');
	text_adds(&t, value);
	if (t.s && !boot_is_file(fs, t.s) && !strncmp(dir, "/boot/", 6)) {
		struct text under = { 0 };

		text_adds(&under, "/boot");
		text_adds(&under, t.s);
		if (under.s && boot_is_file(fs, under.s)) {
			text_fini(&t);
			t = under;
		} else {
			text_fini(&under);
		}
	}
	return text_take(&t);
}

static void add_initrds(struct bls *b, struct gfs_fs *fs, const char *dir, const char *value,
			boot_var_fn var, void *ctx)
{
	struct text t = { 0 };
	char *list, *p, *word;

	expand(&t, value, var, ctx);
	list = p = text_take(&t);
	while (p && (word = word_next(&p))) {
		CLEANUP_FREE char *path = bls_path(fs, dir, word);

		if (!path || boot_add_initrd(&b->be, fs, path))
			boot_problem(&b->be, "more than %d initrds", BOOT_INITRDS_MAX);
	}
	free(list);
}

static void bls_line(struct bls *b, const char *dir, char *line, struct text *options,
		     boot_var_fn var, void *ctx)
{
	char *value = line;
	const char *key = word_next(&value);
	struct gfs_fs *fs = b->be.fs;

	if (!key || key[0] == '#')
		return;
	value += strspn(value, " \t");
	if (!strcmp(key, "title")) {
		set_text(&b->be.title, value);
	} else if (!strcmp(key, "version")) {
		set_text(&b->version, value);
	} else if (!strcmp(key, "sort-key")) {
		set_text(&b->sort_key, value);
	} else if (!strcmp(key, "machine-id")) {
		set_text(&b->machine, value);
	} else if (!strcmp(key, "linux")) {
		free(b->be.kernel.path);
		b->be.kernel = (struct boot_file){ .fs = fs, .path = bls_path(fs, dir, value) };
	} else if (!strcmp(key, "initrd")) {
		add_initrds(b, fs, dir, value, var, ctx);
	} else if (!strcmp(key, "options")) {
		if (options->len)
			text_addc(options, ' ');
		expand(options, value, var, ctx);
	} else if (!strcmp(key, "architecture") && strcasecmp(value, "x64") &&
		   strcasecmp(value, "x86-64") && strcasecmp(value, "x86_64")) {
		boot_problem(&b->be, "it is for architecture '%.20s'", value);
	}
}

/* "NAME.conf" without the suffix, and without systemd's boot counter "+3-1". */
static char *bls_id(const char *name)
{
	size_t n = strlen(name) - strlen(".conf"), plus = n;

	while (plus && (isdigit((unsigned char)name[plus - 1]) || name[plus - 1] == '-'))
		plus--;
	if (plus && plus < n && name[plus - 1] == '+')
		n = plus - 1;
	return strndup(name, n);
}

static int bls_read(struct gfs_fs *fs, const char *dir, const char *name, const char *source,
		    boot_var_fn var, void *ctx, struct bls *b)
{
	struct text options = { 0 }, path = { 0 };
	CLEANUP_FREE char *text = NULL;
	char *p, *line;
	int r;

	*b = (struct bls){ .be = { .fs = fs, .source = source } };
	text_adds(&path, dir);
	text_addc(&path, '/');
	text_adds(&path, name);
	b->be.config = text_take(&path);
	r = b->be.config ? boot_read_text(fs, b->be.config, &text) : -ENOMEM;
	if (r) {
		bls_fini(b);
		return r;
	}
	for (p = text; (line = line_next(&p));)
		bls_line(b, dir, line, &options, var, ctx);
	if (options.failed)
		boot_problem(&b->be, "its command line is too long");
	b->be.cmdline = text_take(&options);
	b->be.id = bls_id(name);
	if (!b->be.title && b->be.id)
		b->be.title = strdup(b->be.id);
	if (b->be.cmdline && b->be.id && b->be.title)
		return 0;
	bls_fini(b);
	return -ENOMEM;
}

/* ---- a directory
 * ---------------------------------------------------------------------------------- */

static const char *str(const char *s)
{
	return s ? s : "";
}

static int cmp_bls(const void *pa, const void *pb)
{
	const struct bls *a = pa, *b = pb;
	int r;

	if (a->sort_key && b->sort_key) {
		r = strcmp(a->sort_key, b->sort_key);
		if (!r)
			r = strcmp(str(a->machine), str(b->machine));
		if (!r)
			r = boot_vercmp(str(b->version), str(a->version));
		if (r)
			return r;
	} else if (a->sort_key || b->sort_key) {
		return a->sort_key ? -1 : 1;
	}
	r = boot_vercmp(b->be.id, a->be.id);
	return r ? r : strcmp(b->be.id, a->be.id);
}

static int cmp_grub(const void *pa, const void *pb)
{
	const struct bls *a = pa, *b = pb;
	int r = boot_vercmp(b->be.id, a->be.id);

	return r ? r : strcmp(b->be.id, a->be.id);
}

int bls_read_dir(struct gfs_fs *fs, const char *dir, const char *source, boot_var_fn var, void *ctx,
		 struct boot_entry **out, size_t *n)
{
	CLEANUP_FREE struct bls *b = NULL;
	struct names names = { 0 };
	int r = names_read(fs, dir, "", ".conf", &names);
	bool spec = !strcmp(source, "systemd-boot");

	*out = NULL;
	*n = 0;
	if (r || !names.n)
		return r;
	b = calloc(names.n, sizeof(*b));
	for (size_t i = 0; b && i < names.n && *n < BOOT_ENTRIES_MAX; i++)
		if (!bls_read(fs, dir, names.v[i], source, var, ctx, &b[*n]))
			++*n;
	names_fini(&names);
	if (b && *n)
		qsort(b, *n, sizeof(*b), spec ? cmp_bls : cmp_grub);
	if (b)
		*out = calloc(*n + 1, sizeof(**out));
	for (size_t i = 0; i < *n; i++) {
		if (*out) {
			(*out)[i] = b[i].be;
			b[i].be = (struct boot_entry){ 0 };
		}
		bls_fini(&b[i]);
	}
	return *out ? 0 : -ENOMEM;
}

/* ---- without a GRUB that asks for them
 * --------------------------------------------------------------- */

/* Variables from an environment block, without GRUB's script around it. */
static const char *env_var(void *ctx, const char *name)
{
	size_t n = strlen(name);
	char *const *line = ctx;

	for (; *line; line++)
		if (!strncmp(*line, name, n) && (*line)[n] == '=')
			return *line + n + 1;
	return NULL;
}

#define ENV_LINES 64
static char *read_env(struct gfs_fs *fs, char *line[ENV_LINES + 1])
{
	static const char *const paths[] = { "/boot/grub2/grubenv", "/grub2/grubenv",
					     "/boot/grub/grubenv" };
	char *text = NULL, *p;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(paths) && !text; i++)
		if (boot_read_text(fs, paths[i], &text))
			text = NULL;
	p = text;
	while (p && n < ENV_LINES && (line[n] = line_next(&p)))
		n++;
	line[n] = NULL;
	return text;
}

static bool have_config(const struct boot_list *l, const struct boot_entry *be)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->entry[i].fs == be->fs && !strcmp(l->entry[i].config, be->config))
			return true;
	return false;
}

static int add_dir(struct boot_scan *s, struct gfs_fs *fs, const char *dir, const char *source,
		   char **env)
{
	struct boot_entry *be;
	size_t n;
	int r = bls_read_dir(fs, dir, source, env_var, env, &be, &n);

	if (r)
		return r == -ENOMEM ? r : 0;
	for (size_t i = 0; i < n; i++) {
		if (r || have_config(s->list, &be[i]))
			boot_entry_fini(&be[i]);
		else
			r = boot_add(s->list, &be[i]);
	}
	free(be);
	return r;
}

static void choose_bls(struct boot_list *l, size_t first, const char *saved)
{
	for (size_t i = first; saved && i < l->n; i++)
		if (!l->entry[i].problem && !strcmp(l->entry[i].id, saved))
			boot_set_default(l, i, "saved_entry of grubenv");
	for (size_t i = first; i < l->n; i++)
		if (!l->entry[i].problem)
			boot_set_default(l, i, "first BLS entry");
}

int bootcfg_bls(struct boot_scan *s, struct gfs_fs *fs)
{
	static const char *const dirs[] = { "/loader/entries", "/boot/loader/entries" };
	char *env[ENV_LINES + 1];
	CLEANUP_FREE char *text = NULL;
	size_t first = s->list->n;
	int r = 0;

	if (fs->info.type == GFS_FAT) /* systemd-boot's: bootcfg_systemd() */
		return 0;
	text = read_env(fs, env);
	for (size_t i = 0; !r && i < ARRAY_SIZE(dirs); i++)
		r = add_dir(s, fs, dirs[i], "BLS", env);
	if (!r)
		choose_bls(s->list, first, env_var(env, "saved_entry"));
	return r;
}

/* ---- systemd-boot
 * -------------------------------------------------------------------------------------- */

/* loader.conf's "default": a pattern for the entry's file name, with or without ".conf". */
static char *loader_default(struct gfs_fs *fs)
{
	CLEANUP_FREE char *text = NULL;
	char *p, *line;

	if (boot_read_text(fs, "/loader/loader.conf", &text))
		return NULL;
	for (p = text; (line = line_next(&p));) {
		char *value = line;
		const char *key = word_next(&value);

		if (key && !strcmp(key, "default"))
			return strdup(value + strspn(value, " \t"));
	}
	return NULL;
}

static bool matches_default(const struct boot_entry *be, const char *pattern)
{
	const char *file = strrchr(be->config, '/');

	return !fnmatch(pattern, be->id, FNM_CASEFOLD) ||
	       (file && !fnmatch(pattern, file + 1, FNM_CASEFOLD));
}

int bootcfg_systemd(struct boot_scan *s, struct gfs_fs *fs)
{
	CLEANUP_FREE char *pattern = NULL;
	struct boot_list *l = s->list;
	size_t first = l->n;
	char *env[1] = { NULL };
	int r;

	if (fs->info.type != GFS_FAT)
		return 0;
	r = add_dir(s, fs, "/loader/entries", "systemd-boot", env);
	if (!r)
		r = bootcfg_uki(s, fs);
	pattern = loader_default(fs);
	for (size_t i = first; !r && pattern && i < l->n; i++)
		if (!l->entry[i].problem && matches_default(&l->entry[i], pattern))
			boot_set_default(l, i, "loader.conf's default is '%s'", pattern);
	for (size_t i = first; !r && i < l->n; i++)
		if (!l->entry[i].problem)
			boot_set_default(l, i, "first %s entry", l->entry[i].source);
	return r;
}
