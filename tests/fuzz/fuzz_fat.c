/* SPDX-License-Identifier: MIT */
/* A whole fat file system as a sparse image: everything in it that can be reached is read. */
#include "../support/gfs_support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sparse_disk s;
	struct gfs_source src;
	struct gfs *g;

	if (sparse_open(&s, data, size))
		return 0;
	src = sparse_source(&s);
	if (!gfs_open_sources(&src, 1, &g, NULL)) {
		gfs_exercise(g);
		gfs_close(g);
	}
	sparse_close(&s);
	return 0;
}
