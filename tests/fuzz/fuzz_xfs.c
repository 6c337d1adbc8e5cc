/* SPDX-License-Identifier: MIT */
/* A whole xfs file system as a sparse image: everything in it that can be reached is read. */
#include "../support/gfs_support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	gfs_exercise_sparse(data, size);
	return 0;
}
