/* SPDX-License-Identifier: MIT */
/* Disk images of lib/block as sources. */
#include "gfs_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "hv/block.h"
#include "hv/fd.h"

static int blk_source_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	return blk_pread(ctx, off, buf, len);
}

int gfs_open(struct blk **disks, size_t n, struct gfs **out, struct err *e)
{
	CLEANUP_FREE struct gfs_source *src = calloc(n ? n : 1, sizeof(*src));

	if (!src)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		src[i] = (struct gfs_source){ blk_source_read, disks[i], blk_size(disks[i]) };
	return gfs_open_sources(src, n, out, e);
}
