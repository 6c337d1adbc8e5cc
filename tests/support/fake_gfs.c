/* SPDX-License-Identifier: MIT */
/*
 * File systems made of a table of paths: the readers of boot configurations are tested
 * on these, without an image of any real kind.
 *
 * The disk is real to gfs_open_sources(): an MBR whose partitions start with a FAT boot
 * sector. Then the drivers are replaced by one that answers from the table.
 */
#include "gfs_support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/guestfs/gfs_priv.h"
#include "hv/bytes.h"
#include "hv/fd.h"

#define PARTS_MAX 4
#define PART_SECTORS 16u
#define NODES_MAX 512
#define NODE_ROOT 1

struct node {
	unsigned part;
	char *path;		      /* "" is the root */
	const struct fake_file *file; /* NULL: a directory */
};

struct fake_disk {
	struct mem_disk mem;
	struct gfs *g;
	const struct fake_part *part;
	struct node node[NODES_MAX]; /* [0] unused */
	size_t n;
};

static struct fake_disk *disk_of(const struct gfs_fs *fs)
{
	return fs->src.ctx; /* put there by fake_open() */
}

static bool is_link(const struct fake_file *f)
{
	return f && !strncmp(f->content, "-> ", 3);
}

static size_t find_node(const struct fake_disk *d, unsigned part, const char *path)
{
	for (size_t i = NODE_ROOT; i <= d->n; i++)
		if (d->node[i].part == part && !strcmp(d->node[i].path, path))
			return i;
	return 0;
}

static void add_node(struct fake_disk *d, unsigned part, const char *path,
		     const struct fake_file *f)
{
	char *slash;
	char *up = strdup(path);

	slash = strrchr(up, '/');
	if (slash) {
		*slash = 0;
		if (!find_node(d, part, up))
			add_node(d, part, up, NULL);
	}
	free(up);
	if (find_node(d, part, path) || d->n + 1 >= NODES_MAX)
		return;
	d->node[++d->n] = (struct node){ part, strdup(path), f };
}

static int fake_fs_open(struct gfs_fs *fs, struct err *e)
{
	const struct fake_part *p = &disk_of(fs)->part[fs->info.partition - 1];

	fs->root = find_node(disk_of(fs), fs->info.partition, "");
	return p->problem ? err_set(e, -ENOTSUP, "%s", p->problem) : 0;
}

static void fake_fs_close(struct gfs_fs *fs)
{
}

static int fake_stat(struct gfs_fs *fs, uint64_t node, struct gfs_stat *st)
{
	const struct fake_file *f = disk_of(fs)->node[node].file;

	*st = (struct gfs_stat){ .kind = !f ? GFS_DIR : is_link(f) ? GFS_SYMLINK : GFS_FILE };
	if (f)
		st->size = f->len ? f->len : strlen(f->content);
	return 0;
}

static int fake_lookup(struct gfs_fs *fs, uint64_t dir, const char *name, uint64_t *node)
{
	const struct fake_disk *d = disk_of(fs);
	CLEANUP_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", d->node[dir].path, name) < 0)
		return -ENOMEM;
	*node = find_node(d, fs->info.partition, path);
	return *node ? 0 : -ENOENT;
}

static int fake_readlink(struct gfs_fs *fs, uint64_t node, char buf[GFS_PATH_MAX])
{
	snprintf(buf, GFS_PATH_MAX, "%s", disk_of(fs)->node[node].file->content + 3);
	return 0;
}

static int fake_readdir(struct gfs_fs *fs, uint64_t dir, gfs_dirent_fn fn, void *ctx)
{
	const struct fake_disk *d = disk_of(fs);
	const char *base = d->node[dir].path;
	size_t n = strlen(base);
	int r = 0;

	for (size_t i = NODE_ROOT; !r && i <= d->n; i++) {
		const struct node *c = &d->node[i];

		if (c->part != fs->info.partition || strncmp(c->path, base, n) ||
		    c->path[n] != '/' || strchr(c->path + n + 1, '/'))
			continue;
		r = fn(ctx, c->path + n + 1,
		       !c->file		  ? GFS_DIR
		       : is_link(c->file) ? GFS_SYMLINK
					  : GFS_FILE);
	}
	return r;
}

