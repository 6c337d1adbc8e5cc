/* SPDX-License-Identifier: MIT */
/* gfs_support.h - disks in memory for the tests of lib/guestfs. */
#ifndef HV_GFS_SUPPORT_H
#define HV_GFS_SUPPORT_H

#include "hv/guestfs.h"

/* ---- plain and sparse memory ------------------------------------------------------------ */

struct mem_disk {
	uint8_t *data;
	uint64_t size;
};
/** mem_source - @m's bytes as a source; @m is borrowed. */
struct gfs_source mem_source(struct mem_disk *m);

/*
 * A sparse image, so that a corpus file stays small: le32 size in sectors, then records of
 * le32 sector number and 512 bytes. What no record names is zero; a torn last one is cut.
 */
#define SPARSE_RECORD 516u
#define SPARSE_SECTORS_MAX (1u << 21)
struct sparse_disk {
	const uint8_t **sector; /* pointers into the input, NULL for zeros */
	uint64_t size;
};
int sparse_open(struct sparse_disk *s, const uint8_t *data, size_t size);
void sparse_close(struct sparse_disk *s);
struct gfs_source sparse_source(struct sparse_disk *s);

/** gfs_exercise - walk and read all that can be reached, with bounds; for fuzzing. */
void gfs_exercise(struct gfs *g);
/** gfs_exercise_sparse - the same for all that is in a sparse image; the body of fuzz targets. */
void gfs_exercise_sparse(const uint8_t *data, size_t size);

/* ---- file systems made of a table -------------------------------------------------------- */

struct fake_file {
	unsigned part; /* partition from 1 */
	const char *path;
	const char *content; /* "-> TARGET" makes a symbolic link */
	size_t len;	     /* 0: strlen */
};
struct fake_part {
	enum gfs_type type;
	const char *type_name, *uuid, *label;
	bool esp;
	const char *problem; /* opening it fails so */
};
struct fake_disk;
/**
 * fake_open - a disk whose partitions (MBR) hold the files of a table
 * @part, @file: borrowed until fake_close(); @file ends with a NULL path
 */
struct fake_disk *fake_open(const struct fake_part *part, size_t n_parts,
			    const struct fake_file *file);
struct gfs *fake_gfs(struct fake_disk *d);
void fake_close(struct fake_disk *d);

#endif
