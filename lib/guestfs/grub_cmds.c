/* SPDX-License-Identifier: MIT */
/*
 * The GRUB commands that decide what is booted: set, test, search, load_env, linux,
 * initrd, configfile, blscfg. All others are taken as done.
 */
#include "grub_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

#define GRUBENV_MAX 65536u

/* ---- devices and paths --------------------------------------------------------------------- */

void grub_dev_name(const struct gfs_fs *fs, char *out, size_t size)
{
	const struct gfs_fs_info *i = &fs->info;

	if (!strncmp(i->where, "volume ", 7)) {
		const char *slash = strchr(i->where + 7, '/');

		snprintf(out, size, "lvm/%.*s-%s", slash ? (int)(slash - i->where - 7) : 0,
			 i->where + 7, slash ? slash + 1 : "");
	} else if (!i->partition) {
		snprintf(out, size, "hd%u", i->disk);
	} else {
		snprintf(out, size, "hd%u,%s%u", i->disk,
			 strlen(i->part_uuid) == 36 ? "gpt" : "msdos", i->partition);
	}
}

/* GRUB doubles the dashes inside of volume names; ours has them single. */
static bool lvm_name_matches(const char *have, const char *want, size_t len)
{
	size_t n = 0;

	for (; *have; have++, n++) {
		if (n >= len || want[n] != *have)
			return false;
		if (*have == '-' && n + 1 < len && want[n + 1] == '-')
			n++;
	}
	return n == len;
}

static bool dev_matches(const struct gfs_fs *fs, const char *name, size_t len)
{
	char own[256];
	unsigned disk, part;
	int end = 0;
	char want[256];

	grub_dev_name(fs, own, sizeof(own));
	if (!strncmp(own, "lvm/", 4))
		return lvm_name_matches(own, name, len);
	if (len >= sizeof(want))
		return false;
	memcpy(want, name, len);
	want[len] = 0;
	if (!strcmp(own, want))
		return true;
	/* "hd0,1" and a label type that was another when the file was written. */
	if (sscanf(want, "hd%u,%*[a-z]%u%n", &disk, &part, &end) != 2 || want[end]) {
		end = 0;
		if (sscanf(want, "hd%u,%u%n", &disk, &part, &end) != 2 || !end || want[end])
			return false;
	}
	return fs->info.partition == part && fs->info.disk == disk;
}

struct gfs_fs *grub_dev(struct grub *g, const char *name, size_t len)
{
	for (size_t i = 0; i < gfs_fs_count(g->g); i++) {
		struct gfs_fs *fs = gfs_fs_get(g->g, i);

		if (dev_matches(fs, name, len))
			return fs;
	}
	return NULL;
}

struct gfs_fs *grub_path(struct grub *g, const char *arg, const char **path)
{
	const char *dev = grub_get(g, "root");
	size_t len = dev ? strlen(dev) : 0;
	struct gfs_fs *fs;

	*path = arg;
	if (arg[0] == '(') {
		const char *close = strchr(arg, ')');

		if (!close)
			return NULL;
		dev = arg + 1;
		len = (size_t)(close - dev);
		*path = close + 1;
		if (!len && (dev = grub_get(g, "root")))
			len = strlen(dev);
	}
	fs = len ? grub_dev(g, dev, len) : g->fs;
	/* A device by another machine's numbers: the file most likely is beside grub.cfg. */
	return fs ? fs : g->fs;
}

/* ---- test ------------------------------------------------------------------------------------ */

struct test {
	struct grub *g;
	char *const *v;
	size_t n, i;
	unsigned depth;
};

static bool test_or(struct test *t);

static bool test_file(struct test *t, char op, const char *arg)
{
	struct gfs_stat st;
	const char *path;
	struct gfs_fs *fs = grub_path(t->g, arg, &path);

	if (!fs || gfs_stat(fs, path, &st, NULL))
		return false;
	return op == 'e' || (op == 'f' && st.kind == GFS_FILE) ||
	       (op == 'd' && st.kind == GFS_DIR) || (op == 's' && st.size > 0);
}

static bool test_compare(const char *a, const char *op, const char *b, bool *known)
{
	int s = strcmp(a, b);
	long long x = strtoll(a, NULL, 0), y = strtoll(b, NULL, 0);
	const struct {
		const char *op;
		bool result;
	} ops[] = {
		{ "=", s == 0 },   { "==", s == 0 }, { "!=", s != 0 },	{ "<", s < 0 },
		{ "<=", s <= 0 },  { ">", s > 0 },   { ">=", s >= 0 },	{ "-eq", x == y },
		{ "-ne", x != y }, { "-lt", x < y }, { "-le", x <= y }, { "-gt", x > y },
		{ "-ge", x >= y },
	};

	*known = true;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (!strcmp(op, ops[i].op))
			return ops[i].result;
	*known = false;
	return false;
}

