/* SPDX-License-Identifier: MIT */
/*
 * Which file systems lie on a set of disks.
 *
 * gfs_open_sources() walks disks and partitions once and notes what each window holds;
 * LVM physical volumes are collected and activated when all disks were seen. A file
 * system's driver is called with the first use only (gfs_use): a disk with forty
 * snapshots costs forty superblocks, not forty journals.
 */
#include "gfs_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

#define GFS_DISKS_MAX 64
#define GFS_FS_MAX 4096

/* A partition as a source: a window on its disk. */
struct window {
	const struct gfs_source *disk;
	uint64_t off;
};

struct gfs {
	struct gfs_source *disk;
	size_t n_disks;
	struct window **window;
	size_t n_windows;
	struct gfs_fs **fs;
	size_t n_fs;
	struct lvm *lvm;
};

static int window_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	const struct window *w = ctx;

	return gfs_src_read(w->disk, w->off + off, buf, len); /* within the disk by parts_scan */
}

/* One more slot in a growing array of pointers; NULL without memory. */
static void *grow(void *array, size_t n)
{
	return n & (n - 1) ? array : realloc(array, MAX(2 * n, (size_t)1) * sizeof(void *));
}

static struct window *gfs_new_window(struct gfs *g, const struct gfs_source *disk, uint64_t off)
{
	struct window **arr = grow(g->window, g->n_windows);
	struct window *w = calloc(1, sizeof(*w));

	if (arr)
		g->window = arr;
	if (!arr || !w) {
		free(w);
		return NULL;
	}
	*w = (struct window){ .disk = disk, .off = off };
	return g->window[g->n_windows++] = w;
}

static const struct gfs_ops *ops_of(enum gfs_type type)
{
	switch (type) {
	case GFS_EXT: return &gfs_ext4_ops;
	case GFS_FAT: return &gfs_fat_ops;
	case GFS_XFS: return &gfs_xfs_ops;
	default: return NULL;
	}
}

static struct gfs_fs *gfs_new_fs(struct gfs *g, const struct gfs_source *src,
				 const struct gfs_probe *p)
{
	struct gfs_fs **arr = grow(g->fs, g->n_fs);
	struct gfs_fs *fs = calloc(1, sizeof(*fs));

	if (arr)
		g->fs = arr;
	if (!arr || !fs) {
		free(fs);
		return NULL;
	}
	fs->gfs = g;
	fs->src = *src;
	fs->ops = ops_of(p->type);
	memcpy(fs->uuid, p->uuid, sizeof(fs->uuid));
	memcpy(fs->label, p->label, sizeof(fs->label));
	fs->info = (struct gfs_fs_info){ .type = p->type,
					 .type_name = p->type_name,
					 .where = fs->where,
					 .uuid = fs->uuid,
					 .label = fs->label,
					 .part_uuid = fs->part_uuid,
					 .part_label = fs->part_label,
					 .size = src->size,
					 .note = fs->note,
					 .problem = fs->problem };
	return g->fs[g->n_fs++] = fs;
}

/* "partition 2", with the disk's number only where there are several. */
static void name_place(const struct gfs *g, struct gfs_fs *fs)
{
	char disk[32] = "";

	if (g->n_disks > 1)
		snprintf(disk, sizeof(disk), "disk %u ", fs->info.disk + 1);
	if (fs->info.partition)
		snprintf(fs->where, sizeof(fs->where), "%spartition %u", disk, fs->info.partition);
	else
		snprintf(fs->where, sizeof(fs->where), "%s%s", disk,
			 disk[0] ? "(whole)" : "whole disk");
}

/* Take in what lies in @src: a physical volume, or a file system (or blank space). */
static int gfs_take(struct gfs *g, const struct gfs_source *src, unsigned disk,
		    const struct gfs_part *part)
{
	struct gfs_probe p;
	struct gfs_fs *fs;

	gfs_probe(src, &p);
	if (p.lvm)
		return lvm_add_pv(g->lvm, src, disk);
	if ((p.type == GFS_UNKNOWN && !part) || g->n_fs >= GFS_FS_MAX)
		return 0;
	fs = gfs_new_fs(g, src, &p);
	if (!fs)
		return -ENOMEM;
	fs->info.disk = disk;
	if (part) {
		fs->info.partition = part->number;
		fs->info.esp = part->esp;
		memcpy(fs->part_uuid, part->uuid, sizeof(fs->part_uuid));
		memcpy(fs->part_label, part->label, sizeof(fs->part_label));
	}
	name_place(g, fs);
	return 0;
}

