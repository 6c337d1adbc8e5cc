/* SPDX-License-Identifier: MIT */
/*
 * What lib/guestfs sees in disk images, for the integration tests to compare with others.
 *
 *   gfstool fs IMAGE...                  file systems, one a line
 *   gfstool ls N PATH IMAGE...           names in a directory of file system N (from 0), sorted by
 * nobody gfstool cat N PATH IMAGE...          a file's bytes gfstool tree N PATH IMAGE... every
 * file below PATH: kind, size, sum, name gfstool boot|boot-json IMAGE...      boot entries gfstool
 * kernel|initrd WHICH IMAGE... bytes of an entry's kernel, or of its initrds joined gfstool cmdline
 * WHICH IMAGE...       its command line with a serial console
 */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "hv/block.h"
#include "hv/bytes.h"
#include "hv/fd.h"
#include "../../lib/guestfs/gfs_priv.h"

#define PIECE 65536
#define IMAGES_MAX 16

static int fail(const struct err *e)
{
	fprintf(stderr, "gfstool: %s\n", e->msg);
	return 1;
}

static int copy_out(struct gfs_file *f)
{
	static uint8_t buf[PIECE];
	uint64_t size = gfs_file_size(f);

	for (uint64_t off = 0; off < size; off += PIECE) {
		size_t n = (size_t)MIN((uint64_t)PIECE, size - off);

		if (gfs_file_pread(f, off, buf, n) || fwrite(buf, 1, n, stdout) != n)
			return 1;
	}
	return 0;
}

static int cmd_fs(struct gfs *g)
{
	for (size_t i = 0; i < gfs_fs_count(g); i++) {
		struct gfs_fs *fs = gfs_fs_get(g, i);
		const struct gfs_fs_info *in = gfs_fs_info(fs);
		struct gfs_stat st;

		if (in->type != GFS_FOREIGN && in->type != GFS_UNKNOWN)
			gfs_stat(fs, "/", &st, NULL);
		printf("%zu|%s|%s|uuid=%s|label=%s|partuuid=%s|partlabel=%s|esp=%d|size=%" PRIu64
		       "|note=%s|problem=%s\n",
		       i, in->where, in->type_name, in->uuid, in->label, in->part_uuid,
		       in->part_label, in->esp, in->size, in->note, in->problem);
	}
	return 0;
}

static int print_name(void *ctx, const char *name, enum gfs_kind kind)
{
	printf("%s\n", name);
	return 0;
}

static int cmd_cat(struct gfs_fs *fs, const char *path, struct err *e)
{
	struct gfs_file *f;
	int r;

	if (gfs_file_open(fs, path, &f, e))
		return fail(e);
	r = copy_out(f);
	gfs_file_close(f);
	return r;
}

static int cmd_dump(struct gfs_fs *fs, struct err *e)
{
	static uint8_t buf[PIECE];
	uint64_t size = gfs_fs_info(fs)->size;

	if (gfs_use(fs, e))
		return fail(e);
	for (uint64_t off = 0; off < size; off += PIECE) {
		size_t n = (size_t)MIN((uint64_t)PIECE, size - off);
		int r = fs->ops == &gfs_ext4_ops ? gfs_ext4_raw_read(fs, off, buf, n)
						 : gfs_src_read(&fs->src, off, buf, n);

		if (r || fwrite(buf, 1, n, stdout) != n)
			return 1;
	}
	return 0;
}

/* Size, then every sector that is not all zeros with its number in front. */
static int cmd_sparse(const struct gfs_source *src)
{
	static const uint8_t zeros[512];
	uint8_t rec[4 + 512];

	store_le32(rec, (uint32_t)(src->size / 512));
	fwrite(rec, 1, 4, stdout);
	for (uint64_t i = 0; i < src->size / 512; i++) {
		store_le32(rec, (uint32_t)i);
		if (src->read(src->ctx, i * 512, rec + 4, 512))
			return 1;
		if (memcmp(rec + 4, zeros, 512))
			fwrite(rec, 1, sizeof(rec), stdout);
	}
	return 0;
}

struct tree {
	struct gfs_fs *fs;
	const char *dir;
	unsigned depth;
};

static uint32_t file_sum(struct gfs_fs *fs, const char *path, int *r)
{
	static uint8_t buf[PIECE];
	struct gfs_file *f;
	uint32_t crc = 0;

	*r = gfs_file_open(fs, path, &f, NULL);
	if (*r)
		return 0;
	for (uint64_t off = 0; !*r && off < gfs_file_size(f); off += PIECE) {
		size_t n = (size_t)MIN((uint64_t)PIECE, gfs_file_size(f) - off);

		*r = gfs_file_pread(f, off, buf, n);
		crc = (uint32_t)crc32(crc, buf, (uInt)n);
	}
	gfs_file_close(f);
	return crc;
}