static bool test_primary(struct test *t)
{
	const char *a = t->v[t->i];
	bool known, r;

	if (t->i + 2 < t->n) {
		r = test_compare(a, t->v[t->i + 1], t->v[t->i + 2], &known);
		if (known) {
			t->i += 3;
			return r;
		}
	}
	if (a[0] == '-' && a[1] && !a[2] && t->i + 1 < t->n && strchr("zndefs", a[1])) {
		const char *b = t->v[t->i + 1];

		t->i += 2;
		if (a[1] == 'z' || a[1] == 'n')
			return !*b == (a[1] == 'z');
		return test_file(t, a[1], b);
	}
	t->i++;
	return *a != 0;
}

static bool test_not(struct test *t)
{
	bool negate = false, r;

	while (t->i + 1 < t->n && !strcmp(t->v[t->i], "!")) {
		negate = !negate;
		t->i++;
	}
	if (t->i >= t->n)
		return negate;
	if (!strcmp(t->v[t->i], "(") && t->i + 1 < t->n && t->depth < GRUB_DEPTH_MAX) {
		t->i++;
		t->depth++;
		r = test_or(t);
		t->depth--;
		t->i += t->i < t->n; /* ")" */
	} else {
		r = test_primary(t);
	}
	return r != negate;
}

static bool test_and(struct test *t)
{
	bool r = test_not(t);

	while (t->i < t->n && strcmp(t->v[t->i], "-o") && strcmp(t->v[t->i], ")")) {
		t->i += !strcmp(t->v[t->i], "-a");
		if (t->i < t->n)
			r = test_not(t) && r;
	}
	return r;
}

static bool test_or(struct test *t)
{
	bool r = test_and(t);

	while (t->i < t->n && !strcmp(t->v[t->i], "-o")) {
		t->i++;
		r = test_and(t) || r;
	}
	return r;
}

static int cmd_test(struct grub *g, const struct grub_args *a)
{
	struct test t = { .g = g, .v = a->v + 1, .n = a->n - 1 };

	if (!strcmp(a->v[0], "[") && t.n && !strcmp(t.v[t.n - 1], "]"))
		t.n--;
	return t.n && test_or(&t) ? 0 : 1;
}

/* ---- variables ---------------------------------------------------------------------------------
 */

static int cmd_set(struct grub *g, const struct grub_args *a)
{
	for (size_t i = 1; i < a->n; i++) {
		char *eq = strchr(a->v[i], '=');
		char name[GRUB_VAR_NAME_MAX];

		if (!eq || (size_t)(eq - a->v[i]) >= sizeof(name))
			continue;
		memcpy(name, a->v[i], (size_t)(eq - a->v[i]));
		name[eq - a->v[i]] = 0;
		grub_set(g, name, eq + 1);
	}
	return 0;
}

static int cmd_unset(struct grub *g, const struct grub_args *a)
{
	for (size_t i = 1; i < a->n; i++)
		if (grub_get(g, a->v[i]))
			grub_set(g, a->v[i], "");
	return 0;
}

/* The environment block: "name=value" lines, a backslash quotes, '#' pads it to 1024 bytes. */
static void env_line(struct grub *g, char *line, const struct grub_args *only, size_t first)
{
	char *eq = strchr(line, '=');
	char *to = eq ? eq + 1 : NULL;
	bool wanted = first >= only->n;

	if (!eq || eq == line || line[0] == '#')
		return;
	*eq = 0;
	for (size_t i = first; i < only->n; i++)
		wanted |= !strcmp(only->v[i], line);
	if (!wanted)
		return;
	for (const char *from = to; *from; from++) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from;
	}
	*to = 0;
	grub_set(g, line, eq + 1);
}

static int env_find(struct grub *g, const char *file, char **text)
{
	const char *path;
	struct gfs_fs *fs = grub_path(g, file, &path);
	int r = fs ? boot_read_text(fs, path, text) : -ENOENT;

	/* On EFI machines Fedora's family keeps it on the ESP, behind a link across file systems.
	 */
	for (size_t i = 0; r && i < gfs_fs_count(g->g); i++) {
		struct names dirs = { 0 };

		fs = gfs_fs_get(g->g, i);
		if (!fs->info.esp || names_read(fs, "/EFI", "", "", &dirs))
			continue;
		for (size_t k = 0; r && k < dirs.n; k++) {
			char p[GFS_NAME_MAX + 32];

			snprintf(p, sizeof(p), "/EFI/%s/grubenv", dirs.v[k]);
			r = boot_read_text(fs, p, text);
		}
		names_fini(&dirs);
	}
	return r;
}

