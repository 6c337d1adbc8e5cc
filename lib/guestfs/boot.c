/* SPDX-License-Identifier: MIT */
/*
 * Boot discovery: ask every file system for every kind of boot loader configuration, in
 * the order in which they are believed: GRUB, BLS, extlinux, systemd-boot, unified
 * kernels. The first loader with a usable entry decides the default. Only where none has
 * one, the newest kernel in /boot is taken with a root= of our own.
 */
#include "boot_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

/* ---- entries --------------------------------------------------------------------------------- */

void boot_entry_fini(struct boot_entry *be)
{
	free(be->title);
	free(be->id);
	free(be->config);
	free(be->kernel.path);
	for (size_t i = 0; i < be->n_initrd; i++)
		free(be->initrd[i].path);
	free(be->initrd);
	free(be->cmdline);
	free(be->problem);
	*be = (struct boot_entry){ 0 };
}

void boot_list_free(struct boot_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		boot_entry_fini(&l->entry[i]);
	free(l->entry);
	free(l->why);
	*l = (struct boot_list){ 0 };
}

void boot_problem(struct boot_entry *be, const char *fmt, ...)
{
	char msg[ERR_MSG_MAX];
	va_list ap;

	if (be->problem)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	be->problem = strdup(msg);
}

void boot_set_default(struct boot_list *l, size_t i, const char *fmt, ...)
{
	char msg[ERR_MSG_MAX];
	va_list ap;

	if (l->why)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	l->default_index = i;
	l->why = strdup(msg);
}

int boot_add_initrd(struct boot_entry *be, struct gfs_fs *fs, const char *path)
{
	if (be->n_initrd == BOOT_INITRDS_MAX)
		return -E2BIG;
	if (!be->initrd)
		be->initrd = calloc(BOOT_INITRDS_MAX, sizeof(*be->initrd));
	if (!be->initrd)
		return -ENOMEM;
	be->initrd[be->n_initrd] = (struct boot_file){ .fs = fs, .path = strdup(path) };
	return be->initrd[be->n_initrd++].path ? 0 : -ENOMEM;
}

static void check_file(struct boot_entry *be, const struct boot_file *bf)
{
	struct gfs_file *f;
	struct err e = { 0 };

	if (!bf->path || boot_file_open(bf, &f, &e)) {
		boot_problem(be, "%s", bf->path ? e.msg : "out of memory");
		return;
	}
	if (!gfs_file_size(f) || gfs_file_size(f) > BOOT_FILE_MAX)
		boot_problem(be, "%s: %s", bf->path, gfs_file_size(f) ? "too large" : "empty");
	gfs_file_close(f);
}

void boot_check(struct boot_entry *be)
{
	if (!be->kernel.path || !be->kernel.path[0])
		boot_problem(be, "it names no kernel");
	if (be->cmdline && strlen(be->cmdline) >= BOOT_CMDLINE_MAX)
		boot_problem(be, "its command line is longer than %d bytes", BOOT_CMDLINE_MAX - 1);
	if (!be->problem)
		check_file(be, &be->kernel);
	for (size_t i = 0; i < be->n_initrd && !be->problem; i++)
		check_file(be, &be->initrd[i]);
}

int boot_add(struct boot_list *l, struct boot_entry *be)
{
	char **text[] = { &be->title, &be->id, &be->config, &be->cmdline, &be->kernel.path };

	if (!l->entry)
		l->entry = calloc(BOOT_ENTRIES_MAX, sizeof(*l->entry));
	for (size_t i = 0; l->entry && i < ARRAY_SIZE(text); i++) {
		if (!*text[i])
			*text[i] = strdup("");
		if (!*text[i])
			l->n = BOOT_ENTRIES_MAX;
	}
	if (!l->entry || l->n >= BOOT_ENTRIES_MAX) {
		boot_entry_fini(be);
		return l->entry ? 0 : -ENOMEM;
	}
	if (!be->kernel.fs)
		be->kernel.fs = be->fs;
	boot_check(be);
	l->entry[l->n++] = *be;
	*be = (struct boot_entry){ 0 };
	return 0;
}

/* ---- files --------------------------------------------------------------------------------------
 */

int boot_read_text(struct gfs_fs *fs, const char *path, char **out)
{
	uint8_t *data;
	size_t len;
	int r = gfs_read_file(fs, path, BOOT_CONFIG_MAX, &data, &len, NULL);

	if (r)
		return r;
	for (size_t i = 0; i < len; i++)
		if (!data[i])
			data[i] = ' ';
	*out = (char *)data;
	return 0;
}

