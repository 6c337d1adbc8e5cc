/* SPDX-License-Identifier: MIT */
/*
 * Opening a qcow2 image: the header, its extensions, the two top tables. Every number is
 * checked against a limit before anything is allocated or read on its account.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"
#include "qcow2.h"

#define HEAD_BYTES KIB(64) /* what open reads of the first cluster */

struct head {
	struct qcow2_header h; /* host byte order; version 2 filled up to version 3 */
	uint8_t *bytes;
	size_t len;
	uint64_t file_size;
	const char *path;
};

static void head_swap(struct qcow2_header *h)
{
	h->magic = be32toh(h->magic);
	h->version = be32toh(h->version);
	h->backing_file_offset = be64toh(h->backing_file_offset);
	h->backing_file_size = be32toh(h->backing_file_size);
	h->cluster_bits = be32toh(h->cluster_bits);
	h->size = be64toh(h->size);
	h->crypt_method = be32toh(h->crypt_method);
	h->l1_size = be32toh(h->l1_size);
	h->l1_table_offset = be64toh(h->l1_table_offset);
	h->refcount_table_offset = be64toh(h->refcount_table_offset);
	h->refcount_table_clusters = be32toh(h->refcount_table_clusters);
	h->nb_snapshots = be32toh(h->nb_snapshots);
	h->snapshots_offset = be64toh(h->snapshots_offset);
	h->incompatible_features = be64toh(h->incompatible_features);
	h->compatible_features = be64toh(h->compatible_features);
	h->autoclear_features = be64toh(h->autoclear_features);
	h->refcount_order = be32toh(h->refcount_order);
	h->header_length = be32toh(h->header_length);
}

static int head_read(struct blk_image *img, struct head *hd, struct err *e)
{
	int r = bfile_size(&img->file, &hd->file_size);

	hd->path = img->path;
	hd->len = HEAD_BYTES;
	hd->bytes = aligned_alloc(4096, HEAD_BYTES);
	if (!hd->bytes)
		return err_set(e, -ENOMEM, "%s: out of memory", img->path);
	if (!r)
		r = bfile_pread(&img->file, hd->bytes, HEAD_BYTES, 0);
	if (r) {
		errno = -r;
		return err_errno(e, "read %s", img->path);
	}
	memcpy(&hd->h, hd->bytes, sizeof(hd->h));
	head_swap(&hd->h);
	if (hd->h.magic != QCOW2_MAGIC)
		return err_set(e, -EINVAL, "%s is not a qcow2 image", img->path);
	if (hd->h.version < 2 || hd->h.version > 3)
		return err_set(e, -ENOTSUP, "%s: qcow2 version %u is not supported (2 and 3 are)",
			       img->path, hd->h.version);
	if (hd->file_size < QCOW2_V2_HEADER_LEN)
		return err_set(e, -EUCLEAN, "%s is truncated: %llu bytes", img->path,
			       (unsigned long long)hd->file_size);
	if (hd->h.version == 2) {
		memset(&hd->h.incompatible_features, 0,
		       sizeof(hd->h) - offsetof(struct qcow2_header, incompatible_features));
		hd->h.refcount_order = 4;
		hd->h.header_length = QCOW2_V2_HEADER_LEN;
	} else if (hd->h.header_length <= QCOW2_V3_HEADER_MIN) {
		hd->h.compression_type = 0;
	}
	return 0;
}

static int bad_header(const struct head *hd, const char *what, struct err *e)
{
	return err_set(e, -EUCLEAN, "%s: corrupt qcow2 header: %s", hd->path, what);
}

/* A table of the header: aligned, contiguous, inside the file, not on the header. */
static bool table_ok(const struct head *hd, uint64_t off, uint64_t bytes)
{
	uint64_t cs = BIT64(hd->h.cluster_bits);

	return off >= cs && IS_ALIGNED(off, cs) && range_ok(off, bytes, hd->file_size) &&
	       off < QCOW2_OFFSET_MAX;
}

