/* SPDX-License-Identifier: MIT */
/*
 * What a window holds, by magic number; UUID and label where they are cheap to read.
 *
 * Much of what is named here cannot be read: it is recognised so that a message can
 * say "partition 2 is btrfs" instead of "nothing found".
 */
#include "gfs_priv.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define HEAD_BYTES 0x22000u /* reaches ZFS's first überblocks at 128 KiB */

struct magic {
	uint32_t off, len;
	const char *bytes;
	enum gfs_type type;
	const char *name;
	uint32_t uuid_off; /* 16 bytes; 0: none known */
	uint32_t label_off, label_len;
};

/* First match wins: containers before what they may contain by accident. */
static const struct magic magics[] = {
	{ 0, 6, "LUKS\xba\xbe", GFS_FOREIGN, "LUKS (encrypted)", 0, 0, 0 },
	{ 3, 8, "-FVE-FS-", GFS_FOREIGN, "BitLocker (encrypted)", 0, 0, 0 },
	{ 4096, 4, "\xfc\x4e\x2b\xa9", GFS_FOREIGN, "Linux RAID member", 4096 + 16, 4096 + 32, 32 },
	{ 0, 4, "\xfc\x4e\x2b\xa9", GFS_FOREIGN, "Linux RAID member", 16, 32, 32 },
	{ 0x10040, 8, "_BHRfS_M", GFS_FOREIGN, "btrfs", 0x10020, 0x1012b, 256 },
	{ 0, 4, "XFSB", GFS_XFS, "xfs", 32, 108, 12 },
	{ 1024 + 56, 2, "\x53\xef", GFS_EXT, "ext2", 1024 + 104, 1024 + 120, 16 },
	{ 3, 8, "NTFS    ", GFS_FOREIGN, "NTFS", 0, 0, 0 },
	{ 3, 8, "EXFAT   ", GFS_FOREIGN, "exFAT", 0, 0, 0 },
	{ 4086, 10, "SWAPSPACE2", GFS_FOREIGN, "swap", 0x40c, 0x41c, 16 },
	{ 1024, 4, "\x10\x20\xf5\xf2", GFS_FOREIGN, "f2fs", 1024 + 108, 0, 0 },
	{ 1024, 4, "\xe2\xe1\xf5\xe0", GFS_FOREIGN, "erofs", 1024 + 48, 0, 0 },
	{ 0, 4, "hsqs", GFS_FOREIGN, "squashfs", 0, 0, 0 },
	{ 32769, 5, "CD001", GFS_FOREIGN, "ISO 9660", 0, 0, 0 },
	{ 32768, 4, "JFS1", GFS_FOREIGN, "JFS", 0, 0, 0 },
	{ 65536 + 52, 8, "ReIsErFs", GFS_FOREIGN, "ReiserFS", 65536 + 84, 65536 + 100, 16 },
	{ 65536 + 52, 8, "ReIsEr2F", GFS_FOREIGN, "ReiserFS", 65536 + 84, 65536 + 100, 16 },
	{ 4096 + 24, 4, "\xc6\x85\x73\xf6", GFS_FOREIGN, "bcache", 0, 0, 0 },
	{ 4096 + 24, 4, "\xce\x8b\x4e\x15", GFS_FOREIGN, "bcachefs", 0, 0, 0 },
};

static bool head_has(const uint8_t *head, size_t n, size_t off, const void *bytes, size_t len)
{
	return range_ok(off, len, n) && !memcmp(head + off, bytes, len);
}

/* A fixed-size field, ended by NUL or trailing spaces. */
static void text_field(const uint8_t *head, size_t n, size_t off, size_t len,
		       char out[GFS_LABEL_TEXT])
{
	len = MIN(len, (size_t)GFS_LABEL_TEXT - 1);
	if (!range_ok(off, len, n))
		return;
	memcpy(out, head + off, len);
	out[len] = 0;
	len = strlen(out);
	while (len && out[len - 1] == ' ')
		out[--len] = 0;
}

