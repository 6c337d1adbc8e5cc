/* SPDX-License-Identifier: MIT */
/*
 * LVM2: volumes of linear and striped segments, over the physical volumes of all disks.
 *
 * Each physical volume carries the whole volume group's metadata as text (lvm_text.c),
 * in a ring; the copy with the highest sequence number counts. A volume is made if all
 * its segments are of these kinds and lie on volumes that were given; for the others a
 * line tells why. Counts and sizes are bounded before anything is allocated for them.
 */
#include "gfs_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"
#include "lvm_priv.h"

#define SECTOR 512u
#define LABEL_SECTORS 4u
#define LABEL_CRC_FROM 20u
#define LVM_CRC_INIT 0xf597a6cfu
#define MDA_HEADER 512u
#define MDA_MAGIC " LVM2 x[5A%r0N*>"
#define RAW_IGNORED 1u
#define AREAS_MAX 16u
#define PVS_MAX 256u
#define LVS_MAX 1024u
#define SEGS_MAX 4096u
#define STRIPES_MAX 128u
#define PV_ID_LEN 32u

struct pv {
	struct gfs_source src;
	unsigned disk;
	char id[PV_ID_LEN + 1];
	struct lvm_text *text; /* NULL: no readable copy on this one */
};

struct stripe {
	const struct gfs_source *src;
	uint64_t off; /* bytes */
};

struct seg {
	uint64_t start, len;   /* bytes of the volume */
	uint64_t stripe_bytes; /* 0 where there is one stripe */
	size_t n;
	struct stripe *stripe;
};

struct lv {
	char *name;
	struct seg *seg;
	size_t n_segs;
	uint64_t size;
	unsigned disk;
};

struct lvm {
	struct pv *pv;
	size_t n_pvs;
	struct lv *lv;
	size_t n_lvs;
	char problem[ERR_MSG_MAX / 2];
};

static void note_problem(struct lvm *l, const char *fmt, ...) HV_PRINTF(2, 3);
static void note_problem(struct lvm *l, const char *fmt, ...)
{
	va_list ap;

	if (l->problem[0])
		return;
	va_start(ap, fmt);
	vsnprintf(l->problem, sizeof(l->problem), fmt, ap);
	va_end(ap);
}

struct lvm *lvm_new(void)
{
	struct lvm *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->pv = calloc(PVS_MAX, sizeof(*l->pv));
	l->lv = calloc(LVS_MAX, sizeof(*l->lv));
	if (l->pv && l->lv)
		return l;
	lvm_free(l);
	return NULL;
}

static void lv_fini(struct lv *v)
{
	for (size_t i = 0; i < v->n_segs; i++)
		free(v->seg[i].stripe);
	free(v->seg);
	free(v->name);
	*v = (struct lv){ 0 };
}

void lvm_free(struct lvm *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n_pvs; i++)
		lvm_text_free(l->pv[i].text);
	for (size_t i = 0; i < l->n_lvs; i++)
		lv_fini(&l->lv[i]);
	free(l->pv);
	free(l->lv);
	free(l);
}

/* ---- physical volumes
 * ----------------------------------------------------------------------------- */

/* zlib's crc32 inverts before and after; LVM's does not, and starts elsewhere. */
static uint32_t lvm_crc(const uint8_t *p, size_t n)
{
	return ~(uint32_t)crc32(~LVM_CRC_INIT, p, (uInt)n);
}

/* The text that one location of a metadata area's header names; it may wrap round. */
static struct lvm_text *read_text(const struct gfs_source *src, uint64_t area, uint64_t area_len,
				  const uint8_t *raw)
{
	uint64_t off = load_le64(raw), len = load_le64(raw + 8), head;
	CLEANUP_FREE uint8_t *buf = NULL;

	if (!len || len > LVM_TEXT_MAX || off < MDA_HEADER || off >= area_len ||
	    len > area_len - MDA_HEADER || (load_le32(raw + 20) & RAW_IGNORED))
		return NULL;
	buf = malloc(len + 1);
	head = MIN(len, area_len - off);
	if (!buf || gfs_src_read(src, area + off, buf, head) ||
	    gfs_src_read(src, area + MDA_HEADER, buf + head, len - head))
		return NULL;
	if (lvm_crc(buf, len) != load_le32(raw + 16))
		return NULL;
	buf[len] = 0;
	return lvm_text_parse((char *)ptr_steal(&buf));
}

