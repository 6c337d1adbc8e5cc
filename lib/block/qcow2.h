/* SPDX-License-Identifier: MIT */
/*
 * qcow2.h - an open qcow2 image, and what its files offer each other.
 *
 * All of it is the owner's, except what is marked "any thread".
 */
#ifndef HV_QCOW2_H
#define HV_QCOW2_H

#include "block_int.h"
#include "qcow2_format.h"

/*
 * One L2 table or refcount block in memory. L2 entries are in host byte order and read by
 * queue threads; refcount blocks are kept as on disk and belong to the owner alone.
 */
struct qtable {
	struct qtable *next, *prev; /* the cache's ring, or next in limbo */
	struct qcow2 *q;
	uint32_t index;		     /* in L1 or in the refcount table */
	uint32_t dirty_lo, dirty_hi; /* bytes not yet on disk */
	unsigned pins;		     /* reservations that will commit into it */
	bool is_l2;
	bool parent_dirty; /* the entry that points here is not on disk yet */
	_Atomic bool used; /* looked at since the clock's hand passed */
	uint64_t host_off;
	uint64_t tag; /* limbo: the epoch of the eviction */
	size_t bytes;
	_Atomic uint64_t e[];
};

/* Clusters that the mapping let go of, until they may be used again. */
struct free_run {
	uint64_t cluster, n;
	uint64_t tag;	/* epoch in which they were dropped */
	bool published; /* the metadata that dropped them is on disk */
};

struct qcow2 {
	struct blk_image *img;
	unsigned version, cluster_bits, l2_bits; /* l2_bits: log2 of entries a table */
	unsigned refcount_order, rb_bits;	 /* rb_bits: log2 of counters a block */
	uint32_t cluster_size;
	bool ext_l2, backed;
	uint8_t compression;
	uint64_t incompat;
	char *backing_name;
	char backing_format[16];

	uint64_t l1_off;
	uint32_t l1_size, l1_used;    /* entries: on disk; that the size needs */
	_Atomic uint64_t *l1;	      /* l1_used, host order; any thread */
	_Atomic(struct qtable *) *l2; /* l1_used; any thread */
	_Atomic uint64_t file_end;    /* bytes; no cluster lies past it; any thread */

	_Atomic uint64_t reft_place; /* on disk, see reft_set(); any thread */
	uint32_t reft_len;	     /* entries in memory */
	uint64_t *reft;		     /* host order */
	struct qtable **rb;	     /* reft_len */

	uint32_t nb_snapshots;
	uint64_t snapshots_off;

	uint64_t cursor;	/* no free cluster below */
	uint64_t virgin;	/* clusters from here on were never written */
	struct free_run *frees; /* oldest first */
	size_t nfrees, frees_cap;
	bool publishing;
	int failed;	 /* a flush failed: what is on disk is unknown */
	uint8_t *io_buf; /* a cluster, for tables on their way out */
};

static inline struct qcow2 *qcow2_of(const struct blk_image *img)
{
	return img->state;
}
static inline uint64_t qcow2_clusters(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes >> q->cluster_bits) + ((bytes & (q->cluster_size - 1)) != 0);
}

/* The refcount table's place in one word: it moves while queue threads check offsets. */
static inline void reft_set(struct qcow2 *q, uint64_t off, uint64_t clusters)
{
	atomic_store(&q->reft_place, off >> 9 << 16 | clusters);
}
static inline void reft_get(const struct qcow2 *q, uint64_t *off, uint64_t *end)
{
	uint64_t place = atomic_load_explicit(&q->reft_place, memory_order_relaxed);

	*off = place >> 16 << 9;
	*end = *off + ((place & 0xffff) << q->cluster_bits);
}

