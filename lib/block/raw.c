/* SPDX-License-Identifier: MIT */
/* Raw images: the file is the disk. Also the list of headers a raw disk must not turn into. */
#include <errno.h>
#include <string.h>

#include "block_int.h"
#include "hv/bytes.h"

static int raw_open(struct blk_image *img, struct err *e)
{
	int r = bfile_size(&img->file, &img->size);

	if (r) {
		errno = -r;
		return err_errno(e, "size of %s", img->path);
	}
	if (img->file.direct && img->size % img->file.align)
		return err_set(e, -EINVAL,
			       "%s: its size is no multiple of %u bytes, as cache=none needs",
			       img->path, img->file.align);
	return 0;
}

static int raw_close(struct blk_image *img)
{
	return 0;
}

static int raw_map(struct blk_image *img, uint64_t off, uint64_t len, struct blk_extent *out)
{
	*out = (struct blk_extent){ .kind = BLK_DATA,
				    .in_place = true,
				    .off = off,
				    .len = len,
				    .host_off = off,
				    .host_len = len };
	return 0;
}

static uint32_t raw_granularity(const struct blk_image *img)
{
	return 512;
}

const struct blk_driver blk_raw_driver = {
	.name = "raw",
	.open = raw_open,
	.close = raw_close,
	.map = raw_map,
	.granularity = raw_granularity,
};

bool blk_is_image_header(const uint8_t s[512])
{
	static const struct {
		const char *magic;
		uint8_t at, len;
	} known[] = {
		{ "QFI\xfb", 0, 4 }, /* qcow, qcow2 */
		{ "QED\0", 0, 4 },
		{ "KDMV", 0, 4 },	       /* vmdk, sparse */
		{ "COWD", 0, 4 },	       /* vmdk, ESX */
		{ "# Disk Descripto", 0, 16 }, /* vmdk, text */
		{ "vhdxfile", 0, 8 },
		{ "conectix", 0, 8 }, /* vhd */
		{ "cxsparse", 0, 8 },
		{ "LUKS\xba\xbe", 0, 6 },
		{ "WithoutFreeSpace", 0, 16 }, /* parallels */
		{ "WithouFreSpacExt", 0, 16 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!memcmp(s + known[i].at, known[i].magic, known[i].len))
			return true;
	return load_le32(s + 0x40) == 0xbeda107f; /* vdi */
}
