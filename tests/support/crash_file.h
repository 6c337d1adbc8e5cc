/* SPDX-License-Identifier: MIT */
/*
 * crash_file.h - a file in memory that keeps a log of writes and syncs, and can be replayed
 * up to any point with any subset of the writes that no sync had made durable.
 */
#ifndef HV_CRASH_FILE_H
#define HV_CRASH_FILE_H

#include "../../lib/block/file.h"

struct crash_op {
	bool sync;
	bool punch; /* zeros of @len bytes */
	uint64_t off;
	size_t len;
	uint8_t *data;
};

struct crash_file {
	uint8_t *bytes; /* as the program sees it */
	uint64_t size, cap;
	struct crash_op *op;
	size_t ops, cap_ops;
	bool recording;
};

extern const struct bfile_ops crash_file_ops;

/** crash_file_init - from what @fd holds; @cap bytes at most. */
int crash_file_init(struct crash_file *f, int fd, uint64_t cap);
void crash_file_fini(struct crash_file *f);
/**
 * crash_file_state - the disk after a power cut
 * @base:  the file when recording began
 * @cut:   only the first @cut entries of the log happened
 * @seed:  which of the writes after the last sync before @cut survive, and in part; sectors
 *         are written whole. 0: all of them; 1: none
 */
void crash_file_state(const struct crash_file *f, const struct crash_file *base, size_t cut,
		      unsigned seed, struct crash_file *out);

#endif
