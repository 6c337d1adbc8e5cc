/* SPDX-License-Identifier: MIT */
/*
 * Partition tables: GPT (UEFI 2.10, 5.3) with 512- and 4096-byte sectors, and MBR with
 * logical partitions.
 *
 * The disk is hostile: a table names at most GFS_PARTS_MAX entries, a chain of logical
 * partitions is followed for at most as many links, and no partition reaches beyond
 * the disk (one that does is cut, as a shortened image would have it).
 */
#include "gfs_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define MBR_SECTOR 512u
#define MBR_TABLE 446u /* four entries of 16 bytes */
#define MBR_DISK_ID 440u
#define MBR_EXTENDED_CHS 0x05
#define MBR_EXTENDED_LBA 0x0f
#define MBR_EXTENDED_LINUX 0x85
#define MBR_ESP 0xef
#define MBR_GPT_PROTECTIVE 0xee
#define MBR_LOGICAL_FIRST 5u
#define MBR_LOGICAL_MAX 128u

#define GPT_HEADER_MIN 92u
#define GPT_ENTRY_MIN 128u
#define GPT_ENTRY_MAX 4096u
#define GPT_NAME_UNITS 36u

/* C12A7328-F81F-11D2-BA4B-00A0C93EC93B as stored on disk. */
static const uint8_t esp_guid[16] = { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
				      0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };

int gfs_src_read(const struct gfs_source *src, uint64_t off, void *buf, size_t len)
{
	if (!range_ok(off, len, src->size))
		return -EINVAL;
	return len ? src->read(src->ctx, off, buf, len) : 0;
}

void gfs_uuid_text(const uint8_t *u, char out[GFS_UUID_TEXT])
{
	snprintf(out, GFS_UUID_TEXT,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		 u[15]);
}

void gfs_guid_text(const uint8_t *g, char out[GFS_UUID_TEXT])
{
	const uint8_t u[16] = { g[3], g[2], g[1],  g[0],  g[5],	 g[4],	g[7],  g[6],
				g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15] };

	gfs_uuid_text(u, out);
}

static size_t utf8_put(uint32_t c, char *out)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

size_t gfs_utf16_text(const uint8_t *units, size_t n, char *out, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t c = load_le16(units + 2 * i);

		if (!c)
			break;
		if (c >= 0xd800 && c < 0xdc00 && i + 1 < n) {
			uint32_t low = load_le16(units + 2 * i + 2);

			if (low >= 0xdc00 && low < 0xe000) {
				c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
				i++;
			}
		}
		if (c >= 0xd800 && c < 0xe000)
			c = 0xfffd; /* a lone surrogate has no UTF-8 form */
		if (len + 4 >= size)
			break;
		len += utf8_put(c, out + len);
	}
	out[len] = 0;
	return len;
}

/* ---- the list being filled ------------------------------------------------------------ */

struct parts {
	const struct gfs_source *disk;
	struct gfs_part *p;
	size_t n;
};

/* Add a partition cut to the disk; NULL if none of it lies on the disk or the list is full. */
static struct gfs_part *parts_add(struct parts *t, uint64_t off, uint64_t len, unsigned number)
{
	struct gfs_part *p;

	if (!len || off >= t->disk->size || t->n >= GFS_PARTS_MAX)
		return NULL;
	p = &t->p[t->n++];
	*p = (struct gfs_part){ .off = off,
				.len = MIN(len, t->disk->size - off),
				.number = number };
	return p;
}

/* ---- GPT -------------------------------------------------------------------------------- */

struct gpt {
	uint32_t sector; /* bytes */
	uint64_t table_off;
	uint32_t entries, entry_size, table_crc;
};

/* Read and check the header at @lba; sector size is g->sector. */
static int gpt_header(const struct gfs_source *disk, uint64_t lba, struct gpt *g)
{
	uint8_t h[4096];
	uint32_t size, crc;
	uint64_t off;

	if (!mul_u64(lba, g->sector, &off) || gfs_src_read(disk, off, h, g->sector))
		return -ENODATA;
	size = load_le32(h + 12);
	if (memcmp(h, "EFI PART", 8) || size < GPT_HEADER_MIN || size > g->sector)
		return -ENODATA;
	crc = load_le32(h + 16);
	store_le32(h + 16, 0);
	if (crc32(0, h, size) != crc || load_le64(h + 24) != lba)
		return -EUCLEAN;
	g->entries = load_le32(h + 80);
	g->entry_size = load_le32(h + 84);
	g->table_crc = load_le32(h + 88);
	if (!g->entries || g->entries > GFS_PARTS_MAX || g->entry_size < GPT_ENTRY_MIN ||
	    g->entry_size > GPT_ENTRY_MAX || !IS_POW2(g->entry_size))
		return -EUCLEAN;
	if (!mul_u64(load_le64(h + 72), g->sector, &g->table_off))
		return -EUCLEAN;
	return 0;
}

static void gpt_entry(struct parts *t, const struct gpt *g, const uint8_t *ent, unsigned number)
{
	static const uint8_t unused[16];
	uint64_t first = load_le64(ent + 32), last = load_le64(ent + 40);
	uint64_t off, len;
	struct gfs_part *p;

	if (!memcmp(ent, unused, 16) || first > last)
		return;
	if (!mul_u64(first, g->sector, &off) || !add_u64(last - first, 1, &len) ||
	    !mul_u64(len, g->sector, &len))
		return;
	p = parts_add(t, off, len, number);
	if (!p)
		return;
	p->esp = !memcmp(ent, esp_guid, 16);
	gfs_guid_text(ent + 16, p->uuid);
	gfs_utf16_text(ent + 56, GPT_NAME_UNITS, p->label, sizeof(p->label));
}

