/* SPDX-License-Identifier: MIT */
/*
 * FAT12, FAT16 and FAT32 with long names: the EFI system partition.
 *
 * A node is the byte offset of a file's directory entry, the root's is FAT_ROOT. A chain
 * of clusters is followed for as many links as the file's size needs (a directory: as
 * many as 65,536 entries need), so that a loop in the table ends there.
 */
#include "gfs_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define FAT_ROOT 1u
#define DIRENT 32u
#define DIR_BYTES_MAX MIB(2) /* 65,536 entries */
#define CLUSTER_MAX 65536u
#define TABLE_WINDOW 4096u
#define LFN_UNITS 13u
#define LFN_PARTS_MAX 20u

enum { ATTR_VOLUME = 0x08, ATTR_DIR = 0x10, ATTR_LONG = 0x0f };
enum { CASE_BASE = 0x08, CASE_EXT = 0x10 };

struct fat {
	const struct gfs_source *src;
	unsigned bits;
	uint32_t cluster_bytes, clusters; /* data clusters are 2 … clusters + 1 */
	uint64_t table_off, table_bytes;
	uint64_t root_off, root_bytes; /* FAT12, FAT16 */
	uint32_t root_cluster;	       /* FAT32 */
	uint64_t data_off;
	uint64_t window_off; /* of the piece of the table held; UINT64_MAX: none */
	uint8_t window[TABLE_WINDOW];
};

/* ---- the table ----------------------------------------------------------------------------------
 */

static int table_byte(struct fat *f, uint64_t off, uint8_t *out)
{
	uint64_t base = ALIGN_DOWN(off, (uint64_t)TABLE_WINDOW);

	if (off >= f->table_bytes)
		return -EUCLEAN;
	if (f->window_off != base) {
		size_t n = (size_t)MIN((uint64_t)TABLE_WINDOW, f->table_bytes - base);
		int r;

		f->window_off = UINT64_MAX;
		r = gfs_src_read(f->src, f->table_off + base, f->window, n);
		if (r)
			return r;
		f->window_off = base;
	}
	*out = f->window[off - base];
	return 0;
}

static bool is_cluster(const struct fat *f, uint32_t c)
{
	return c >= 2 && c - 2 < f->clusters;
}

/* The cluster behind @c; 0 at the end of the chain. */
static int table_next(struct fat *f, uint32_t c, uint32_t *next)
{
	uint64_t off = f->bits == 12 ? c + c / 2 : (uint64_t)c * (f->bits / 8);
	uint8_t b[4] = { 0 };
	int r = 0;

	if (!is_cluster(f, c))
		return -EUCLEAN;
	for (unsigned i = 0; !r && i < (f->bits == 32 ? 4u : 2u); i++)
		r = table_byte(f, off + i, &b[i]);
	if (r)
		return r;
	*next = load_le32(b);
	if (f->bits == 12)
		*next = (c & 1 ? *next >> 4 : *next) & 0xfff;
	else if (f->bits == 32)
		*next &= 0x0fffffff;
	if (*next >= ((f->bits == 32 ? 1u << 28 : 1u << f->bits) - 8))
		*next = 0;
	else if (!is_cluster(f, *next))
		return -EUCLEAN;
	return 0;
}

static uint64_t cluster_off(const struct fat *f, uint32_t c)
{
	return f->data_off + (uint64_t)(c - 2) * f->cluster_bytes;
}

/* ---- opening
 * -------------------------------------------------------------------------------------- */