/* ext4, ext3, ext2 as blkid tells them apart: by features. */
static const char *ext_name(const uint8_t *sb)
{
	uint32_t compat = load_le32(sb + 92), incompat = load_le32(sb + 96),
		 ro = load_le32(sb + 100);

	if ((incompat & ~0x16u) || (ro & ~0x7u)) /* beyond filetype, recover, meta_bg … */
		return "ext4";
	return compat & 4 ? "ext3" : "ext2";
}

/* A FAT boot sector has no magic of its own: the fields must fit each other. */
static bool fat_plausible(const uint8_t *h)
{
	uint32_t bps = load_le16(h + 11);

	return (h[0] == 0xeb || h[0] == 0xe9) && bps >= 512 && bps <= 4096 && IS_POW2(bps) &&
	       IS_POW2(h[13]) && load_le16(h + 14) && h[16] >= 1 && h[16] <= 2 &&
	       (h[21] >= 0xf8 || h[21] == 0xf0) && (load_le16(h + 22) || load_le32(h + 36)) &&
	       (load_le16(h + 19) || load_le32(h + 32));
}

static void fat_fill(const uint8_t *h, struct gfs_probe *p)
{
	size_t ext = load_le16(h + 22) ? 38 : 66; /* extended boot record of FAT16, FAT32 */

	p->type = GFS_FAT;
	p->type_name = "vfat";
	if (h[ext] != 0x29)
		return;
	snprintf(p->uuid, sizeof(p->uuid), "%04X-%04X", load_le16(h + ext + 3),
		 load_le16(h + ext + 1));
	text_field(h, 512, ext + 5, 11, p->label);
	if (!strcmp(p->label, "NO NAME"))
		p->label[0] = 0;
}

static bool is_lvm(const uint8_t *head, size_t n)
{
	for (size_t s = 0; s < 4; s++)
		if (head_has(head, n, s * 512, "LABELONE", 8) &&
		    head_has(head, n, s * 512 + 24, "LVM2 001", 8))
			return true;
	return false;
}

static bool is_zfs(const uint8_t *head, size_t n)
{
	for (size_t off = 0x20000; off + 8 <= n; off += 1024)
		if (load_le64(head + off) == 0x00bab10c || load_be64(head + off) == 0x00bab10c)
			return true;
	return false;
}

static void magic_fill(const struct magic *m, const uint8_t *head, size_t n, struct gfs_probe *p)
{
	p->type = m->type;
	p->type_name = m->name;
	if (m->uuid_off && range_ok(m->uuid_off, 16, n))
		gfs_uuid_text(head + m->uuid_off, p->uuid);
	if (m->label_len)
		text_field(head, n, m->label_off, m->label_len, p->label);
	if (m->type == GFS_EXT && n >= 2048)
		p->type_name = ext_name(head + 1024);
	if (!strncmp(m->name, "LUKS", 4) && n >= 208) { /* LUKS writes its UUID as text */
		text_field(head, n, 168, 36, p->label);
		snprintf(p->uuid, sizeof(p->uuid), "%.40s", p->label);
		p->label[0] = 0;
	}
}

void gfs_probe(const struct gfs_source *src, struct gfs_probe *p)
{
	CLEANUP_FREE uint8_t *head = malloc(HEAD_BYTES);
	size_t n = (size_t)MIN((uint64_t)HEAD_BYTES, src->size);

	*p = (struct gfs_probe){ .type = GFS_UNKNOWN, .type_name = "unknown" };
	if (!head || n < 512 || gfs_src_read(src, 0, head, n))
		return;
	if (is_lvm(head, n)) {
		p->lvm = true;
		p->type = GFS_FOREIGN;
		p->type_name = "LVM2 physical volume";
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		if (head_has(head, n, magics[i].off, magics[i].bytes, magics[i].len)) {
			magic_fill(&magics[i], head, n, p);
			return;
		}
	}
	if (fat_plausible(head)) {
		fat_fill(head, p);
	} else if (is_zfs(head, n)) {
		p->type = GFS_FOREIGN;
		p->type_name = "ZFS";
	}
}