static int cmd_load_env(struct grub *g, const struct grub_args *a)
{
	CLEANUP_FREE char *text = NULL;
	const char *prefix = grub_get(g, "prefix");
	char file[GFS_PATH_MAX];
	char *p, *line;
	size_t i = 1;

	snprintf(file, sizeof(file), "%s/grubenv", prefix ? prefix : "");
	for (; i < a->n && a->v[i][0] == '-'; i++) {
		if (!strcmp(a->v[i], "-f") && i + 1 < a->n)
			snprintf(file, sizeof(file), "%s", a->v[++i]);
		else if (!strncmp(a->v[i], "--file=", 7))
			snprintf(file, sizeof(file), "%s", a->v[i] + 7);
	}
	if (env_find(g, file, &text))
		return 1;
	for (p = text; (line = line_next(&p));)
		env_line(g, line, a, i);
	return 0;
}

/* ---- search
 * -------------------------------------------------------------------------------------- */

static bool search_matches(const struct gfs_fs *fs, char by, const char *what)
{
	switch (by) {
	case 'u': return fs->info.uuid[0] && !strcasecmp(fs->info.uuid, what);
	case 'l': return fs->info.label[0] && !strcmp(fs->info.label, what);
	default: return fs->ops && boot_is_file((struct gfs_fs *)fs, what);
	}
}

static int search_run(struct grub *g, char by, const char *what, const char *var)
{
	char name[256];

	for (size_t i = 0; i < gfs_fs_count(g->g); i++) {
		struct gfs_fs *fs = gfs_fs_get(g->g, i);

		if (!search_matches(fs, by, what))
			continue;
		grub_dev_name(fs, name, sizeof(name));
		grub_set(g, var, name);
		return 0;
	}
	return 1;
}

static int cmd_search(struct grub *g, const struct grub_args *a)
{
	const char *what = NULL, *var = "root";
	char by = 'f';

	/* search.fs_uuid UUID [VARIABLE [HINTS]] */
	if (!strncmp(a->v[0], "search.", 7)) {
		by = !strcmp(a->v[0], "search.fs_uuid") ? 'u'
		     : !strcmp(a->v[0], "search.file")	? 'f'
							: 'l';
		return a->n < 2 ? 1 : search_run(g, by, a->v[1], a->n > 2 ? a->v[2] : var);
	}
	for (size_t i = 1; i < a->n; i++) {
		const char *w = a->v[i];

		if (!strcmp(w, "-u") || !strcmp(w, "--fs-uuid"))
			by = 'u';
		else if (!strcmp(w, "-l") || !strcmp(w, "--label") || !strcmp(w, "--fs-label"))
			by = 'l';
		else if (!strcmp(w, "-f") || !strcmp(w, "--file"))
			by = 'f';
		else if (!strncmp(w, "--set=", 6))
			var = w + 6;
		else if (!strcmp(w, "--hint") || !strcmp(w, "-h"))
			i++;
		else if (w[0] != '-')
			what = w;
	}
	return what ? search_run(g, by, what, var) : 1;
}

/* "probe --set=VAR --fs-uuid DEVICE" (and -u, --label): the other way round. */
static int cmd_probe(struct grub *g, const struct grub_args *a)
{
	const char *var = NULL, *dev = NULL;
	bool label = false;
	struct gfs_fs *fs;

	for (size_t i = 1; i < a->n; i++) {
		if (!strncmp(a->v[i], "--set=", 6))
			var = a->v[i] + 6;
		else if (!strcmp(a->v[i], "-s") && i + 1 < a->n)
			var = a->v[++i];
		else if (!strcmp(a->v[i], "--label") || !strcmp(a->v[i], "-l"))
			label = true;
		else if (a->v[i][0] != '-')
			dev = a->v[i];
	}
	if (!dev || !var)
		return 1;
	dev += dev[0] == '(';
	fs = grub_dev(g, dev, strcspn(dev, ")"));
	if (!fs)
		return 1;
	grub_set(g, var, label ? fs->info.label : fs->info.uuid);
	return 0;
}

/* ---- linux, initrd
 * --------------------------------------------------------------------------------- */

/* GRUB hands an argument with blanks on in double quotes. */
static void cmdline_add(struct text *t, const char *arg)
{
	if (!strpbrk(arg, " \t")) {
		text_word(t, arg);
		return;
	}
	text_addc(t, t->len ? ' ' : '"');
	if (t->len > 1)
		text_addc(t, '"');
	for (; *arg; arg++) {
		if (strchr("\\'\"", *arg))
			text_addc(t, '\\');
		text_addc(t, *arg);
	}
	text_addc(t, '"');
}