static struct lvm_text *read_area(const struct gfs_source *src, uint64_t off, uint64_t len)
{
	uint8_t h[MDA_HEADER];

	if (!range_ok(off, len, src->size) || len < 2 * MDA_HEADER ||
	    gfs_src_read(src, off, h, sizeof(h)))
		return NULL;
	if (memcmp(h + 4, MDA_MAGIC, 16) || lvm_crc(h + 4, MDA_HEADER - 4) != load_le32(h))
		return NULL;
	return read_text(src, off, len, h + 40);
}

/* Data areas, a zero, metadata areas, a zero: @p is at the first of them. */
static void read_areas(struct pv *pv, const uint8_t *p, const uint8_t *end)
{
	while (p + 16 <= end && load_le64(p))
		p += 16;
	for (p += 16; p + 16 <= end && load_le64(p) && !pv->text; p += 16)
		pv->text = read_area(&pv->src, load_le64(p), load_le64(p + 8));
}

int lvm_add_pv(struct lvm *l, const struct gfs_source *src, unsigned disk)
{
	struct pv *pv = &l->pv[l->n_pvs];
	uint8_t s[SECTOR];

	for (unsigned i = 0; i < LABEL_SECTORS && l->n_pvs < PVS_MAX; i++) {
		uint32_t off;

		if (gfs_src_read(src, (uint64_t)i * SECTOR, s, sizeof(s)) ||
		    memcmp(s, "LABELONE", 8) || memcmp(s + 24, "LVM2 001", 8))
			continue;
		off = load_le32(s + 20);
		if (lvm_crc(s + LABEL_CRC_FROM, SECTOR - LABEL_CRC_FROM) != load_le32(s + 16) ||
		    off < 32 || off > SECTOR - 40)
			break;
		*pv = (struct pv){ .src = *src, .disk = disk };
		memcpy(pv->id, s + off, PV_ID_LEN);
		l->n_pvs++;
		read_areas(pv, s + off + 40, s + SECTOR);
		return 0;
	}
	note_problem(l, "an LVM physical volume has a damaged label");
	return 0;
}

/* ---- volumes
 * ------------------------------------------------------------------------------------------ */

static int lv_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	const struct lv *v = ctx;
	uint8_t *dst = buf;

	while (len) {
		size_t lo = 0, hi = v->n_segs, n;
		const struct seg *s;
		uint64_t in, at, chunk;
		size_t k = 0;
		int r;

		while (hi - lo > 1) { /* the last segment that starts at or before off */
			size_t mid = lo + (hi - lo) / 2;

			if (v->seg[mid].start <= off)
				lo = mid;
			else
				hi = mid;
		}
		s = &v->seg[lo];
		in = at = off - s->start;
		n = (size_t)MIN((uint64_t)len, s->len - in);
		if (s->stripe_bytes) {
			chunk = in / s->stripe_bytes;
			k = chunk % s->n;
			at = chunk / s->n * s->stripe_bytes + in % s->stripe_bytes;
			n = (size_t)MIN((uint64_t)n, s->stripe_bytes - in % s->stripe_bytes);
		}
		r = gfs_src_read(s->stripe[k].src, s->stripe[k].off + at, dst, n);
		if (r)
			return r == -EINVAL ? -EIO : r;
		off += n;
		dst += n;
		len -= n;
	}
	return 0;
}

struct vg {
	struct lvm *l;
	const struct lvm_text *t;
	int root; /* the group's section */
	const char *name;
	uint64_t extent; /* bytes */
};

/* Identifiers have dashes in the text and none in the label. */
static bool same_id(const char *text, const char id[PV_ID_LEN + 1])
{
	size_t n = 0;

	for (; *text; text++) {
		if (*text == '-')
			continue;
		if (n == PV_ID_LEN || *text != id[n++])
			return false;
	}
	return n == PV_ID_LEN;
}