static int check_geometry(const struct head *hd, struct err *e)
{
	const struct qcow2_header *h = &hd->h;
	uint64_t span, need;

	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return bad_header(hd, "cluster size", e);
	if (h->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
		return bad_header(hd, "refcount width", e);
	if (h->header_length < QCOW2_V2_HEADER_LEN || h->header_length > BIT64(h->cluster_bits) ||
	    h->header_length > hd->len || h->header_length % 8 ||
	    (h->version == 3 && h->header_length < QCOW2_V3_HEADER_MIN))
		return bad_header(hd, "header length", e);
	if (h->size > INT64_MAX)
		return bad_header(hd, "disk size", e);
	if (h->l1_size > QCOW2_L1_BYTES_MAX / 8)
		return err_set(e, -EFBIG, "%s: its L1 table is larger than 32 MiB", hd->path);
	span = h->cluster_bits + h->cluster_bits - 3;
	if (h->incompatible_features & QCOW2_INCOMPAT_EXT_L2)
		span--;
	need = (h->size >> span) + ((h->size & (BIT64(span) - 1)) != 0);
	if (need > h->l1_size)
		return bad_header(hd, "L1 table too small for the disk", e);
	if (h->l1_size && !table_ok(hd, h->l1_table_offset, (uint64_t)h->l1_size * 8))
		return bad_header(hd, "L1 table outside the file (is it truncated?)", e);
	return 0;
}

static int check_refcounts_snapshots(const struct head *hd, struct err *e)
{
	const struct qcow2_header *h = &hd->h;
	uint64_t bytes = (uint64_t)h->refcount_table_clusters << h->cluster_bits;
	uint64_t a = h->l1_table_offset, an = (uint64_t)h->l1_size * 8;

	if (h->refcount_table_clusters > QCOW2_REFTABLE_BYTES_MAX >> h->cluster_bits)
		return err_set(e, -EFBIG, "%s: its refcount table is larger than 8 MiB", hd->path);
	if (!bytes || !table_ok(hd, h->refcount_table_offset, bytes))
		return bad_header(hd, "refcount table outside the file (is it truncated?)", e);
	if (an && a < h->refcount_table_offset + bytes && h->refcount_table_offset < a + an)
		return bad_header(hd, "L1 and refcount tables overlap", e);
	if (h->nb_snapshots > QCOW2_SNAPSHOTS_MAX)
		return err_set(e, -EFBIG, "%s: more than 65536 snapshots", hd->path);
	if (h->nb_snapshots && !table_ok(hd, h->snapshots_offset,
					 (uint64_t)h->nb_snapshots * sizeof(struct qcow2_snapshot)))
		return bad_header(hd, "snapshot table outside the file", e);
	return 0;
}

/* ---- header extensions --------------------------------------------------------------- */

/* The next extension at @at; false at the end. The area ends where the backing name starts. */
static bool ext_next(const struct head *hd, size_t *at, uint32_t *type, uint32_t *len,
		     const uint8_t **data, bool *bad)
{
	size_t end = MIN(hd->len, (size_t)BIT64(hd->h.cluster_bits));

	if (hd->h.backing_file_offset && hd->h.backing_file_offset < end)
		end = hd->h.backing_file_offset;
	if (*at > end || end - *at < 8)
		return false;
	*type = load_be32(hd->bytes + *at);
	*len = load_be32(hd->bytes + *at + 4);
	if (*type == QCOW2_EXT_END)
		return false;
	if (*len > end - *at - 8) {
		*bad = true;
		return false;
	}
	*data = hd->bytes + *at + 8;
	*at += 8 + MIN(ALIGN_UP((size_t)*len, 8), end - *at - 8);
	return true;
}

static void feature_name(const struct head *hd, unsigned bit, char *out, size_t out_len)
{
	size_t at = hd->h.header_length;
	const uint8_t *data;
	uint32_t type, len;
	bool bad = false;

	snprintf(out, out_len, "feature bit %u", bit);
	while (ext_next(hd, &at, &type, &len, &data, &bad)) {
		for (uint32_t i = 0; type == QCOW2_EXT_FEATURES && i + 48 <= len; i += 48) {
			const struct qcow2_feature_name *f = (const void *)(data + i);

			if (f->type == 0 && f->bit == bit)
				snprintf(out, out_len, "'%.46s' (feature bit %u)", f->name, bit);
		}
	}
}

static int check_features(const struct head *hd, struct err *e)
{
	uint64_t unknown = hd->h.incompatible_features & ~QCOW2_INCOMPAT_READABLE;
	char name[80];

	if (hd->h.crypt_method)
		return err_set(e, -ENOTSUP,
			       "%s is encrypted, which is not supported (qemu-img convert makes a "
			       "plain copy)",
			       hd->path);
	if (unknown & QCOW2_INCOMPAT_DATA_FILE)
		return err_set(e, -ENOTSUP,
			       "%s keeps its data in an external file, which is not supported "
			       "(qemu-img convert makes one image of both)",
			       hd->path);
	if (unknown) {
		feature_name(hd, (unsigned)__builtin_ctzll(unknown), name, sizeof(name));
		return err_set(e, -ENOTSUP, "%s needs %s, which is not supported", hd->path, name);
	}
	if (hd->h.compression_type > QCOW2_COMPRESSION_ZSTD)
		return err_set(e, -ENOTSUP, "%s: compression type %u is not supported", hd->path,
			       hd->h.compression_type);
	if (!!hd->h.compression_type !=
	    !!(hd->h.incompatible_features & QCOW2_INCOMPAT_COMPRESSION))
		return bad_header(hd, "compression type", e);
	if ((hd->h.incompatible_features & QCOW2_INCOMPAT_EXT_L2) && hd->h.cluster_bits < 14)
		return bad_header(hd, "extended L2 entries need clusters of 16 KiB or more", e);
	return 0;
}

static int read_extensions(struct qcow2 *q, const struct head *hd, struct err *e)
{
	size_t at = hd->h.header_length;
	const uint8_t *data;
	uint32_t type, len;
	bool bad = false;

	while (ext_next(hd, &at, &type, &len, &data, &bad)) {
		if (type != QCOW2_EXT_BACKING_FORMAT)
			continue;
		if (len >= sizeof(q->backing_format))
			return bad_header(hd, "backing format's name", e);
		memcpy(q->backing_format, data, len);
		q->backing_format[len] = 0;
	}
	return bad ? bad_header(hd, "extension longer than the header", e) : 0;
}

static int read_backing_name(struct qcow2 *q, const struct head *hd, struct err *e)
{
	uint64_t off = hd->h.backing_file_offset;
	uint32_t len = hd->h.backing_file_size;
	int r;

	if (!off)
		return 0;
	if (len > BLK_NAME_MAX || !range_ok(off, len, q->cluster_size))
		return bad_header(hd, "backing file's name", e);
	if (!len)
		return 0;
	q->backing_name = calloc(1, len + 1);
	if (!q->backing_name)
		return err_set(e, -ENOMEM, "%s: out of memory", hd->path);
	r = bfile_pread(&q->img->file, q->backing_name, len, off);
	if (r)
		return err_set(e, r, "%s: cannot read its header", hd->path);
	if (strlen(q->backing_name) != len)
		return bad_header(hd, "backing file's name", e);
	q->backed = true;
	return 0;
}

const char *qcow2_backing_name(const struct blk_image *img)
{
	return img->drv == &blk_qcow2_driver ? qcow2_of(img)->backing_name : NULL;
}

const char *qcow2_backing_format(const struct blk_image *img)
{
	return img->drv == &blk_qcow2_driver ? qcow2_of(img)->backing_format : "";
}

void qcow2_set_backed(struct blk_image *img)
{
	qcow2_of(img)->backed = true;
}

/* ---- tables -------------------------------------------------------------------------- */

/* One chain may name 200 images with tables of 32 MiB each: there is a limit to all of them. */
static int check_chain_tables(const struct qcow2 *q, struct err *e)
{
	uint64_t sum = (uint64_t)q->l1_used * 16 + (uint64_t)q->reft_len * 16;

	for (unsigned i = 0; i < q->img->blk->images; i++) {
		const struct blk_image *img = q->img->blk->image[i];

		if (img->drv == &blk_qcow2_driver)
			sum += (uint64_t)qcow2_of(img)->l1_used * 16 +
			       (uint64_t)qcow2_of(img)->reft_len * 16;
	}
	if (sum > BLK_CHAIN_TABLES_MAX)
		return err_set(e, -EFBIG,
			       "%s: the tables of this chain of images need more than %u MiB",
			       q->img->path, (unsigned)(BLK_CHAIN_TABLES_MAX >> 20));
	return 0;
}

static int read_be64_table(struct qcow2 *q, uint64_t *out, uint64_t n, uint64_t off)
{
	int r = bfile_pread(&q->img->file, out, n * 8, off);

	for (uint64_t i = 0; i < n && !r; i++)
		out[i] = be64toh(out[i]);
	return r;
}

/* A reader never looks at refcounts. */
static int read_tables(struct qcow2 *q, struct err *e)
{
	uint64_t n = MAX(q->l1_used, 1u), rn = q->img->readonly ? 0 : q->reft_len, reft, reft_end;
	int r = check_chain_tables(q, e);

	if (r)
		return r;
	q->l1 = calloc(n, sizeof(*q->l1));
	q->l2 = calloc(n, sizeof(*q->l2));
	q->reft = calloc(MAX(rn, (uint64_t)1), sizeof(*q->reft));
	q->rb = calloc(MAX(rn, (uint64_t)1), sizeof(*q->rb));
	q->io_buf = aligned_alloc(4096, MAX(q->cluster_size, 4096u));
	if (!q->l1 || !q->l2 || !q->reft || !q->rb || !q->io_buf)
		return err_set(e, -ENOMEM, "%s: out of memory", q->img->path);
	reft_get(q, &reft, &reft_end);
	r = read_be64_table(q, (uint64_t *)q->l1, q->l1_used, q->l1_off);
	if (!r && rn)
		r = read_be64_table(q, q->reft, rn, reft);
	if (r)
		return err_set(e, r, "%s: cannot read its tables: %s", q->img->path, strerror(-r));
	return 0;
}

bool qcow2_host_ok(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	uint64_t end = off + len, reft, reft_end;

	reft_get(q, &reft, &reft_end);
	if (off < q->cluster_size || off >= QCOW2_OFFSET_MAX ||
	    off >= atomic_load_explicit(&q->file_end, memory_order_acquire))
		return false;
	if (off < q->l1_off + (uint64_t)q->l1_size * 8 && q->l1_off < end)
		return false;
	return !(off < reft_end && reft < end);
}

static void qcow2_set_geometry(struct qcow2 *q, const struct head *hd)
{
	const struct qcow2_header *h = &hd->h;
	unsigned span;

	q->version = h->version;
	q->cluster_bits = h->cluster_bits;
	q->cluster_size = BIT32(h->cluster_bits);
	q->incompat = h->incompatible_features;
	q->ext_l2 = h->incompatible_features & QCOW2_INCOMPAT_EXT_L2;
	q->compression = h->compression_type;
	q->l2_bits = h->cluster_bits - (q->ext_l2 ? 4 : 3);
	q->refcount_order = h->refcount_order;
	q->rb_bits = h->cluster_bits + 3 - h->refcount_order;
	span = q->l2_bits + q->cluster_bits;
	q->l1_off = h->l1_table_offset;
	q->l1_size = h->l1_size;
	q->l1_used = (uint32_t)((h->size >> span) + ((h->size & (BIT64(span) - 1)) != 0));
	reft_set(q, h->refcount_table_offset, h->refcount_table_clusters);
	q->reft_len = (uint32_t)(((uint64_t)h->refcount_table_clusters << h->cluster_bits) / 8);
	q->nb_snapshots = h->nb_snapshots;
	q->snapshots_off = h->snapshots_offset;
	q->virgin = qcow2_clusters(q, hd->file_size);
	atomic_store(&q->file_end, q->virgin << q->cluster_bits);
	q->img->size = h->size;
}

static void free_tables(struct qcow2 *q)
{
	table_cache_drop_image(q);
	free(q->l1);
	free(q->l2);
	free(q->reft);
	free(q->rb);
	free(q->io_buf);
	q->l1 = NULL;
	q->l2 = NULL;
	q->reft = NULL;
	q->rb = NULL;
	q->io_buf = NULL;
}

static void qcow2_release(struct qcow2 *q)
{
	free_tables(q);
	free(q->frees);
	free(q->backing_name);
	free(q);
}

int qcow2_open(struct blk_image *img, struct err *e)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	struct head hd = { 0 };
	int r;

	if (!q)
		return err_set(e, -ENOMEM, "%s: out of memory", img->path);
	q->img = img;
	r = head_read(img, &hd, e);
	if (!r)
		r = check_geometry(&hd, e);
	if (!r)
		r = check_features(&hd, e);
	if (!r)
		r = check_refcounts_snapshots(&hd, e);
	if (!r) {
		qcow2_set_geometry(q, &hd);
		r = read_extensions(q, &hd, e);
	}
	if (!r)
		r = read_backing_name(q, &hd, e);
	if (!r)
		r = read_tables(q, e);
	free(hd.bytes);
	if (r) {
		qcow2_release(q);
		return r;
	}
	img->state = q;
	return 0;
}