static int tree_entry(void *ctx, const char *name, enum gfs_kind kind)
{
	struct tree *t = ctx, sub = { t->fs, NULL, t->depth + 1 };
	char path[GFS_PATH_MAX], link[GFS_PATH_MAX] = "";
	struct gfs_stat st;
	uint32_t sum = 0;
	int r;

	snprintf(path, sizeof(path), "%s/%s", strcmp(t->dir, "/") ? t->dir : "", name);
	r = gfs_lstat(t->fs, path, &st, NULL);
	if (!r && st.kind == GFS_FILE)
		sum = file_sum(t->fs, path, &r);
	if (!r && st.kind == GFS_SYMLINK)
		r = gfs_readlink(t->fs, path, link, NULL);
	if (r) {
		printf("! %s: %s\n", path, strerror(-r));
		return 0;
	}
	printf("%c %" PRIu64 " %08x %s %s\n", "fdls"[st.kind], st.kind == GFS_FILE ? st.size : 0,
	       sum, path, link);
	sub.dir = path;
	return st.kind == GFS_DIR && t->depth < 32
		       ? gfs_readdir(t->fs, path, tree_entry, &sub, NULL)
		       : 0;
}

static int cmd_boot(struct gfs *g, bool json)
{
	struct boot_list l;
	struct err e = { 0 };

	if (gfs_boot_entries(g, &l, &e))
		return fail(&e);
	if (json) {
		json_t *j = boot_list_json(&l);

		json_dumpf(j, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(j);
	} else {
		boot_list_print(&l, stdout);
	}
	boot_list_free(&l);
	return 0;
}

static int put_file(const struct boot_file *bf, struct err *e)
{
	struct gfs_file *f;
	int r;

	if (boot_file_open(bf, &f, e))
		return fail(e);
	r = copy_out(f);
	gfs_file_close(f);
	return r;
}

static int put_cmdline(const struct boot_entry *be)
{
	CLEANUP_FREE char *s = boot_cmdline_serial(be->cmdline, NULL);

	puts(s ? s : "");
	return 0;
}

static int cmd_entry(struct gfs *g, const char *cmd, const char *which)
{
	struct boot_list l;
	struct err e = { 0 };
	size_t i;
	int r = 0;

	if (gfs_boot_entries(g, &l, &e))
		return fail(&e);
	if (boot_list_choose(&l, *which ? which : NULL, &i, &e))
		r = fail(&e);
	else if (!strcmp(cmd, "kernel"))
		r = put_file(&l.entry[i].kernel, &e);
	else if (!strcmp(cmd, "cmdline"))
		r = put_cmdline(&l.entry[i]);
	for (size_t k = 0; !r && !strcmp(cmd, "initrd") && k < l.entry[i].n_initrd; k++)
		r = put_file(&l.entry[i].initrd[k], &e);
	boot_list_free(&l);
	return r;
}

static int run(struct gfs *g, const char *cmd, char **arg)
{
	struct gfs_fs *fs;
	struct err e = { 0 };

	if (!strcmp(cmd, "fs"))
		return cmd_fs(g);
	if (!strcmp(cmd, "boot") || !strcmp(cmd, "boot-json"))
		return cmd_boot(g, cmd[4]);
	if (!strcmp(cmd, "kernel") || !strcmp(cmd, "initrd") || !strcmp(cmd, "cmdline"))
		return cmd_entry(g, cmd, arg[0]);
	fs = gfs_fs_get(g, strtoul(arg[0], NULL, 10));
	if (!fs)
		return 1;
	if (!strcmp(cmd, "dump"))
		return cmd_dump(fs, &e);
	if (!strcmp(cmd, "cat"))
		return cmd_cat(fs, arg[1], &e);
	if (!strcmp(cmd, "ls"))
		return gfs_readdir(fs, arg[1], print_name, NULL, &e) ? fail(&e) : 0;
	if (!strcmp(cmd, "tree")) {
		struct tree t = { fs, arg[1], 0 };

		return gfs_readdir(fs, arg[1], tree_entry, &t, &e) ? fail(&e) : 0;
	}
	return 2;
}

static int operands(const char *cmd)
{
	if (!strcmp(cmd, "fs") || !strcmp(cmd, "sparse") || !strncmp(cmd, "boot", 4))
		return 0;
	return !strcmp(cmd, "cat") || !strcmp(cmd, "ls") || !strcmp(cmd, "tree") ? 2 : 1;
}

/* Through lib/block, so that qcow2 images and the adaptor are tried as well. */
static int open_image(const char *path, struct blk **out, struct err *e)
{
	struct blk_open o = { .path = path, .readonly = true, .no_lock = true };
	int r;

	o.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (o.fd < 0)
		return err_errno(e, "%s", path);
	r = blk_open(&o, out, e);
	if (r)
		close(o.fd);
	return r;
}

static int blk_read_sector(void *ctx, uint64_t off, void *buf, size_t len)
{
	return blk_pread(ctx, off, buf, len);
}

int main(int argc, char **argv)
{
	struct blk *disk[IMAGES_MAX];
	struct err e = { 0 };
	size_t n = 0;
	struct gfs *g;
	int first, r = 0;

	if (argc < 3 || argc <= 2 + (first = operands(argv[1])))
		return 2;
	for (int i = 2 + first; i < argc && n < IMAGES_MAX; i++, n++)
		if (open_image(argv[i], &disk[n], &e))
			return fail(&e);
	if (!strcmp(argv[1], "sparse")) {
		struct gfs_source src = { blk_read_sector, disk[0], blk_size(disk[0]) };

		r = cmd_sparse(&src);
	} else if (gfs_open(disk, n, &g, &e)) {
		r = fail(&e);
	} else {
		r = run(g, argv[1], argv + 2);
		gfs_close(g);
	}
	while (n)
		blk_close(disk[--n]);
	return r;
}