/* The physical volume that the group calls @name ("pv0"), and where its extents begin. */
static const struct pv *find_pv(const struct vg *g, const char *name, uint64_t *start)
{
	int pvs = lvm_text_find(g->t, g->root, "physical_volumes");
	int pv = name ? lvm_text_find(g->t, pvs, name) : -1;
	const char *id = lvm_text_string(g->t, lvm_text_find(g->t, pv, "id"));
	uint64_t pe_start;

	if (!id || !lvm_text_number(g->t, lvm_text_find(g->t, pv, "pe_start"), &pe_start) ||
	    !mul_u64(pe_start, SECTOR, start))
		return NULL;
	for (size_t i = 0; i < g->l->n_pvs; i++)
		if (same_id(id, g->l->pv[i].id))
			return &g->l->pv[i];
	return NULL;
}

static int seg_stripes(struct vg *g, struct lv *v, struct seg *s, int node, size_t n)
{
	int list = lvm_text_find(g->t, node, "stripes"), el = lvm_text_first(g->t, list);

	s->stripe = calloc(n, sizeof(*s->stripe));
	if (!s->stripe)
		return -ENOMEM;
	s->n = n;
	for (size_t i = 0; i < n; i++) {
		const char *name = lvm_text_string(g->t, el);
		int num = lvm_text_next(g->t, el);
		uint64_t start, extent, off, end;
		const struct pv *pv = find_pv(g, name, &start);

		if (!pv)
			return -ENODEV;
		if (!lvm_text_number(g->t, num, &extent) || !mul_u64(extent, g->extent, &off) ||
		    !add_u64(off, start, &off) || !add_u64(off, s->len / n, &end))
			return -EUCLEAN;
		s->stripe[i] = (struct stripe){ &pv->src, off };
		if (!i && !v->n_segs)
			v->disk = pv->disk;
		el = lvm_text_next(g->t, num);
	}
	return 0;
}

static int lv_add_seg(struct vg *g, struct lv *v, int node)
{
	const char *type = lvm_text_string(g->t, lvm_text_find(g->t, node, "type"));
	struct seg *s = &v->seg[v->n_segs];
	uint64_t start, count, stripes = 1, stripe_sectors = 0;
	int r;

	if (!type || (strcmp(type, "striped") && strcmp(type, "linear")))
		return -ENOTSUP;
	lvm_text_number(g->t, lvm_text_find(g->t, node, "stripe_count"), &stripes);
	lvm_text_number(g->t, lvm_text_find(g->t, node, "stripe_size"), &stripe_sectors);
	if (!lvm_text_number(g->t, lvm_text_find(g->t, node, "start_extent"), &start) ||
	    !lvm_text_number(g->t, lvm_text_find(g->t, node, "extent_count"), &count) || !count ||
	    !stripes || stripes > STRIPES_MAX || stripe_sectors > UINT32_MAX ||
	    (stripes > 1 && !stripe_sectors) || !mul_u64(start, g->extent, &s->start) ||
	    !mul_u64(count, g->extent, &s->len) || s->start != v->size)
		return -EUCLEAN;
	s->stripe_bytes = stripes > 1 ? stripe_sectors * SECTOR : 0;
	r = seg_stripes(g, v, s, node, stripes);
	if (!r && !add_u64(v->size, s->len, &v->size))
		r = -EUCLEAN;
	if (r) {
		free(s->stripe);
		*s = (struct seg){ 0 };
		return r;
	}
	v->n_segs++;
	return 0;
}

static int lv_fill(struct vg *g, struct lv *v, int node)
{
	uint64_t n;
	int r = 0;

	if (!lvm_text_number(g->t, lvm_text_find(g->t, node, "segment_count"), &n) || !n ||
	    n > SEGS_MAX)
		return -EUCLEAN;
	v->seg = calloc(n, sizeof(*v->seg));
	if (!v->seg || asprintf(&v->name, "%s/%s", g->name, lvm_text_key(g->t, node)) < 0)
		return -ENOMEM;
	for (uint64_t i = 1; !r && i <= n; i++) {
		char key[32];
		int seg;

		snprintf(key, sizeof(key), "segment%" PRIu64, i);
		seg = lvm_text_find(g->t, node, key);
		r = seg < 0 ? -EUCLEAN : lv_add_seg(g, v, seg);
	}
	return r;
}

