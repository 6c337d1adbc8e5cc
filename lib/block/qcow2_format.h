/* SPDX-License-Identifier: MIT */
/*
 * qcow2_format.h - the image as it lies on disk (QEMU's docs/interop/qcow2; all big-endian).
 *
 *   header | L1 table -> L2 tables -> clusters of data
 *          | refcount table -> refcount blocks: one counter a host cluster
 */
#ifndef HV_QCOW2_FORMAT_H
#define HV_QCOW2_FORMAT_H

#include "hv/base.h"

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */

struct qcow2_header {
	uint32_t magic;
	uint32_t version;
	uint64_t backing_file_offset;
	uint32_t backing_file_size;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt_method;
	uint32_t l1_size;
	uint64_t l1_table_offset;
	uint64_t refcount_table_offset;
	uint32_t refcount_table_clusters;
	uint32_t nb_snapshots;
	uint64_t snapshots_offset;
	/* version 3 from here on */
	uint64_t incompatible_features;
	uint64_t compatible_features;
	uint64_t autoclear_features;
	uint32_t refcount_order;
	uint32_t header_length;
	uint8_t compression_type;
	uint8_t padding[7];
} HV_PACKED;
static_assert(sizeof(struct qcow2_header) == 112, "version 3 header");
static_assert(offsetof(struct qcow2_header, incompatible_features) == 72, "version 2 header");
static_assert(offsetof(struct qcow2_header, compression_type) == 104, "compression type");

#define QCOW2_V2_HEADER_LEN 72
#define QCOW2_V3_HEADER_MIN 104

/* Incompatible features */
#define QCOW2_INCOMPAT_DIRTY BIT64(0)	    /* refcounts may be stale: rebuild before use */
#define QCOW2_INCOMPAT_CORRUPT BIT64(1)	    /* read only */
#define QCOW2_INCOMPAT_DATA_FILE BIT64(2)   /* data in another file */
#define QCOW2_INCOMPAT_COMPRESSION BIT64(3) /* compression_type is not zlib */
#define QCOW2_INCOMPAT_EXT_L2 BIT64(4)	    /* 16-byte L2 entries with subclusters */
#define QCOW2_INCOMPAT_READABLE                                                       \
	(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_COMPRESSION | \
	 QCOW2_INCOMPAT_EXT_L2)

#define QCOW2_COMPRESSION_ZLIB 0
#define QCOW2_COMPRESSION_ZSTD 1

/* Header extensions */
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES 0x6803f857u
struct qcow2_feature_name {
	uint8_t type; /* 0 incompatible, 1 compatible, 2 autoclear */
	uint8_t bit;
	char name[46];
} HV_PACKED;
static_assert(sizeof(struct qcow2_feature_name) == 48, "feature name table entry");

/* Table entries */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull /* bits 9-55 */
#define QCOW2_COPIED BIT64(63) /* refcount is exactly one: may be written in place */
#define QCOW2_COMPRESSED BIT64(62)
#define QCOW2_ZERO BIT64(0) /* version 3: reads as zeros, allocated or not */

/* Snapshot table entry, before its variable parts */
struct qcow2_snapshot {
	uint64_t l1_table_offset;
	uint32_t l1_size;
	uint16_t id_len;
	uint16_t name_len;
	uint32_t date_sec;
	uint32_t date_nsec;
	uint64_t vm_clock_nsec;
	uint32_t vm_state_size;
	uint32_t extra_data_size;
} HV_PACKED;
static_assert(sizeof(struct qcow2_snapshot) == 40, "snapshot entry");

/* Limits that QEMU enforces too; none of them is reached by an honest image. */
#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_REFCOUNT_ORDER_MAX 6
#define QCOW2_L1_BYTES_MAX MIB(32)
#define QCOW2_REFTABLE_BYTES_MAX MIB(8)
#define QCOW2_SNAPSHOTS_MAX 65536
#define QCOW2_SNAPSHOT_TABLE_MAX MIB(64)
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024
#define QCOW2_OFFSET_MAX BIT64(56)

#endif