/* Take the table that the header at @lba describes; all of it or nothing. */
static int gpt_take(struct parts *t, uint64_t lba, uint32_t sector)
{
	struct gpt g = { .sector = sector };
	CLEANUP_FREE uint8_t *table = NULL;
	size_t size;
	int r = gpt_header(t->disk, lba, &g);

	if (r)
		return r;
	size = (size_t)g.entries * g.entry_size; /* at most 4 MiB */
	table = malloc(size);
	if (!table)
		return -ENOMEM;
	if (gfs_src_read(t->disk, g.table_off, table, size) ||
	    crc32(0, table, (uInt)size) != g.table_crc)
		return -EUCLEAN;
	for (uint32_t i = 0; i < g.entries; i++)
		gpt_entry(t, &g, table + (size_t)i * g.entry_size, i + 1);
	return 0;
}

static int gpt_scan(struct parts *t, bool protective)
{
	static const uint32_t sectors[] = { 512, 4096 };
	int r = -ENODATA;

	for (size_t i = 0; i < ARRAY_SIZE(sectors) && r; i++) {
		r = gpt_take(t, 1, sectors[i]);
		if (r == -ENOMEM)
			return r;
	}
	/* The copy at the end counts only where the first sector says that there is a GPT. */
	for (size_t i = 0; protective && i < ARRAY_SIZE(sectors) && r; i++) {
		if (t->disk->size >= 2 * (uint64_t)sectors[i])
			r = gpt_take(t, t->disk->size / sectors[i] - 1, sectors[i]);
	}
	return r;
}

/* ---- MBR -------------------------------------------------------------------------------- */

static bool mbr_is_extended(uint8_t type)
{
	return type == MBR_EXTENDED_CHS || type == MBR_EXTENDED_LBA || type == MBR_EXTENDED_LINUX;
}

static void mbr_add(struct parts *t, const uint8_t *ent, uint64_t base, unsigned number,
		    uint32_t id)
{
	uint64_t off = (base + load_le32(ent + 8)) * MBR_SECTOR;
	struct gfs_part *p = parts_add(t, off, (uint64_t)load_le32(ent + 12) * MBR_SECTOR, number);

	if (!p)
		return;
	p->esp = ent[4] == MBR_ESP;
	snprintf(p->uuid, sizeof(p->uuid), "%08x-%02x", id, number);
}

/* Logical partitions: a chain of sectors, each with one partition and a link. */
static void mbr_logical(struct parts *t, uint32_t ext_lba, uint32_t id)
{
	uint64_t lba = ext_lba;

	for (unsigned i = 0; i < MBR_LOGICAL_MAX; i++) {
		uint8_t s[MBR_SECTOR];
		const uint8_t *link = s + MBR_TABLE + 16;

		if (gfs_src_read(t->disk, lba * MBR_SECTOR, s, sizeof(s)) ||
		    load_le16(s + 510) != 0xaa55)
			return;
		if (s[MBR_TABLE + 4])
			mbr_add(t, s + MBR_TABLE, lba, MBR_LOGICAL_FIRST + i, id);
		if (!mbr_is_extended(link[4]) || !load_le32(link + 8))
			return;
		/* Links count from the extended partition; one that does not advance is a loop. */
		if ((uint64_t)ext_lba + load_le32(link + 8) <= lba)
			return;
		lba = (uint64_t)ext_lba + load_le32(link + 8);
	}
}

/* A boot sector of FAT or a boot loader also ends in 55 AA: every entry must make sense. */
static bool mbr_plausible(const uint8_t *s, uint64_t size)
{
	bool any = false;

	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *ent = s + MBR_TABLE + 16 * i;

		if (ent[0] & 0x7f)
			return false;
		if (!ent[4])
			continue;
		if (!load_le32(ent + 12) || (uint64_t)load_le32(ent + 8) * MBR_SECTOR >= size)
			return false;
		any = true;
	}
	return any;
}

static bool mbr_is_protective(const uint8_t *s)
{
	for (unsigned i = 0; i < 4; i++)
		if (s[MBR_TABLE + 16 * i + 4] == MBR_GPT_PROTECTIVE)
			return true;
	return false;
}

static void mbr_scan(struct parts *t, const uint8_t *s)
{
	uint32_t id = load_le32(s + MBR_DISK_ID);

	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *ent = s + MBR_TABLE + 16 * i;

		if (ent[4] && !mbr_is_extended(ent[4]))
			mbr_add(t, ent, 0, i + 1, id);
	}
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *ent = s + MBR_TABLE + 16 * i;

		if (mbr_is_extended(ent[4]))
			mbr_logical(t, load_le32(ent + 8), id);
	}
}

int parts_scan(const struct gfs_source *disk, struct gfs_part **out, size_t *n)
{
	uint8_t s[MBR_SECTOR];
	struct parts t = { .disk = disk };
	bool mbr;
	int r;

	*out = NULL;
	*n = 0;
	if (disk->size < 2 * MBR_SECTOR)
		return 0;
	r = gfs_src_read(disk, 0, s, sizeof(s));
	if (r)
		return r;
	t.p = calloc(GFS_PARTS_MAX, sizeof(*t.p));
	if (!t.p)
		return -ENOMEM;
	mbr = load_le16(s + 510) == 0xaa55 && mbr_plausible(s, disk->size);
	r = gpt_scan(&t, mbr && mbr_is_protective(s));
	if (r == -ENOMEM) {
		free(t.p);
		return r;
	}
	if (r && mbr)
		mbr_scan(&t, s);
	*out = t.p;
	*n = t.n;
	return 0;
}
