/* SPDX-License-Identifier: MIT */
/* Disks in memory, plain and sparse, and a walk over all they hold. */
#include "gfs_support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/overflow.h"

#define SECTOR 512u
#define WALK_NODES 400
#define WALK_DEPTH 6
#define WALK_READ KIB(64)

static int mem_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	struct mem_disk *m = ctx;

	if (!range_ok(off, len, m->size))
		abort(); /* the library promises to stay within the size */
	memcpy(buf, m->data + off, len);
	return 0;
}

struct gfs_source mem_source(struct mem_disk *m)
{
	return (struct gfs_source){ mem_read, m, m->size };
}

int sparse_open(struct sparse_disk *s, const uint8_t *data, size_t size)
{
	uint64_t sectors = size >= 4 ? load_le32(data) : 0;

	if (!sectors || sectors > SPARSE_SECTORS_MAX)
		return -EINVAL;
	s->size = sectors * SECTOR;
	s->sector = calloc(sectors, sizeof(*s->sector));
	if (!s->sector)
		return -ENOMEM;
	for (size_t off = 4; off + SPARSE_RECORD <= size; off += SPARSE_RECORD)
		if (load_le32(data + off) < sectors)
			s->sector[load_le32(data + off)] = data + off + 4;
	return 0;
}

void sparse_close(struct sparse_disk *s)
{
	free(s->sector);
}

static int sparse_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	struct sparse_disk *s = ctx;
	uint8_t *dst = buf;

	if (!range_ok(off, len, s->size))
		abort();
	while (len) {
		size_t in = off % SECTOR, n = MIN(len, SECTOR - in);
		const uint8_t *src = s->sector[off / SECTOR];

		if (src)
			memcpy(dst, src + in, n);
		else
			memset(dst, 0, n);
		dst += n;
		off += n;
		len -= n;
	}
	return 0;
}

struct gfs_source sparse_source(struct sparse_disk *s)
{
	return (struct gfs_source){ sparse_read, s, s->size };
}

/* ---- walking ------------------------------------------------------------------------------ */

struct exercise {
	struct gfs_fs *fs;
	const char *dir;
	unsigned depth, *nodes;
};

static void read_some(struct gfs_fs *fs, const char *path)
{
	static uint8_t buf[4096];
	struct gfs_file *f;
	uint64_t size;

	if (gfs_file_open(fs, path, &f, NULL))
		return;
	size = gfs_file_size(f);
	for (uint64_t off = 0; off < MIN(size, (uint64_t)WALK_READ); off += sizeof(buf))
		if (gfs_file_pread(f, off, buf, (size_t)MIN((uint64_t)sizeof(buf), size - off)))
			break;
	if (size)
		gfs_file_pread(f, size - 1, buf, 1);
	gfs_file_close(f);
}

static int visit(void *ctx, const char *name, enum gfs_kind kind)
{
	struct exercise *x = ctx, sub = { x->fs, NULL, x->depth + 1, x->nodes };
	char path[GFS_PATH_MAX], link[GFS_PATH_MAX];
	struct gfs_stat st;

	if (++*x->nodes > WALK_NODES)
		return 1;
	if (snprintf(path, sizeof(path), "%s/%s", x->dir, name) >= (int)sizeof(path))
		return 0;
	gfs_stat(x->fs, path, &st, NULL);
	if (gfs_lstat(x->fs, path, &st, NULL))
		return 0;
	if (st.kind == GFS_SYMLINK)
		gfs_readlink(x->fs, path, link, NULL);
	if (st.kind == GFS_FILE)
		read_some(x->fs, path);
	sub.dir = path;
	if (st.kind == GFS_DIR && x->depth < WALK_DEPTH)
		gfs_readdir(x->fs, path, visit, &sub, NULL);
	return 0;
}

void gfs_exercise(struct gfs *g)
{
	for (size_t i = 0; i < gfs_fs_count(g); i++) {
		unsigned nodes = 0;
		struct exercise x = { gfs_fs_get(g, i), "", 0, &nodes };
		struct err e = { 0 };

		gfs_readdir(x.fs, "/", visit, &x, &e);
	}
}

void gfs_exercise_sparse(const uint8_t *data, size_t size)
{
	struct sparse_disk s;
	struct gfs_source src;
	struct gfs *g;

	if (sparse_open(&s, data, size))
		return;
	src = sparse_source(&s);
	if (!gfs_open_sources(&src, 1, &g, NULL)) {
		gfs_exercise(g);
		gfs_close(g);
	}
	sparse_close(&s);
}