static bool is_kind(struct gfs_fs *fs, const char *path, enum gfs_kind kind)
{
	struct gfs_stat st;

	return fs && !gfs_stat(fs, path, &st, NULL) && st.kind == kind;
}

bool boot_is_file(struct gfs_fs *fs, const char *path)
{
	return is_kind(fs, path, GFS_FILE);
}

struct names_walk {
	struct names *out;
	const char *prefix, *suffix;
};

static int names_add(void *ctx, const char *name, enum gfs_kind kind)
{
	struct names_walk *w = ctx;
	size_t n = strlen(name), np = strlen(w->prefix), ns = strlen(w->suffix);

	if (n < np + ns || strncmp(name, w->prefix, np) || strcasecmp(name + n - ns, w->suffix))
		return 0;
	if (w->out->n == NAMES_MAX)
		return 1;
	if (!w->out->v)
		w->out->v = calloc(NAMES_MAX, sizeof(*w->out->v));
	if (!w->out->v)
		return -ENOMEM;
	w->out->v[w->out->n] = strdup(name);
	return w->out->v[w->out->n++] ? 0 : -ENOMEM;
}

int names_read(struct gfs_fs *fs, const char *dir, const char *prefix, const char *suffix,
	       struct names *out)
{
	struct names_walk w = { out, prefix, suffix };
	int r;

	*out = (struct names){ 0 };
	r = gfs_readdir(fs, dir, names_add, &w, NULL);
	if (r < 0) {
		names_fini(out);
		return r;
	}
	names_sort(out, false);
	return 0;
}

void names_fini(struct names *n)
{
	for (size_t i = 0; i < n->n; i++)
		free(n->v[i]);
	free(n->v);
	*n = (struct names){ 0 };
}

static int cmp_up(const void *a, const void *b)
{
	int r = boot_vercmp(*(char *const *)a, *(char *const *)b);

	return r ? r : strcmp(*(char *const *)a, *(char *const *)b);
}

static int cmp_down(const void *a, const void *b)
{
	return cmp_up(b, a);
}

void names_sort(struct names *n, bool newest_first)
{
	if (n->n)
		qsort(n->v, n->n, sizeof(*n->v), newest_first ? cmp_down : cmp_up);
}

/* ---- the whole
 * ------------------------------------------------------------------------------------ */

/* Why nothing was found: what cannot be read, then what was found and is broken. */
static int no_entry(struct gfs *g, const struct boot_list *l, struct err *e)
{
	struct text t = { 0 };
	char line[ERR_MSG_MAX];

	for (size_t i = 0; i < gfs_fs_count(g); i++) {
		const struct gfs_fs_info *in = gfs_fs_info(gfs_fs_get(g, i));

		line[0] = 0;
		if (in->type == GFS_FOREIGN && strcmp(in->type_name, "swap"))
			snprintf(line, sizeof(line), "%s is %s, which vmm cannot read", in->where,
				 in->type_name);
		else if (in->problem[0])
			snprintf(line, sizeof(line), "%s is %s, but %s", in->where, in->type_name,
				 in->problem);
		if (line[0] && t.len < 300) {
			text_adds(&t, t.len ? "; " : "");
			text_adds(&t, line);
		}
	}
	if (gfs_lvm_problem(g)[0] && t.len < 300) {
		text_adds(&t, t.len ? "; " : "");
		text_adds(&t, gfs_lvm_problem(g));
	}
	for (size_t i = 0; i < l->n && i < 3 && t.len < 300; i++) {
		snprintf(line, sizeof(line), "%s'%.80s': %s", t.len ? "; " : "", l->entry[i].title,
			 l->entry[i].problem ? l->entry[i].problem : "");
		text_adds(&t, line);
	}
	if (!t.len)
		text_adds(&t, gfs_fs_count(g)
				      ? "no boot loader configuration and no kernel in /boot"
				      : "the disk is empty, or of a kind unknown here");
	err_set(e, -ENOENT, "no boot entry found: %.400s", t.s ? t.s : "");
	err_hint(e, "use --kernel");
	text_fini(&t);
	return -ENOENT;
}

static bool any_usable(const struct boot_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->entry[i].problem)
			return true;
	return false;
}