static int fat_layout(struct fat *f, const uint8_t *b)
{
	uint32_t sector = load_le16(b + 11), reserved = load_le16(b + 14), fats = b[16];
	uint32_t root_ents = load_le16(b + 17), fat_sectors = load_le16(b + 22);
	uint64_t total = load_le16(b + 19) ? load_le16(b + 19) : load_le32(b + 32), data;
	bool fat32 = !fat_sectors;

	if (fat32)
		fat_sectors = load_le32(b + 36);
	if (sector < 512 || sector > 4096 || !IS_POW2(sector) || !b[13] || !IS_POW2(b[13]) ||
	    !reserved || !fats || fats > 2 || !fat_sectors)
		return -EUCLEAN;
	f->cluster_bytes = sector * b[13];
	f->table_off = (uint64_t)reserved * sector;
	f->table_bytes = (uint64_t)fat_sectors * sector;
	f->root_off = f->table_off + fats * f->table_bytes;
	f->root_bytes = ALIGN_UP((uint64_t)root_ents * DIRENT, (uint64_t)sector);
	f->data_off = f->root_off + f->root_bytes;
	total *= sector;
	if (f->cluster_bytes > CLUSTER_MAX || total > f->src->size || f->data_off >= total)
		return -EUCLEAN;
	data = (total - f->data_off) / f->cluster_bytes;
	if (!data || data > 0x0ffffff4)
		return -EUCLEAN;
	f->clusters = (uint32_t)data;
	f->bits = fat32 ? 32 : f->clusters < 4085 ? 12 : 16;
	f->root_cluster = fat32 ? load_le32(b + 44) & 0x0fffffff : 0;
	return 0;
}

static int fat_open(struct gfs_fs *fs, struct err *e)
{
	struct fat *f = calloc(1, sizeof(*f));
	uint8_t boot[512];
	int r;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->src = &fs->src;
	f->window_off = UINT64_MAX;
	r = gfs_src_read(&fs->src, 0, boot, sizeof(boot));
	if (!r)
		r = fat_layout(f, boot);
	if (r) {
		free(f);
		return err_set(e, r, "%s",
			       r == -EUCLEAN ? "its boot sector is damaged, or it is cut short"
					     : strerror(-r));
	}
	fs->priv = f;
	fs->root = FAT_ROOT;
	return 0;
}

static void fat_close(struct gfs_fs *fs)
{
	free(fs->priv);
}

/* ---- directories
 * ------------------------------------------------------------------------------------- */

struct fat_name {
	uint8_t units[2 * LFN_UNITS * LFN_PARTS_MAX + 2]; /* of the long name being put together */
	unsigned parts, expect; /* parts in all, and the one that comes next */
	uint8_t sum;
	char name[GFS_NAME_MAX + 1]; /* what is shown */
	char alias[16];		     /* 8.3 */
};

struct fat_walk {
	struct fat *f;
	gfs_dirent_fn fn;
	void *ctx;
	const char *want;
	uint64_t found;
	struct fat_name n;
};

static uint8_t alias_sum(const uint8_t *d)
{
	uint8_t s = 0;

	for (unsigned i = 0; i < 11; i++)
		s = (uint8_t)((s >> 1 | s << 7) + d[i]);
	return s;
}

/* One part of a long name; they come last part first. */
static void long_part(struct fat_name *n, const uint8_t *d)
{
	static const uint8_t places[LFN_UNITS] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
	unsigned part = d[0] & 0x3f;

	if (d[0] & 0x40) {
		n->parts = n->expect = part <= LFN_PARTS_MAX ? part : 0;
		n->sum = d[13];
		memset(n->units, 0, sizeof(n->units));
	}
	if (!part || part != n->expect || d[13] != n->sum) {
		n->parts = 0;
		return;
	}
	n->expect--;
	for (unsigned i = 0; i < LFN_UNITS; i++)
		memcpy(n->units + 2 * ((part - 1) * LFN_UNITS + i), d + places[i], 2);
}

static size_t alias_part(const uint8_t *d, size_t n, bool lower, char *out)
{
	while (n && d[n - 1] == ' ')
		n--;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = d[i];

		if (lower && c >= 'A' && c <= 'Z')
			c = (uint8_t)(c + 32);
		out[i] = c < 0x20 || c >= 0x7f || c == '/' ? '?' : (char)c; /* no code page here */
	}
	return n;
}

static void make_names(struct fat_name *n, const uint8_t *d)
{
	size_t len = alias_part(d, 8, d[12] & CASE_BASE, n->alias), ext;

	ext = alias_part(d + 8, 3, d[12] & CASE_EXT, n->alias + len + 1);
	if (ext)
		n->alias[len] = '.';
	n->alias[len + (ext ? ext + 1 : 0)] = 0;
	n->name[0] = 0;
	if (n->parts && !n->expect && n->sum == alias_sum(d))
		gfs_utf16_text(n->units, (size_t)n->parts * LFN_UNITS, n->name, sizeof(n->name));
	if (!n->name[0] || strchr(n->name, '/'))
		memcpy(n->name, n->alias, sizeof(n->alias));
	n->parts = 0;
}

