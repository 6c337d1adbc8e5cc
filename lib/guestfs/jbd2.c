/* SPDX-License-Identifier: MIT */
/*
 * ext3's and ext4's journal (jbd2), replayed in memory.
 *
 * Three walks over the log, as the kernel makes them: the first finds the last complete
 * transaction, the second collects what was revoked, the third notes for every block
 * where in the journal its newest contents lie. Nothing is copied: ext4_io.c reads those
 * blocks from the journal's place.
 *
 * Bounds: a walk visits at most as many blocks as the journal has; a patch costs a
 * journal block, a revoke record 4 or 8 bytes of one, and both are counted.
 */
#include "ext4_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define JBD2_MAGIC 0xc03b3998u
#define JBD2_SB_LEN 1024u
#define JBD2_HEADER 12u		   /* magic, type, sequence */
#define JBD2_BLOCKS_MAX (1u << 22) /* 16 GiB with 4 KiB blocks; mke2fs stops at 1 GiB */
#define JBD2_REVOKES_MAX (1u << 22)
#define JBD2_FC_BLOCKS 256u /* where the superblock leaves the number out */
#define JBD2_FC_TAG_HEAD 9u

enum { BLOCK_DESCRIPTOR = 1, BLOCK_COMMIT, BLOCK_SB_V1, BLOCK_SB_V2, BLOCK_REVOKE };
enum { COMPAT_CHECKSUM = 1 };
enum {
	INCOMPAT_REVOKE = 0x01,
	INCOMPAT_64BIT = 0x02,
	INCOMPAT_ASYNC_COMMIT = 0x04,
	INCOMPAT_CSUM_V2 = 0x08,
	INCOMPAT_CSUM_V3 = 0x10,
	INCOMPAT_FAST_COMMIT = 0x20,
	INCOMPAT_KNOWN = 0x3f,
};
enum { TAG_ESCAPED = 1, TAG_SAME_UUID = 2, TAG_LAST = 8 };
enum pass { PASS_SCAN, PASS_REVOKE, PASS_REPLAY };

struct revoke {
	uint64_t block;
	uint32_t seq;
};

struct jbd2 {
	ext2_filsys fs;
	struct ext4_dev *d;
	struct ext4_file *file;
	uint8_t *desc, *data; /* a block each */
	uint32_t bs;
	uint32_t first, last; /* log blocks: [first, last) */
	uint32_t start, start_seq, end_seq;
	uint32_t incompat;
	bool crc_v1;   /* commit blocks sum their whole transaction */
	uint32_t seed; /* of crc32c, v2 and v3 */
	uint32_t crc;  /* running sum, v1 */
	struct revoke *revoke;
	size_t n_revokes, cap_revokes;
	struct ext4_patch *patch;
	size_t n_patch, cap_patch;
	unsigned bad_blocks;
};

static bool has_csum(const struct jbd2 *j)
{
	return j->incompat & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3);
}

/* Sequence numbers wrap. */
static bool seq_after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

static int log_place(struct jbd2 *j, uint32_t block, uint64_t *pblk)
{
	uint64_t run;
	int r = ext4_file_map(j->file, block, pblk, &run);

	if (!r && (!*pblk || *pblk >= ext2fs_blocks_count(j->fs->super)))
		r = -EUCLEAN;
	return r;
}

static int log_read(struct jbd2 *j, uint32_t block, uint8_t *buf)
{
	uint64_t pblk;
	int r = log_place(j, block, &pblk);

	return r ? r : gfs_src_read(j->d->src, pblk * j->bs, buf, j->bs);
}

static uint32_t log_next(const struct jbd2 *j, uint32_t block)
{
	return block + 1 < j->last ? block + 1 : j->first;
}

/* crc32c over a block whose own sum, 4 bytes at @at, counts as zero. */
static bool block_sum_ok(const struct jbd2 *j, uint8_t *b, size_t at)
{
	uint32_t want = load_be32(b + at), sum;

	store_be32(b + at, 0);
	sum = ext2fs_crc32c_le(j->seed, b, j->bs);
	store_be32(b + at, want);
	return sum == want;
}

/* ---- descriptor blocks --------------------------------------------------------------------------
 */

struct tag {
	uint64_t block;
	uint32_t flags, sum;
};

static size_t tag_size(const struct jbd2 *j)
{
	if (j->incompat & INCOMPAT_CSUM_V3)
		return 16;
	return 8 + (j->incompat & INCOMPAT_CSUM_V2 ? 2 : 0) +
	       (j->incompat & INCOMPAT_64BIT ? 4 : 0);
}