int gfs_boot_entries(struct gfs *g, struct boot_list *out, struct err *e)
{
	static int (*const readers[])(struct boot_scan *, struct gfs_fs *) = {
		bootcfg_grub, bootcfg_bls, bootcfg_extlinux, bootcfg_systemd, bootcfg_newest,
	};
	struct boot_scan s = { .g = g, .list = out };
	int r = 0;

	*out = (struct boot_list){ 0 };
	for (size_t k = 0; !r && k < ARRAY_SIZE(readers); k++) {
		if (readers[k] == bootcfg_newest && any_usable(out))
			break;
		for (size_t i = 0; !r && i < gfs_fs_count(g); i++)
			r = gfs_use(gfs_fs_get(g, i), NULL) ? 0 : readers[k](&s, gfs_fs_get(g, i));
	}
	for (size_t i = 0; i < out->n && !out->why; i++)
		if (!out->entry[i].problem)
			boot_set_default(out, i, "first usable entry");
	if (!r && any_usable(out) && !out->why)
		r = -ENOMEM;
	if (r)
		err_set(e, r, "boot entries: %s", strerror(-r));
	else if (!any_usable(out))
		r = no_entry(g, out, e);
	if (r)
		boot_list_free(out);
	return r;
}

/* ---- choosing
 * --------------------------------------------------------------------------------------- */

static int chosen(const struct boot_list *l, size_t i, size_t *index, struct err *e)
{
	if (l->entry[i].problem)
		return err_set(e, -ENOENT, "boot entry %zu ('%s') cannot be booted: %s", i + 1,
			       l->entry[i].title, l->entry[i].problem);
	*index = i;
	return 0;
}

/* Behind the last '>' of a title: what the menu shows. */
static const char *last_part(const char *title)
{
	const char *p = strrchr(title, '>');

	return p ? p + 1 : title;
}

static int choose_by_title(const struct boot_list *l, const char *which, size_t *index,
			   struct err *e)
{
	size_t hits = 0, at = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct boot_entry *be = &l->entry[i];

		if (!strcmp(be->title, which) || !strcmp(be->id, which) ||
		    !strcmp(last_part(be->title), which))
			return chosen(l, i, index, e);
	}
	for (size_t i = 0; i < l->n; i++) {
		if (!strstr(l->entry[i].title, which))
			continue;
		at = i;
		hits++;
	}
	if (hits == 1)
		return chosen(l, at, index, e);
	if (hits)
		return err_set(e, -ENOTUNIQ, "%zu boot entries have '%s' in their title", hits,
			       which);
	return err_set(e, -ENOENT, "no boot entry is called '%s'", which);
}

int boot_list_choose(const struct boot_list *l, const char *which, size_t *index, struct err *e)
{
	char *end;
	unsigned long n;

	if (!which) {
		*index = l->default_index;
		return 0;
	}
	n = strtoul(which, &end, 10);
	if (*which < '0' || *which > '9' || *end)
		return choose_by_title(l, which, index, e);
	if (!n || n > l->n)
		return err_set(e, -ENOENT, "there are %zu boot entries, no number %s", l->n, which);
	return chosen(l, n - 1, index, e);
}

/* ---- the serial console
 * ------------------------------------------------------------------------------ */

static bool is_serial(const char *word, size_t n)
{
	return (n >= 12 && !memcmp(word, "console=ttyS", 12)) ||
	       (n >= 12 && !memcmp(word, "console=uart", 12));
}

char *boot_cmdline_serial(const char *cmdline, bool *added)
{
	size_t kernel_part = strlen(cmdline);
	bool found = false;
	char *out;

	for (const char *p = cmdline; *p;) {
		size_t n;

		p += strspn(p, " \t\n");
		n = strcspn(p, " \t\n");
		if (n == 2 && p[0] == '-' && p[1] == '-') { /* the rest is for init */
			kernel_part = (size_t)(p - cmdline);
			break;
		}
		found |= is_serial(p, n);
		p += n;
	}
	if (added)
		*added = !found;
	if (found)
		return strdup(cmdline);
	while (kernel_part && strchr(" \t\n", cmdline[kernel_part - 1]))
		kernel_part--;
	if (asprintf(&out, "%.*s%sconsole=ttyS0%s", (int)kernel_part, cmdline,
		     kernel_part ? " " : "", cmdline + kernel_part) < 0)
		return NULL;
	return out;
}