int qcow2_close(struct blk_image *img)
{
	if (img->state)
		qcow2_release(img->state);
	img->state = NULL;
	return 0;
}

/* ---- the header's feature bits ------------------------------------------------------- */

static int write_header_u64(struct qcow2 *q, size_t at, uint64_t v)
{
	uint8_t be[8];
	int r;

	store_be64(be, v);
	r = bfile_pwrite(&q->img->file, be, sizeof(be), at);
	return r ? r : bfile_datasync(&q->img->file);
}

int qcow2_write_incompat(struct qcow2 *q, uint64_t bits)
{
	if (q->version < 3)
		return 0;
	q->incompat = bits;
	return write_header_u64(q, offsetof(struct qcow2_header, incompatible_features), bits);
}

/* Refuse all further writes, now and (version 3) by whoever opens the image next. */
void qcow2_corrupt(struct blk_image *img)
{
	struct qcow2 *q = qcow2_of(img);

	(void)qcow2_write_incompat(q, q->incompat | QCOW2_INCOMPAT_CORRUPT);
}

/* The bits stand for things (bitmaps) that go stale by our first write. */
static int clear_autoclear(struct qcow2 *q, struct err *e)
{
	size_t at = offsetof(struct qcow2_header, autoclear_features);
	uint8_t be[8];
	int r;

	if (q->version < 3)
		return 0;
	r = bfile_pread(&q->img->file, be, sizeof(be), at);
	if (!r && load_be64(be))
		r = write_header_u64(q, at, 0);
	return r ? err_set(e, r, "%s: cannot change its header: %s", q->img->path, strerror(-r))
		 : 0;
}

