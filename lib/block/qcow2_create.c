/* SPDX-License-Identifier: MIT */
/*
 * Creating an image: version 3, one refcount block, an empty L1 table.
 *
 *   cluster 0   header, extensions, backing file's name
 *           1   refcount table
 *           2   refcount block
 *           3…  L1 table
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "qcow2.h"

#define CREATE_REFCOUNT_ORDER 4

struct layout {
	uint32_t cluster_bits;
	uint64_t size, l1_size, l1_clusters;
};

static int layout_init(struct layout *l, const struct blk_create *c, struct err *e)
{
	uint64_t cs, entries;
	unsigned span;

	l->cluster_bits = c->cluster_bits ? c->cluster_bits : 16;
	if (l->cluster_bits < QCOW2_CLUSTER_BITS_MIN || l->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return err_set(e, -EINVAL, "cluster size: 512 bytes to 2 MiB");
	if (!c->size || c->size > INT64_MAX)
		return err_set(e, -EINVAL, "disk size");
	l->size = ALIGN_UP(c->size, 512);
	cs = BIT64(l->cluster_bits);
	span = 2 * l->cluster_bits - 3;
	l->l1_size = (l->size >> span) + ((l->size & (BIT64(span) - 1)) != 0);
	if (l->l1_size * 8 > QCOW2_L1_BYTES_MAX)
		return err_set(e, -EFBIG, "a disk of this size needs larger clusters");
	l->l1_clusters = DIV_ROUND_UP(l->l1_size * 8, cs);
	entries = BIT64(l->cluster_bits + 3 - CREATE_REFCOUNT_ORDER);
	/* The L1 table of a large disk with tiny clusters would need more refcount blocks. */
	if (l->l1_clusters + 3 > entries)
		return err_set(e, -EFBIG, "a disk of this size needs larger clusters");
	return 0;
}

static uint8_t *put_ext(uint8_t *p, uint32_t type, const void *data, uint32_t len)
{
	store_be32(p, type);
	store_be32(p + 4, len);
	memcpy(p + 8, data, len);
	return p + 8 + ALIGN_UP(len, 8);
}

static void put_feature(uint8_t *p, unsigned type, unsigned bit, const char *name)
{
	struct qcow2_feature_name f = { .type = (uint8_t)type, .bit = (uint8_t)bit };

	memcpy(f.name, name, strlen(name));
	memcpy(p, &f, sizeof(f));
}

/* Names of the features in use by anybody, so that older readers can say what they lack. */
static uint8_t *put_features(uint8_t *p)
{
	uint8_t t[4 * sizeof(struct qcow2_feature_name)];

	put_feature(t, 0, 0, "dirty bit");
	put_feature(t + 48, 0, 1, "corrupt bit");
	put_feature(t + 96, 0, 3, "compression type");
	put_feature(t + 144, 1, 0, "lazy refcounts");
	return put_ext(p, QCOW2_EXT_FEATURES, t, sizeof(t));
}

static int fill_header(uint8_t *buf, const struct layout *l, const struct blk_create *c,
		       struct err *e)
{
	const char *fmt = c->backing_format == BLK_FORMAT_RAW ? "raw" : "qcow2";
	size_t name_len = c->backing ? strlen(c->backing) : 0, cs = BIT64(l->cluster_bits);
	struct qcow2_header h = {
		.magic = htobe32(QCOW2_MAGIC),
		.version = htobe32(3),
		.cluster_bits = htobe32(l->cluster_bits),
		.size = htobe64(l->size),
		.l1_size = htobe32((uint32_t)l->l1_size),
		.l1_table_offset = htobe64(3 * cs),
		.refcount_table_offset = htobe64(cs),
		.refcount_table_clusters = htobe32(1),
		.refcount_order = htobe32(CREATE_REFCOUNT_ORDER),
		.header_length = htobe32(sizeof(h)),
	};
	uint8_t *p = buf + sizeof(h);

	if (name_len)
		p = put_ext(p, QCOW2_EXT_BACKING_FORMAT, fmt, (uint32_t)strlen(fmt));
	if (cs >= 1024)
		p = put_features(p);
	p += 8; /* the end of extensions: zeros */
	if (name_len > BLK_NAME_MAX || (size_t)(p - buf) + name_len > cs)
		return err_set(e, -ENAMETOOLONG, "backing file's name is too long");
	if (name_len) {
		h.backing_file_offset = htobe64((uint64_t)(p - buf));
		h.backing_file_size = htobe32((uint32_t)name_len);
		memcpy(p, c->backing, name_len);
	}
	memcpy(buf, &h, sizeof(h));
	return 0;
}

/* Everything but the header first: a half-made image is no image. */
static int write_image(int fd, const struct layout *l, const uint8_t *head, uint8_t *buf)
{
	size_t cs = BIT64(l->cluster_bits);
	int r;

	memset(buf, 0, cs);
	for (uint64_t i = 0; i < l->l1_clusters + 3; i++)
		refcount_store(buf, i, CREATE_REFCOUNT_ORDER, 1);
	r = fd_pwrite_full(fd, buf, cs, 2 * cs);
	memset(buf, 0, cs);
	for (uint64_t i = 0; i < l->l1_clusters && !r; i++)
		r = fd_pwrite_full(fd, buf, cs, (3 + i) * cs);
	store_be64(buf, 2 * cs);
	if (!r)
		r = fd_pwrite_full(fd, buf, cs, cs);
	return r ? r : fd_pwrite_full(fd, head, cs, 0);
}

int blk_create_qcow2(int fd, const struct blk_create *c, struct err *e)
{
	CLEANUP_FREE uint8_t *head = NULL, *buf = NULL;
	struct layout l = { 0 };
	int r = layout_init(&l, c, e);

	if (r)
		return r;
	if (c->backing && c->backing_format == BLK_FORMAT_PROBE)
		return err_set(e, -EINVAL, "the backing file's format must be named");
	head = calloc(1, BIT64(l.cluster_bits) + 4096);
	buf = calloc(1, BIT64(l.cluster_bits));
	if (!head || !buf)
		return err_set(e, -ENOMEM, "out of memory");
	r = fill_header(head, &l, c, e);
	if (r)
		return r;
	r = write_image(fd, &l, head, buf);
	if (r) {
		errno = -r;
		return err_errno(e, "write the new image");
	}
	return 0;
}