static int fake_file_open(struct gfs_fs *fs, uint64_t node, void **h)
{
	*h = (void *)disk_of(fs)->node[node].file;
	return 0;
}

static int fake_file_read(struct gfs_fs *fs, void *h, uint64_t off, void *buf, size_t len)
{
	const struct fake_file *f = h;

	memcpy(buf, f->content + off, len);
	return 0;
}

static void fake_file_close(struct gfs_fs *fs, void *h)
{
}

static const struct gfs_ops fake_ops = {
	.open = fake_fs_open,
	.close = fake_fs_close,
	.stat = fake_stat,
	.lookup = fake_lookup,
	.readlink = fake_readlink,
	.readdir = fake_readdir,
	.file_open = fake_file_open,
	.file_read = fake_file_read,
	.file_close = fake_file_close,
};

/* Enough of a boot sector to be taken for FAT. */
static void put_boot_sector(uint8_t *s)
{
	static const uint8_t head[] = { 0xeb, 0x3c, 0x90, 'f', 'a', 'k',  'e', ' ',
					' ',  ' ',  ' ',  0,   2,   1,	  1,   0,
					1,    16,   0,	  16,  0,   0xf8, 1,   0 };

	memcpy(s, head, sizeof(head));
}

static void put_partition(struct fake_disk *d, size_t i)
{
	uint8_t *ent = d->mem.data + 446 + 16 * i;

	ent[4] = d->part[i].esp ? 0xef : 0x83;
	store_le32(ent + 8, (uint32_t)(1 + i * PART_SECTORS));
	store_le32(ent + 12, PART_SECTORS);
	put_boot_sector(d->mem.data + 512 * (1 + i * PART_SECTORS));
}

static void take_over(struct fake_disk *d, struct gfs_fs *fs)
{
	const struct fake_part *p = &d->part[fs->info.partition - 1];

	fs->info.type = p->type;
	fs->info.type_name = p->type_name ? p->type_name : "ext4";
	fs->ops = p->type == GFS_FOREIGN ? NULL : &fake_ops;
	fs->src.ctx = d;
	snprintf(fs->uuid, sizeof(fs->uuid), "%s", p->uuid ? p->uuid : "");
	snprintf(fs->label, sizeof(fs->label), "%s", p->label ? p->label : "");
}

struct fake_disk *fake_open(const struct fake_part *part, size_t n_parts,
			    const struct fake_file *file)
{
	struct fake_disk *d = calloc(1, sizeof(*d));
	struct gfs_source src;

	d->part = part;
	d->mem.size = 512 * (1 + PARTS_MAX * PART_SECTORS);
	d->mem.data = calloc(1, d->mem.size);
	store_le16(d->mem.data + 510, 0xaa55);
	for (size_t i = 0; i < n_parts; i++) {
		put_partition(d, i);
		add_node(d, (unsigned)i + 1, "", NULL);
	}
	for (; file->path; file++)
		add_node(d, file->part, file->path, file);
	src = mem_source(&d->mem);
	if (gfs_open_sources(&src, 1, &d->g, NULL) || gfs_fs_count(d->g) != n_parts)
		abort();
	for (size_t i = 0; i < n_parts; i++)
		take_over(d, gfs_fs_get(d->g, i));
	return d;
}

struct gfs *fake_gfs(struct fake_disk *d)
{
	return d->g;
}

void fake_close(struct fake_disk *d)
{
	gfs_close(d->g);
	for (size_t i = NODE_ROOT; i <= d->n; i++)
		free(d->node[i].path);
	free(d->mem.data);
	free(d);
}