/* The tag at *@off of the descriptor in j->desc; false behind the last. */
static bool tag_next(const struct jbd2 *j, size_t *off, struct tag *t)
{
	size_t size = tag_size(j), end = j->bs - (has_csum(j) ? 4 : 0);
	const uint8_t *p = j->desc + *off;

	if (!*off || *off + size > end)
		return false;
	t->block = load_be32(p);
	if (j->incompat & INCOMPAT_CSUM_V3) {
		t->flags = load_be32(p + 4);
		t->sum = load_be32(p + 12);
	} else {
		t->flags = load_be16(p + 6);
		t->sum = load_be16(p + 4);
	}
	if (j->incompat & INCOMPAT_64BIT)
		t->block |= (uint64_t)load_be32(p + 8) << 32;
	*off += size + (t->flags & TAG_SAME_UUID ? 0 : 16);
	if (t->flags & TAG_LAST)
		*off = 0;
	return true;
}

static bool tag_sum_ok(const struct jbd2 *j, const struct tag *t, uint32_t seq)
{
	uint8_t be_seq[4];
	uint32_t sum;

	if (!has_csum(j))
		return true;
	store_be32(be_seq, seq);
	sum = ext2fs_crc32c_le(j->seed, be_seq, 4);
	sum = ext2fs_crc32c_le(sum, j->data, j->bs);
	return t->sum == (j->incompat & INCOMPAT_CSUM_V3 ? sum : (sum & 0xffff));
}

/* ---- revoke records
 * -------------------------------------------------------------------------------- */

static int revoke_add(struct jbd2 *j, uint64_t block, uint32_t seq)
{
	if (j->n_revokes == j->cap_revokes) {
		size_t cap = MAX(2 * j->cap_revokes, (size_t)256);
		struct revoke *p;

		if (cap > JBD2_REVOKES_MAX)
			return -EUCLEAN;
		p = realloc(j->revoke, cap * sizeof(*p));
		if (!p)
			return -ENOMEM;
		j->revoke = p;
		j->cap_revokes = cap;
	}
	j->revoke[j->n_revokes++] = (struct revoke){ block, seq };
	return 0;
}

static int revoke_block(struct jbd2 *j, uint32_t seq)
{
	size_t width = j->incompat & INCOMPAT_64BIT ? 8 : 4;
	size_t end = load_be32(j->desc + JBD2_HEADER), max = j->bs - (has_csum(j) ? 4 : 0);
	int r = 0;

	if (end > max)
		return -EUCLEAN;
	for (size_t off = JBD2_HEADER + 4; !r && off + width <= end; off += width)
		r = revoke_add(j, width == 8 ? load_be64(j->desc + off) : load_be32(j->desc + off),
			       seq);
	return r;
}

static int cmp_revoke(const void *pa, const void *pb)
{
	const struct revoke *a = pa, *b = pb;

	if (a->block != b->block)
		return a->block < b->block ? -1 : 1;
	return seq_after(b->seq, a->seq) ? -1 : a->seq != b->seq;
}

/* One record a block, its newest. */
static void revoke_sort(struct jbd2 *j)
{
	size_t n = 0;

	if (!j->n_revokes)
		return;
	qsort(j->revoke, j->n_revokes, sizeof(*j->revoke), cmp_revoke);
	for (size_t i = 0; i < j->n_revokes; i++) {
		if (n && j->revoke[n - 1].block == j->revoke[i].block)
			n--;
		j->revoke[n++] = j->revoke[i];
	}
	j->n_revokes = n;
}

/* Revoked in this transaction or a later one: the block became something else. */
static bool is_revoked(const struct jbd2 *j, uint64_t block, uint32_t seq)
{
	size_t lo = 0, hi = j->n_revokes;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (j->revoke[mid].block < block)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < j->n_revokes && j->revoke[lo].block == block &&
	       !seq_after(seq, j->revoke[lo].seq);
}

/* ---- patches
 * ---------------------------------------------------------------------------------------- */

static int patch_add(struct jbd2 *j, const struct tag *t, uint32_t log_block, uint32_t seq)
{
	struct ext4_patch *p;
	uint64_t pblk;
	int r;

	if (t->block >= ext2fs_blocks_count(j->fs->super))
		return -EUCLEAN;
	if (is_revoked(j, t->block, seq))
		return 0;
	r = has_csum(j) ? log_read(j, log_block, j->data) : 0;
	if (!r)
		r = log_place(j, log_block, &pblk);
	if (r)
		return r;
	if (!tag_sum_ok(j, t, seq)) { /* as the kernel: that block stays as it was */
		j->bad_blocks++;
		return 0;
	}
	if (j->n_patch == j->cap_patch) {
		size_t cap = MAX(2 * j->cap_patch, (size_t)256);

		p = realloc(j->patch, cap * sizeof(*p));
		if (!p)
			return -ENOMEM;
		j->patch = p;
		j->cap_patch = cap;
	}
	j->patch[j->n_patch] = (struct ext4_patch){ .block = t->block,
						    .journal_block = pblk,
						    .order = (uint32_t)j->n_patch,
						    .escaped = t->flags & TAG_ESCAPED };
	j->n_patch++;
	return 0;
}

