/* SPDX-License-Identifier: MIT */
/*
 * Looking a guest range up. Queue threads come here: no lock, no allocation, no I/O. The L2
 * pointer is published with release order after the table is filled; entries change one at
 * a time, each a whole value.
 */
#include <errno.h>

#include "hv/overflow.h"
#include "qcow2.h"

/* What one unit (a cluster, or a subcluster of an extended L2 image) holds. */
struct unit {
	enum blk_extent_kind kind;
	uint64_t host; /* DATA: of the unit; COMPRESSED: the whole entry */
	bool copied;
};

void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *off, uint64_t *len)
{
	unsigned x = 62 - (q->cluster_bits - 8);
	uint64_t sectors = ((entry & (QCOW2_COMPRESSED - 1)) >> x) + 1;

	*off = entry & (BIT64(x) - 1);
	*len = sectors * 512 - (*off & 511);
}

static int unit_compressed(const struct qcow2 *q, uint64_t e, struct unit *u)
{
	uint64_t off, len;

	qcow2_compressed_range(q, e, &off, &len);
	if (off >= QCOW2_OFFSET_MAX || !qcow2_host_ok(q, off, len))
		return -EUCLEAN;
	*u = (struct unit){ .kind = BLK_COMPRESSED, .host = e };
	return 0;
}

static int unit_data(const struct qcow2 *q, uint64_t e, struct unit *u)
{
	uint64_t host = e & QCOW2_OFFSET_MASK;

	if (!IS_ALIGNED(host, q->cluster_size) || !qcow2_host_ok(q, host, q->cluster_size))
		return -EUCLEAN;
	*u = (struct unit){ .kind = BLK_DATA, .host = host, .copied = e & QCOW2_COPIED };
	return 0;
}

static int unit_plain(const struct qcow2 *q, uint64_t e, struct unit *u)
{
	if (e & QCOW2_COMPRESSED)
		return unit_compressed(q, e, u);
	if (e & QCOW2_ZERO) {
		if (q->version < 3)
			return -EUCLEAN;
		*u = (struct unit){ .kind = BLK_ZERO };
		return 0;
	}
	if (!(e & QCOW2_OFFSET_MASK)) {
		*u = (struct unit){ .kind = BLK_HOLE };
		return 0;
	}
	return unit_data(q, e, u);
}

/* Extended L2: bits 0-31 of the second word say "allocated", bits 32-63 "zero". */
static int unit_sub(const struct qcow2 *q, uint64_t e, uint64_t bitmap, unsigned sub,
		    struct unit *u)
{
	bool alloc = bitmap >> sub & 1, zero = bitmap >> (32 + sub) & 1;
	int r;

	if (e & QCOW2_COMPRESSED)
		return unit_compressed(q, e, u);
	if ((alloc && zero) || (alloc && !(e & QCOW2_OFFSET_MASK)))
		return -EUCLEAN;
	if (!alloc) {
		*u = (struct unit){ .kind = zero ? BLK_ZERO : BLK_HOLE };
		return 0;
	}
	r = unit_data(q, e, u);
	if (!r)
		u->host += (uint64_t)sub << (q->cluster_bits - 5);
	return r;
}

static uint64_t entry_load(const struct qtable *t, uint64_t i)
{
	return atomic_load_explicit(&t->e[i], memory_order_acquire);
}

static unsigned unit_bits(const struct qcow2 *q)
{
	return q->ext_l2 ? q->cluster_bits - 5 : q->cluster_bits;
}

/* The unit at guest offset @off, which lies in @t. */
static int unit_at(const struct qcow2 *q, const struct qtable *t, uint64_t off, struct unit *u)
{
	uint64_t i = off >> q->cluster_bits & (BIT64(q->l2_bits) - 1);

	if (!q->ext_l2)
		return unit_plain(q, entry_load(t, i), u);
	return unit_sub(q, entry_load(t, 2 * i), entry_load(t, 2 * i + 1),
			off >> (q->cluster_bits - 5) & 31, u);
}

static bool unit_follows(const struct unit *a, uint64_t a_host_end, const struct unit *b)
{
	if (a->kind != b->kind || a->kind == BLK_COMPRESSED)
		return false;
	return a->kind != BLK_DATA || (b->host == a_host_end && b->copied == a->copied);
}

static void extent_compressed(const struct qcow2 *q, const struct unit *u, uint64_t off,
			      uint64_t len, struct blk_extent *out)
{
	out->len = MIN(len, q->cluster_size - (off & (q->cluster_size - 1)));
	qcow2_compressed_range(q, u->host, &out->host_off, &out->host_len);
}

/* Grow the extent over what follows in the same table and on the host. */
static void extent_grow(const struct qcow2 *q, const struct qtable *t, const struct unit *u,
			uint64_t len, struct blk_extent *out)
{
	uint64_t unit = BIT64(unit_bits(q));
	struct unit next;

	while (out->len < len && !unit_at(q, t, out->off + out->len, &next) &&
	       unit_follows(u, out->host_off + out->len, &next))
		out->len += MIN(unit, len - out->len);
	out->host_len = u->kind == BLK_DATA ? out->len : 0;
}

int qcow2_map(struct blk_image *img, uint64_t off, uint64_t len, struct blk_extent *out)
{
	const struct qcow2 *q = qcow2_of(img);
	uint64_t span = BIT64(q->l2_bits + q->cluster_bits), unit = BIT64(unit_bits(q));
	uint64_t l1i = off / span;
	struct qtable *t;
	struct unit u;
	int r;

	len = MIN(len, span - off % span);
	*out = (struct blk_extent){ .kind = BLK_HOLE, .off = off, .len = len };
	t = atomic_load_explicit(&q->l2[l1i], memory_order_acquire);
	if (!t)
		return atomic_load_explicit(&q->l1[l1i], memory_order_acquire) & QCOW2_OFFSET_MASK
			       ? -EAGAIN
			       : 0;
	if (!atomic_load_explicit(&t->used, memory_order_relaxed))
		atomic_store_explicit(&t->used, true, memory_order_relaxed);
	r = unit_at(q, t, off, &u);
	if (r)
		return r;
	out->kind = u.kind;
	out->in_place = u.kind == BLK_DATA && u.copied;
	if (u.kind == BLK_COMPRESSED) {
		extent_compressed(q, &u, off, len, out);
		return 0;
	}
	out->host_off = u.kind == BLK_DATA ? u.host + (off & (unit - 1)) : 0;
	out->len = MIN(len, unit - (off & (unit - 1)));
	extent_grow(q, t, &u, len, out);
	return 0;
}

int qcow2_l2_get(struct qcow2 *q, uint64_t off, struct qtable **out)
{
	uint64_t l1i = off >> (q->l2_bits + q->cluster_bits);
	uint64_t host = atomic_load(&q->l1[l1i]) & QCOW2_OFFSET_MASK;

	*out = atomic_load(&q->l2[l1i]);
	if (*out || !host)
		return 0;
	if (!IS_ALIGNED(host, q->cluster_size) || !qcow2_host_ok(q, host, q->cluster_size))
		return -EUCLEAN;
	return qtable_read(q, true, (uint32_t)l1i, host, out);
}

int qcow2_load(struct blk_image *img, uint64_t off)
{
	struct qtable *t;

	return qcow2_l2_get(qcow2_of(img), off, &t);
}