static int cmd_linux(struct grub *g, const struct grub_args *a)
{
	struct text t = { 0 };
	const char *path;
	struct boot_entry *be;
	struct gfs_fs *fs;

	if (!g->target || a->n < 2)
		return 1;
	fs = grub_path(g, a->v[1], &path);
	be = g->target->be;
	for (size_t i = 2; i < a->n; i++)
		cmdline_add(&t, a->v[i]);
	free(be->kernel.path);
	free(be->cmdline);
	be->kernel = (struct boot_file){ .fs = fs, .path = strdup(path) };
	be->cmdline = text_take(&t);
	if (!be->kernel.path || !be->cmdline)
		g->failed = true;
	g->target->has_kernel = true;
	return 0;
}

static int cmd_initrd(struct grub *g, const struct grub_args *a)
{
	if (!g->target)
		return 1;
	for (size_t i = 1; i < a->n; i++) {
		const char *path;
		struct gfs_fs *fs = grub_path(g, a->v[i], &path);

		if (!strncmp(a->v[i], "--", 2))
			continue;
		if (boot_add_initrd(g->target->be, fs, path))
			boot_problem(g->target->be, "more than %d initrds", BOOT_INITRDS_MAX);
	}
	return 0;
}

/* ---- other files
 * ------------------------------------------------------------------------------------ */

static int cmd_configfile(struct grub *g, const struct grub_args *a)
{
	const char *path;
	struct gfs_fs *fs;

	if (a->n < 2)
		return 1;
	fs = grub_path(g, a->v[1], &path);
	return fs && !grub_run_file(g, fs, path) ? 0 : 1;
}

static const char *bls_var(void *ctx, const char *name)
{
	return grub_get(ctx, name);
}

static int bls_take(struct grub *g, struct boot_entry *be, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct grub_item *it;

		if (g->n_items == GRUB_ITEMS_MAX) {
			boot_entry_fini(&be[i]);
			continue;
		}
		it = &g->item[g->n_items++];
		*it = (struct grub_item){ .kind = GRUB_BLS, .parent = g->parent, .list_index = -1 };
		it->bls = be[i];
		it->title = strdup(be[i].title);
		it->id = strdup(be[i].id);
		if (!it->title || !it->id)
			g->failed = true;
	}
	free(be);
	return n ? 0 : 1;
}

/* Fedora's family: the entries lie beside the kernels, on $boot, $root or where grub.cfg is. */
static int cmd_blscfg(struct grub *g, const struct grub_args *a)
{
	static const char *const dirs[] = { "/loader/entries", "/boot/loader/entries" };
	const char *boot = grub_get(g, "boot"), *root = grub_get(g, "root");
	struct gfs_fs *fs[3] = { boot ? grub_dev(g, boot, strlen(boot)) : NULL,
				 root ? grub_dev(g, root, strlen(root)) : NULL, g->fs };

	for (size_t i = 0; i < ARRAY_SIZE(fs); i++) {
		for (size_t d = 0; fs[i] && d < ARRAY_SIZE(dirs); d++) {
			struct boot_entry *be;
			size_t n;

			if (!bls_read_dir(fs[i], dirs[d], "BLS", bls_var, g, &be, &n) && n)
				return bls_take(g, be, n);
		}
	}
	return 1;
}

static int cmd_true(struct grub *g, const struct grub_args *a)
{
	return 0;
}

static int cmd_false(struct grub *g, const struct grub_args *a)
{
	return 1;
}

static int cmd_return(struct grub *g, const struct grub_args *a)
{
	g->returning = true;
	return a->n > 1 ? (int)strtol(a->v[1], NULL, 10) : g->status;
}

bool grub_builtin(struct grub *g, const struct grub_args *a)
{
	static const struct {
		const char *name;
		int (*fn)(struct grub *g, const struct grub_args *a);
	} table[] = {
		{ "[", cmd_test },
		{ "test", cmd_test },
		{ "set", cmd_set },
		{ "unset", cmd_unset },
		{ "load_env", cmd_load_env },
		{ "search", cmd_search },
		{ "search.fs_uuid", cmd_search },
		{ "search.fs_label", cmd_search },
		{ "search.file", cmd_search },
		{ "probe", cmd_probe },
		{ "linux", cmd_linux },
		{ "linux16", cmd_linux },
		{ "linuxefi", cmd_linux },
		{ "initrd", cmd_initrd },
		{ "initrd16", cmd_initrd },
		{ "initrdefi", cmd_initrd },
		{ "configfile", cmd_configfile },
		{ "source", cmd_configfile },
		{ ".", cmd_configfile },
		{ "blscfg", cmd_blscfg },
		{ "true", cmd_true },
		{ "false", cmd_false },
		{ "return", cmd_return },
		/* Questions to a person or to hardware that is not there. */
		{ "keystatus", cmd_false },
		{ "cmostest", cmd_false },
		{ "fwsetup", cmd_false },
		{ "regexp", cmd_false },
		{ "chainloader", cmd_false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (!strcmp(a->v[0], table[i].name)) {
			g->status = table[i].fn(g, a);
			return true;
		}
	}
	return false;
}