static int cmp_patch(const void *pa, const void *pb)
{
	const struct ext4_patch *a = pa, *b = pb;

	if (a->block != b->block)
		return a->block < b->block ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

/* One patch a block, the last that was written, handed to the device. */
static void patch_install(struct jbd2 *j)
{
	size_t n = 0;

	if (j->n_patch)
		qsort(j->patch, j->n_patch, sizeof(*j->patch), cmp_patch);
	for (size_t i = 0; i < j->n_patch; i++) {
		if (n && j->patch[n - 1].block == j->patch[i].block)
			n--;
		j->patch[n++] = j->patch[i];
	}
	free(j->d->patch);
	j->d->patch = j->patch;
	j->d->n_patch = n;
	j->patch = NULL;
}

/* ---- walks
 * -------------------------------------------------------------------------------------------- */

struct walk {
	enum pass pass;
	uint32_t block, seq;
	uint32_t left; /* blocks that may still be visited */
	bool end;
};

/* The blocks behind a descriptor; w->block is at the first of them. */
static int walk_tags(struct jbd2 *j, struct walk *w)
{
	size_t off = JBD2_HEADER;
	struct tag t;
	int r = 0;

	if (w->pass == PASS_SCAN && j->crc_v1)
		j->crc = ext2fs_crc32_be(j->crc, j->desc, j->bs);
	while (!r && tag_next(j, &off, &t)) {
		if (!w->left--) {
			w->left = 0;
			return -EUCLEAN;
		}
		if (w->pass == PASS_REPLAY) {
			r = patch_add(j, &t, w->block, w->seq);
		} else if (w->pass == PASS_SCAN && j->crc_v1) {
			r = log_read(j, w->block, j->data);
			if (!r)
				j->crc = ext2fs_crc32_be(j->crc, j->data, j->bs);
		}
		w->block = log_next(j, w->block);
	}
	return r;
}

/* Whether a transaction's commit block says that all of it reached the disk. */
static bool commit_ok(struct jbd2 *j)
{
	const uint8_t *c = j->desc;
	uint32_t sum = load_be32(c + 16);

	if (has_csum(j))
		return block_sum_ok(j, j->desc, 16);
	if (!j->crc_v1)
		return true;
	return (c[12] == 1 && c[13] == 4 && sum == j->crc) || (!c[12] && !c[13] && !sum);
}

static int walk_block(struct jbd2 *j, struct walk *w)
{
	uint32_t type = load_be32(j->desc + 4);
	bool scan = w->pass == PASS_SCAN;

	w->end = true;
	if (load_be32(j->desc) != JBD2_MAGIC || load_be32(j->desc + 8) != w->seq)
		return 0;
	w->block = log_next(j, w->block);
	switch (type) {
	case BLOCK_DESCRIPTOR:
		if (scan && has_csum(j) && !block_sum_ok(j, j->desc, j->bs - 4))
			return 0;
		w->end = false;
		return walk_tags(j, w);
	case BLOCK_COMMIT:
		if (scan && !commit_ok(j))
			return 0;
		w->end = false;
		w->seq++;
		j->crc = ~0u;
		return 0;
	case BLOCK_REVOKE:
		if (scan && has_csum(j) && !block_sum_ok(j, j->desc, j->bs - 4))
			return 0;
		w->end = false;
		return w->pass == PASS_REVOKE ? revoke_block(j, w->seq) : 0;
	}
	return 0;
}

static int walk_log(struct jbd2 *j, enum pass pass)
{
	struct walk w = { .pass = pass, .block = j->start, .seq = j->start_seq, .left = j->last };
	int r = 0;

	j->crc = ~0u;
	while (!r && !w.end && w.left) {
		w.left--;
		if (pass != PASS_SCAN && !seq_after(j->end_seq, w.seq))
			return 0;
		r = log_read(j, w.block, j->desc);
		if (!r)
			r = walk_block(j, &w);
	}
	if (pass != PASS_SCAN)
		return r;
	j->end_seq = w.seq;
	return r == -EUCLEAN ? 0 : r; /* a torn descriptor: the transactions before it count */
}

/* ---- opening
 * ------------------------------------------------------------------------------------------- */

static int read_super(struct jbd2 *j, struct err *e)
{
	const uint8_t *sb = j->desc;
	uint32_t type, maxlen;
	int r = log_read(j, 0, j->desc);

	if (r)
		return err_set(e, r, "journal superblock: %s", strerror(-r));
	type = load_be32(sb + 4);
	maxlen = load_be32(sb + 16);
	if (load_be32(sb) != JBD2_MAGIC || (type != BLOCK_SB_V1 && type != BLOCK_SB_V2) ||
	    load_be32(sb + 12) != j->bs)
		return err_set(e, -EUCLEAN, "journal superblock is damaged");
	if (type == BLOCK_SB_V2) {
		j->crc_v1 = load_be32(sb + 36) & COMPAT_CHECKSUM;
		j->incompat = load_be32(sb + 40);
	}
	if (j->incompat & ~(uint32_t)INCOMPAT_KNOWN)
		return err_set(e, -ENOTSUP, "journal has unknown features 0x%x", j->incompat);
	j->first = load_be32(sb + 20);
	j->start_seq = load_be32(sb + 24);
	j->start = load_be32(sb + 28);
	j->last = maxlen;
	if (j->incompat & INCOMPAT_FAST_COMMIT) {
		uint32_t fc = load_be32(sb + 84) ? load_be32(sb + 84) : JBD2_FC_BLOCKS;

		j->last = fc < maxlen ? maxlen - fc : 0;
	}
	if (maxlen > JBD2_BLOCKS_MAX || maxlen > ext4_ino_size(j->file) / j->bs || !j->first ||
	    j->first >= j->last || (j->start && (j->start < j->first || j->start >= j->last)))
		return err_set(e, -EUCLEAN, "journal superblock is damaged");
	if (has_csum(j)) {
		j->seed = ext2fs_crc32c_le(~0u, sb + 48, 16);
		if (load_be32(sb + 252) != 0) {
			uint8_t copy[JBD2_SB_LEN];

			memcpy(copy, sb, sizeof(copy));
			store_be32(copy + 252, 0);
			if (ext2fs_crc32c_le(~0u, copy, sizeof(copy)) != load_be32(sb + 252))
				return err_set(e, -EUCLEAN,
					       "journal superblock has a wrong checksum");
		}
	}
	return 0;
}

/* Fast commits behind the last full one describe changes to inodes, not blocks. */
static int check_fast_commits(struct jbd2 *j, struct err *e)
{
	if (!(j->incompat & INCOMPAT_FAST_COMMIT))
		return 0;
	if (log_read(j, j->last, j->desc))
		return 0;
	if (load_le16(j->desc) != JBD2_FC_TAG_HEAD || load_le32(j->desc + 8) != j->end_seq)
		return 0;
	return err_set(e, -ENOTSUP,
		       "its journal holds fast commits, which are not replayed here: "
		       "run e2fsck on it, or boot with --kernel");
}

static int replay(struct jbd2 *j, char *note, size_t note_size, struct err *e)
{
	int r = read_super(j, e);

	if (r)
		return r;
	if (!j->start) {
		snprintf(note, note_size, "journal is empty");
		return 0;
	}
	r = walk_log(j, PASS_SCAN);
	if (!r) {
		r = check_fast_commits(j, e);
		if (r)
			return r;
		r = walk_log(j, PASS_REVOKE);
	}
	revoke_sort(j);
	if (!r)
		r = walk_log(j, PASS_REPLAY);
	if (r)
		return err_set(e, r, "replaying its journal: %s", strerror(-r));
	patch_install(j);
	snprintf(note, note_size, "journal replayed in memory: %u transactions, %zu blocks",
		 j->end_seq - j->start_seq, j->d->n_patch);
	if (j->bad_blocks)
		snprintf(note + strlen(note), note_size - strlen(note),
			 ", %u with wrong checksums left out", j->bad_blocks);
	return 0;
}

int jbd2_replay(ext2_filsys fs, struct ext4_dev *d, char *note, size_t note_size, struct err *e)
{
	struct jbd2 j = { .fs = fs, .d = d, .bs = fs->blocksize };
	int r = ext4_ino_open(fs, d, fs->super->s_journal_inum, &j.file);

	if (r)
		return err_set(e, r, "its journal cannot be read: %s", strerror(-r));
	j.desc = malloc(j.bs);
	j.data = malloc(j.bs);
	r = j.desc && j.data ? replay(&j, note, note_size, e)
			     : err_set(e, -ENOMEM, "out of memory");
	ext4_ino_close(j.file);
	free(j.desc);
	free(j.data);
	free(j.revoke);
	free(j.patch);
	return r;
}