/* qcow2_open.c */
const char *qcow2_backing_name(const struct blk_image *img);
const char *qcow2_backing_format(const struct blk_image *img);
/** qcow2_set_backed - something lies beneath this image though it names nothing. */
void qcow2_set_backed(struct blk_image *img);
/** qcow2_make_writable - repairs and header changes before the first write of a chain's top. */
int qcow2_make_writable(struct blk *b, struct err *e);
int qcow2_open(struct blk_image *img, struct err *e);
int qcow2_close(struct blk_image *img);
/** qcow2_write_features - set the header's incompatible bits on disk, and flush. */
int qcow2_write_incompat(struct qcow2 *q, uint64_t bits);
void qcow2_corrupt(struct blk_image *img);
/** qcow2_host_ok - may [off, off + len) hold a table or data? Any thread. */
bool qcow2_host_ok(const struct qcow2 *q, uint64_t off, uint64_t len);

/* qcow2_map.c */
int qcow2_map(struct blk_image *img, uint64_t off, uint64_t len, struct blk_extent *out);
int qcow2_load(struct blk_image *img, uint64_t off);
/** qcow2_l2_get - the L2 table for guest offset @off; NULL in *@out where there is none. */
int qcow2_l2_get(struct qcow2 *q, uint64_t off, struct qtable **out);
/** qcow2_compressed_range - where the entry's bytes lie. */
void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *off, uint64_t *len);

/* qcow2_cache.c */
/** qtable_new - an empty table that nobody can find before qtable_insert(); free() undoes. */
int qtable_new(struct qcow2 *q, bool is_l2, uint32_t index, uint64_t host_off, struct qtable **out);
/** qtable_read - the same, filled from disk and found from now on. */
int qtable_read(struct qcow2 *q, bool is_l2, uint32_t index, uint64_t host_off,
		struct qtable **out);
void qtable_insert(struct qtable *t);
/** qtable_fill - its contents from @host_off. */
int qtable_fill(struct qtable *t, uint64_t host_off);
void qtable_dirty(struct qtable *t, uint32_t byte, uint32_t len);
int qtable_write(struct qtable *t);
/** qtable_drop - forget a table, dirty or not; its memory follows when nobody looks. */
void qtable_drop(struct qtable *t);
void table_cache_reclaim(struct blk *b);
void table_cache_drop_image(struct qcow2 *q);
void table_cache_fini(struct blk *b);
void table_cache_move(struct blk *to, struct blk *from);

/* qcow2_compress.c */
int qcow2_decompress(struct blk_image *img, const struct blk_extent *x, const uint8_t **out);
void cluster_cache_free(struct cluster_cache *c);

/* qcow2_alloc.c */
int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *cluster, uint64_t *got, bool *virgin);
/** qcow2_unalloc - give back at once what was never linked. */
void qcow2_unalloc(struct qcow2 *q, uint64_t cluster, uint64_t n);
int qcow2_refcount_dec(struct qcow2 *q, uint64_t cluster, uint64_t *left);
uint64_t refcount_load(const void *block, uint64_t i, unsigned order);
void refcount_store(void *block, uint64_t i, unsigned order, uint64_t v);

/* qcow2_free.c */
void qcow2_free_later(struct qcow2 *q, uint64_t cluster, uint64_t n);
void qcow2_free_entry(struct qcow2 *q, uint64_t entry);
bool qcow2_free_ready(struct qcow2 *q);
void qcow2_frees_published(struct qcow2 *q);

/* qcow2_write.c */
int qcow2_reserve(struct blk_image *img, uint64_t off, uint64_t len, struct blk_resv *out);
int qcow2_commit(struct blk_image *img, struct blk_resv *rv);
void qcow2_abort(struct blk_image *img, struct blk_resv *rv);
int qcow2_zero(struct blk_image *img, uint64_t off, uint64_t len, bool unmap);
/** qcow2_l2_writable - an L2 table of our own for @off, made or copied if need be. */
int qcow2_l2_writable(struct qcow2 *q, uint64_t off, struct qtable **out);

/* qcow2_publish.c */
int qcow2_publish(struct blk_image *img);
bool qcow2_tidy(struct blk_image *img);

/* qcow2_check.c */
int qcow2_rebuild_refcounts(struct qcow2 *q, struct err *e);

#endif