static int gfs_scan_disk(struct gfs *g, unsigned disk)
{
	const struct gfs_source *d = &g->disk[disk];
	CLEANUP_FREE struct gfs_part *part = NULL;
	size_t n;
	int r = parts_scan(d, &part, &n);

	if (!r && !n)
		r = gfs_take(g, d, disk, NULL);
	for (size_t i = 0; !r && i < n; i++) {
		struct window *w = gfs_new_window(g, d, part[i].off);
		struct gfs_source src = { window_read, w, part[i].len };

		r = w ? gfs_take(g, &src, disk, &part[i]) : -ENOMEM;
	}
	return r;
}

static int gfs_scan_lvm(struct gfs *g)
{
	int r = lvm_activate(g->lvm);

	for (size_t i = 0; !r && i < lvm_count(g->lvm) && g->n_fs < GFS_FS_MAX; i++) {
		struct gfs_source src;
		struct gfs_probe p;
		struct gfs_fs *fs;
		const char *name;
		unsigned disk;

		lvm_get(g->lvm, i, &name, &src, &disk);
		gfs_probe(&src, &p);
		fs = gfs_new_fs(g, &src, &p);
		if (!fs)
			return -ENOMEM;
		fs->info.disk = disk;
		snprintf(fs->where, sizeof(fs->where), "volume %s", name);
	}
	return r;
}

int gfs_open_sources(const struct gfs_source *src, size_t n, struct gfs **out, struct err *e)
{
	struct gfs *g;
	int r = 0;

	if (!n || n > GFS_DISKS_MAX)
		return err_set(e, -EINVAL, "%zu disks: 1 to %d can be looked at", n, GFS_DISKS_MAX);
	g = calloc(1, sizeof(*g));
	if (g) {
		g->disk = calloc(n, sizeof(*g->disk));
		g->lvm = lvm_new();
	}
	if (!g || !g->disk || !g->lvm) {
		gfs_close(g);
		return err_set(e, -ENOMEM, "out of memory");
	}
	memcpy(g->disk, src, n * sizeof(*src));
	g->n_disks = n;
	for (size_t i = 0; !r && i < n; i++)
		r = gfs_scan_disk(g, (unsigned)i);
	if (!r)
		r = gfs_scan_lvm(g);
	if (r) {
		gfs_close(g);
		return err_set(e, r, "reading partitions: %s", strerror(-r));
	}
	*out = g;
	return 0;
}

void gfs_close(struct gfs *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->n_fs; i++) {
		if (g->fs[i]->opened)
			g->fs[i]->ops->close(g->fs[i]);
		free(g->fs[i]);
	}
	for (size_t i = 0; i < g->n_windows; i++)
		free(g->window[i]);
	lvm_free(g->lvm);
	free(g->fs);
	free(g->window);
	free(g->disk);
	free(g);
}

size_t gfs_fs_count(const struct gfs *g)
{
	return g->n_fs;
}

struct gfs_fs *gfs_fs_get(struct gfs *g, size_t i)
{
	return i < g->n_fs ? g->fs[i] : NULL;
}

const struct gfs_fs_info *gfs_fs_info(const struct gfs_fs *fs)
{
	return &fs->info;
}

const char *gfs_lvm_problem(const struct gfs *g)
{
	return lvm_problem(g->lvm);
}

int gfs_use(struct gfs_fs *fs, struct err *e)
{
	struct err why = { 0 };

	if (fs->opened)
		return 0;
	if (!fs->ops)
		return err_set(e, -ENOTSUP, "%s is %s, which cannot be read", fs->where,
			       fs->info.type_name);
	if (!fs->open_error) {
		fs->open_error = fs->ops->open(fs, &why);
		fs->opened = !fs->open_error;
		if (fs->open_error)
			snprintf(fs->problem, sizeof(fs->problem), "%s",
				 why.code ? why.msg : strerror(-fs->open_error));
	}
	if (fs->open_error)
		return err_set(e, fs->open_error, "%s (%s): %s", fs->where, fs->info.type_name,
			       fs->problem);
	return 0;
}