static bool is_visible(const struct vg *g, int lv)
{
	int el = lvm_text_first(g->t, lvm_text_find(g->t, lv, "status"));

	for (; el >= 0; el = lvm_text_next(g->t, el)) {
		const char *s = lvm_text_string(g->t, el);

		if (s && !strcmp(s, "VISIBLE"))
			return true;
	}
	return false;
}

static int vg_activate(struct vg *g)
{
	int lvs = lvm_text_find(g->t, g->root, "logical_volumes");
	uint64_t sectors;

	if (!lvm_text_number(g->t, lvm_text_find(g->t, g->root, "extent_size"), &sectors) ||
	    !sectors || !mul_u64(sectors, SECTOR, &g->extent)) {
		note_problem(g->l, "LVM group %s is damaged", g->name);
		return 0;
	}
	for (int n = lvm_text_first(g->t, lvs); n >= 0 && g->l->n_lvs < LVS_MAX;
	     n = lvm_text_next(g->t, n)) {
		struct lv *v = &g->l->lv[g->l->n_lvs];
		int r;

		if (!is_visible(g, n))
			continue;
		*v = (struct lv){ 0 };
		r = lv_fill(g, v, n);
		if (!r) {
			g->l->n_lvs++;
			continue;
		}
		lv_fini(v);
		if (r == -ENOMEM)
			return r;
		note_problem(g->l, "volume %s/%s %s", g->name, lvm_text_key(g->t, n),
			     r == -ENODEV ? "lies partly on a disk that was not given"
			     : r == -ENOTSUP
				     ? "is neither linear nor striped, which vmm cannot read"
				     : "has damaged LVM metadata");
	}
	return 0;
}

/* The group's section is the only one at the top; what else stands there are values. */
static int group_of(const struct lvm_text *t)
{
	int n = lvm_text_first(t, 0);

	while (n >= 0 && !lvm_text_is_section(t, n))
		n = lvm_text_next(t, n);
	return n;
}

static uint64_t seqno_of(const struct lvm_text *t)
{
	uint64_t n = 0;

	lvm_text_number(t, lvm_text_find(t, group_of(t), "seqno"), &n);
	return n;
}

static bool same_group(const struct lvm_text *a, const struct lvm_text *b)
{
	const char *x = lvm_text_string(a, lvm_text_find(a, group_of(a), "id"));
	const char *y = lvm_text_string(b, lvm_text_find(b, group_of(b), "id"));

	return x && y && !strcmp(x, y);
}

/* Whether physical volume @i has the newest copy of its group (the first of equals). */
static bool is_newest(const struct lvm *l, size_t i)
{
	const struct lvm_text *own = l->pv[i].text;

	for (size_t k = 0; k < l->n_pvs; k++) {
		const struct lvm_text *t = l->pv[k].text;

		if (k == i || !t || !same_group(own, t))
			continue;
		if (seqno_of(t) > seqno_of(own) || (seqno_of(t) == seqno_of(own) && k < i))
			return false;
	}
	return true;
}

int lvm_activate(struct lvm *l)
{
	int r = 0;

	for (size_t i = 0; !r && i < l->n_pvs; i++) {
		struct vg g = { .l = l, .t = l->pv[i].text };

		if (!g.t) {
			note_problem(l, "an LVM physical volume has no readable metadata");
			continue;
		}
		g.root = group_of(g.t);
		if (g.root < 0 || !is_newest(l, i))
			continue;
		g.name = lvm_text_key(g.t, g.root);
		r = vg_activate(&g);
	}
	return r;
}

size_t lvm_count(const struct lvm *l)
{
	return l->n_lvs;
}

void lvm_get(struct lvm *l, size_t i, const char **name, struct gfs_source *src, unsigned *disk)
{
	struct lv *v = &l->lv[i];

	*name = v->name;
	*src = (struct gfs_source){ lv_read, v, v->size };
	*disk = v->disk;
}

const char *lvm_problem(const struct lvm *l)
{
	return l->problem;
}