/* Rebuilding replaces the refcounts on disk: read the tables again. */
static int repair_dirty(struct qcow2 *q, struct err *e)
{
	uint64_t size, reft, reft_end;
	int r = qcow2_rebuild_refcounts(q, e);

	if (!r)
		r = qcow2_write_incompat(q, q->incompat & ~QCOW2_INCOMPAT_DIRTY);
	if (!r)
		r = bfile_size(&q->img->file, &size);
	if (r)
		return err_wrap(e, r, "%s was not closed properly, and repairing it failed",
				q->img->path);
	q->virgin = qcow2_clusters(q, size);
	atomic_store(&q->file_end, q->virgin << q->cluster_bits);
	free_tables(q);
	reft_get(q, &reft, &reft_end);
	q->reft_len = (uint32_t)((reft_end - reft) / 8);
	return read_tables(q, e);
}

int qcow2_make_writable(struct blk *b, struct err *e)
{
	struct blk_image *img = blk_top(b);
	struct qcow2 *q;
	int r;

	if (b->readonly || img->drv != &blk_qcow2_driver)
		return 0;
	q = qcow2_of(img);
	if (q->incompat & QCOW2_INCOMPAT_CORRUPT)
		return err_set(e, -EUCLEAN,
			       "%s is marked corrupt and can only be opened read-only (qemu-img "
			       "check -r all repairs it)",
			       img->path);
	if (q->ext_l2)
		return err_set(e, -ENOTSUP,
			       "%s has extended L2 entries and can only be opened read-only "
			       "(qemu-img convert makes an image without)",
			       img->path);
	if (img->no_backing && q->backing_name)
		return err_set(e, -EINVAL, "%s cannot be written without its backing file",
			       img->path);
	r = clear_autoclear(q, e);
	if (!r && (q->incompat & QCOW2_INCOMPAT_DIRTY))
		r = repair_dirty(q, e);
	return r;
}

static uint32_t qcow2_granularity(const struct blk_image *img)
{
	return qcow2_of(img)->cluster_size;
}

const struct blk_driver blk_qcow2_driver = {
	.name = "qcow2",
	.open = qcow2_open,
	.close = qcow2_close,
	.map = qcow2_map,
	.load = qcow2_load,
	.decompress = qcow2_decompress,
	.reserve = qcow2_reserve,
	.commit = qcow2_commit,
	.abort = qcow2_abort,
	.zero = qcow2_zero,
	.publish = qcow2_publish,
	.tidy = qcow2_tidy,
	.corrupt = qcow2_corrupt,
	.granularity = qcow2_granularity,
};