/* Non-zero ends the walk; *@end at the directory's last entry. */
static int dir_entry(struct fat_walk *w, const uint8_t *d, uint64_t off, bool *end)
{
	if (!d[0]) {
		*end = true;
		return 0;
	}
	if (d[0] == 0xe5 || d[0] == '.') {
		w->n.parts = 0;
		return 0;
	}
	if ((d[11] & ATTR_LONG) == ATTR_LONG) {
		long_part(&w->n, d);
		return 0;
	}
	if (d[11] & ATTR_VOLUME)
		return 0;
	make_names(&w->n, d);
	if (!w->want)
		return w->fn(w->ctx, w->n.name, d[11] & ATTR_DIR ? GFS_DIR : GFS_FILE);
	if (strcasecmp(w->want, w->n.name) && strcasecmp(w->want, w->n.alias))
		return 0;
	w->found = off;
	return 1;
}

static int dir_piece(struct fat_walk *w, uint64_t off, uint64_t len, bool *end)
{
	uint8_t buf[4096];
	int r = 0;

	while (!r && len && !*end) {
		size_t n = (size_t)MIN(len, (uint64_t)sizeof(buf));

		r = gfs_src_read(w->f->src, off, buf, n);
		for (size_t i = 0; !r && !*end && i + DIRENT <= n; i += DIRENT)
			r = dir_entry(w, buf + i, off + i, end);
		off += n;
		len -= n;
	}
	return r;
}

static int read_dirent(struct fat *f, uint64_t node, uint8_t d[DIRENT])
{
	if (node < f->root_off || !IS_ALIGNED(node, (uint64_t)DIRENT))
		return -EUCLEAN;
	return gfs_src_read(f->src, node, d, DIRENT);
}

static uint32_t dirent_cluster(const struct fat *f, const uint8_t *d)
{
	return load_le16(d + 26) | (f->bits == 32 ? (uint32_t)load_le16(d + 20) << 16 : 0);
}

static int walk_dir(struct fat_walk *w, uint64_t node)
{
	struct fat *f = w->f;
	uint32_t c = f->root_cluster;
	bool end = false;
	int r = 0;

	if (node == FAT_ROOT && f->bits != 32)
		return dir_piece(w, f->root_off, f->root_bytes, &end);
	if (node != FAT_ROOT) {
		uint8_t d[DIRENT];

		r = read_dirent(f, node, d);
		if (r)
			return r;
		c = dirent_cluster(f, d);
	}
	for (uint64_t done = 0; !r && c && !end && done < DIR_BYTES_MAX; done += f->cluster_bytes) {
		if (!is_cluster(f, c))
			return -EUCLEAN;
		r = dir_piece(w, cluster_off(f, c), f->cluster_bytes, &end);
		if (!r)
			r = table_next(f, c, &c);
	}
	return r;
}

static int fat_lookup(struct gfs_fs *fs, uint64_t dir, const char *name, uint64_t *node)
{
	struct fat_walk w = { .f = fs->priv, .want = name };
	int r = walk_dir(&w, dir);

	*node = w.found;
	return r < 0 ? r : w.found ? 0 : -ENOENT;
}

static int fat_readdir(struct gfs_fs *fs, uint64_t dir, gfs_dirent_fn fn, void *ctx)
{
	struct fat_walk w = { .f = fs->priv, .fn = fn, .ctx = ctx };

	return walk_dir(&w, dir);
}

/* ---- files
 * -----------------------------------------------------------------------------------------------
 */

static uint64_t fat_time(uint16_t date, uint16_t t)
{
	struct tm tm = { .tm_year = (date >> 9) + 80,
			 .tm_mon = (date >> 5 & 15) - 1,
			 .tm_mday = date & 31,
			 .tm_hour = t >> 11,
			 .tm_min = t >> 5 & 63,
			 .tm_sec = (t & 31) * 2 };

	return date ? (uint64_t)timegm(&tm) : 0;
}

