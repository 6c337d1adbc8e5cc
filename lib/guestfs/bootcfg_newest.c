/* SPDX-License-Identifier: MIT */
/*
 * The last resort: no loader configuration, but kernels in /boot (or at the root of a
 * boot partition). The newest comes first; root= is made up from what the disks hold.
 */
#include "boot_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

static bool is_root(struct gfs_fs *fs)
{
	static const char *const signs[] = { "/sbin/init", "/usr/sbin/init",
					     "/usr/lib/systemd/systemd", "/etc/os-release",
					     "/etc/fstab" };
	struct gfs_stat st;

	for (size_t i = 0; i < ARRAY_SIZE(signs); i++)
		if (!gfs_lstat(fs, signs[i], &st, NULL))
			return true;
	return false;
}

/* The file system to be root: the kernel's own if it looks like one, else the first that does. */
static struct gfs_fs *find_root(struct gfs *g, struct gfs_fs *own)
{
	if (is_root(own))
		return own;
	for (size_t i = 0; i < gfs_fs_count(g); i++) {
		struct gfs_fs *fs = gfs_fs_get(g, i);

		if (fs != own && !gfs_use(fs, NULL) && is_root(fs))
			return fs;
	}
	return own;
}

/* The device-mapper name: dashes inside of the names are doubled. */
static void mapper_name(const char *vg_lv, struct text *t)
{
	text_adds(t, "root=/dev/mapper/");
	for (; *vg_lv; vg_lv++) {
		text_addc(t, *vg_lv == '/' ? '-' : *vg_lv);
		if (*vg_lv == '-')
			text_addc(t, '-');
	}
}

/* Without an initrd, the kernel itself knows partitions but no file systems' UUIDs. */
static char *make_cmdline(const struct gfs_fs *root, bool initrd)
{
	struct text t = { 0 };

	if (!strncmp(root->info.where, "volume ", 7)) {
		mapper_name(root->info.where + 7, &t);
	} else if (initrd && root->info.uuid[0]) {
		text_adds(&t, "root=UUID=");
		text_adds(&t, root->info.uuid);
	} else if (root->info.part_uuid[0]) {
		text_adds(&t, "root=PARTUUID=");
		text_adds(&t, root->info.part_uuid);
	} else {
		text_adds(&t, "root=/dev/vda");
	}
	text_adds(&t, " ro");
	return text_take(&t);
}

static int find_initrd(struct boot_entry *be, struct gfs_fs *fs, const char *dir,
		       const char *version)
{
	static const char *const forms[] = { "%s/initrd.img-%s", "%s/initramfs-%s.img",
					     "%s/initrd-%s", "%s/initramfs-%s",
					     "%s/initrd-%s.img" };
	char path[2 * GFS_NAME_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(path, sizeof(path), forms[i], dir, version);
#pragma GCC diagnostic pop
		if (boot_is_file(fs, path))
			return boot_add_initrd(be, fs, path);
	}
	return 0;
}

static int add_kernel(struct boot_scan *s, struct gfs_fs *fs, const char *dir, const char *name)
{
	struct boot_entry be = { .source = "newest kernel", .fs = fs };
	const char *version = strchr(name, '-') + 1;
	char path[2 * GFS_NAME_MAX], title[2 * GFS_NAME_MAX];
	int r = find_initrd(&be, fs, dir, version);

	if (r)
		return r;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(title, sizeof(title), "Linux %s", version);
	be.title = strdup(title);
	be.id = strdup(name);
	be.kernel = (struct boot_file){ .fs = fs, .path = strdup(path) };
	be.cmdline = make_cmdline(find_root(s->g, fs), be.n_initrd > 0);
	return boot_add(s->list, &be);
}

int bootcfg_newest(struct boot_scan *s, struct gfs_fs *fs)
{
	static const char *const dirs[] = { "/boot", "" };
	size_t first = s->list->n;
	int r = 0;

	for (size_t d = 0; d < ARRAY_SIZE(dirs) && s->list->n == first && !r; d++) {
		struct names names = { 0 };

		if (names_read(fs, d ? "/" : dirs[d], "vmlinuz-", "", &names))
			continue;
		names_sort(&names, true);
		for (size_t i = 0; !r && i < names.n; i++)
			if (!strstr(names.v[i], "rescue") && !strstr(names.v[i], ".old"))
				r = add_kernel(s, fs, dirs[d], names.v[i]);
		names_fini(&names);
	}
	for (size_t i = first; !r && i < s->list->n; i++)
		if (!s->list->entry[i].problem)
			boot_set_default(s->list, i,
					 "newest kernel found, no boot loader configuration");
	return r;
}