static int fat_stat(struct gfs_fs *fs, uint64_t node, struct gfs_stat *st)
{
	uint8_t d[DIRENT];
	int r;

	*st = (struct gfs_stat){ .kind = GFS_DIR, .mode = 0755 };
	if (node == FAT_ROOT)
		return 0;
	r = read_dirent(fs->priv, node, d);
	if (r)
		return r;
	st->mtime = fat_time(load_le16(d + 24), load_le16(d + 22));
	if (!(d[11] & ATTR_DIR)) {
		st->kind = GFS_FILE;
		st->mode = 0644;
		st->size = load_le32(d + 28);
	}
	return 0;
}

static int fat_readlink(struct gfs_fs *fs, uint64_t node, char buf[GFS_PATH_MAX])
{
	return -EINVAL;
}

struct run {
	uint32_t index, cluster, n; /* clusters of the file, and where they lie */
};
struct fat_file {
	struct run *run;
	size_t n, cap;
};

static int run_add(struct fat_file *ff, uint32_t index, uint32_t cluster)
{
	struct run *last = ff->n ? &ff->run[ff->n - 1] : NULL;

	if (last && last->cluster + last->n == cluster) {
		last->n++;
		return 0;
	}
	if (ff->n == ff->cap) {
		size_t cap = MAX(2 * ff->cap, (size_t)8);
		struct run *p = realloc(ff->run, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		ff->run = p;
		ff->cap = cap;
	}
	ff->run[ff->n++] = (struct run){ index, cluster, 1 };
	return 0;
}

static void fat_file_close(struct gfs_fs *fs, void *h)
{
	struct fat_file *ff = h;

	free(ff->run);
	free(ff);
}

static int fat_file_open(struct gfs_fs *fs, uint64_t node, void **h)
{
	struct fat *f = fs->priv;
	struct fat_file *ff;
	uint8_t d[DIRENT];
	uint32_t c, need;
	int r = read_dirent(f, node, d);

	if (r)
		return r;
	need = (uint32_t)DIV_ROUND_UP((uint64_t)load_le32(d + 28), (uint64_t)f->cluster_bytes);
	if (need > f->clusters)
		return -EUCLEAN;
	ff = calloc(1, sizeof(*ff));
	if (!ff)
		return -ENOMEM;
	c = dirent_cluster(f, d);
	for (uint32_t i = 0; !r && i < need; i++) {
		r = is_cluster(f, c) ? run_add(ff, i, c) : -EUCLEAN;
		if (!r && i + 1 < need)
			r = table_next(f, c, &c);
	}
	if (r)
		fat_file_close(fs, ff);
	else
		*h = ff;
	return r;
}

static int fat_file_read(struct gfs_fs *fs, void *h, uint64_t off, void *buf, size_t len)
{
	const struct fat *f = fs->priv;
	const struct fat_file *ff = h;
	uint8_t *dst = buf;

	while (len) {
		uint64_t in = off % f->cluster_bytes, index = off / f->cluster_bytes;
		size_t lo = 0, hi = ff->n, n;
		const struct run *run;
		int r;

		while (hi - lo > 1) {
			size_t mid = lo + (hi - lo) / 2;

			if (ff->run[mid].index <= index)
				lo = mid;
			else
				hi = mid;
		}
		run = &ff->run[lo];
		in += (index - run->index) * f->cluster_bytes;
		n = (size_t)MIN((uint64_t)len, (uint64_t)run->n * f->cluster_bytes - in);
		r = gfs_src_read(f->src, cluster_off(f, run->cluster) + in, dst, n);
		if (r)
			return r;
		off += n;
		dst += n;
		len -= n;
	}
	return 0;
}

const struct gfs_ops gfs_fat_ops = {
	.open = fat_open,
	.close = fat_close,
	.stat = fat_stat,
	.lookup = fat_lookup,
	.readlink = fat_readlink,
	.readdir = fat_readdir,
	.file_open = fat_file_open,
	.file_read = fat_file_read,
	.file_close = fat_file_close,
};
