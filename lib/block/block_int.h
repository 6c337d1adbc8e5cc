/* SPDX-License-Identifier: MIT */
/*
 * block_int.h - what the files of lib/block share: an image, a chain, a driver.
 *
 * Threads. The "owner" of a blk is the metadata thread while queues are open, else the
 * caller of the sync functions. Everything here is the owner's, except what is said to be
 * for any thread: a driver's map(), the atomics, and the fields that never change after open.
 */
#ifndef HV_BLOCK_INT_H
#define HV_BLOCK_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "epoch.h"
#include "file.h"
#include "hv/block.h"

struct blk_image;
struct meta;

/* A range being filled: nobody else may change its clusters until commit or abort. */
struct blk_resv {
	struct blk_resv *next;	 /* list of the owner (meta.c) */
	struct blk_req *waiters; /* requests that want the same clusters, oldest first */
	uint64_t off, len;	 /* guest bytes, whole clusters */
	uint64_t host_off;	 /* where @off's cluster goes */
	uint64_t data_end;	 /* guest offset where the caller's data ends */
	void *table;		 /* the driver's: kept in memory until commit */
	bool reused;		 /* the clusters were the guest range's own already */
};

struct blk_driver {
	const char *name;
	/* Image opened, drv and file set; fills size. */
	int (*open)(struct blk_image *img, struct err *e);
	/* Write back what is pending and release; errors of writing are returned. */
	int (*close)(struct blk_image *img);
	/*
	 * Any thread. Describe a prefix of the range from what is in memory; BLK_HOLE means
	 * "not in this image". -EAGAIN: ask the owner to load(). -EUCLEAN: report(corrupt).
	 */
	int (*map)(struct blk_image *img, uint64_t off, uint64_t len, struct blk_extent *out);
	int (*load)(struct blk_image *img, uint64_t off);
	/* The decompressed cluster of a COMPRESSED extent; valid until the next call. */
	int (*decompress)(struct blk_image *img, const struct blk_extent *x, const uint8_t **out);
	/* Allocate for a prefix of the range, filling what the caller does not write. */
	int (*reserve)(struct blk_image *img, uint64_t off, uint64_t len, struct blk_resv *out);
	int (*commit)(struct blk_image *img, struct blk_resv *rv);
	void (*abort)(struct blk_image *img, struct blk_resv *rv);
	/* Make whole clusters read as zeros. -ENOTSUP: write zeros instead. */
	int (*zero)(struct blk_image *img, uint64_t off, uint64_t len, bool unmap);
	int (*publish)(struct blk_image *img);
	/* Between batches of work: free what epochs have released; true if some is left. */
	bool (*tidy)(struct blk_image *img);
	void (*corrupt)(struct blk_image *img);
	uint32_t (*granularity)(const struct blk_image *img);
};

struct blk_image {
	struct blk *blk;
	const struct blk_driver *drv;
	void *state; /* the driver's */
	struct bfile file;
	uint64_t size; /* virtual bytes */
	char *path;
	unsigned depth; /* 0: the top of the chain */
	bool probed, readonly, locked;
	bool no_backing;
};

/* Tables of all images of a chain, against one budget (qcow2_cache.c). */
struct table_cache {
	struct qtable *ring;	/* in memory, in clock order */
	struct qtable *limbo;	/* evicted, perhaps still read by a queue */
	_Atomic uint64_t bytes; /* of both */
	uint64_t budget;
	struct cluster_cache *clusters; /* decompressed ones */
};

struct blk {
	struct blk_image **image; /* the chain, top first */
	unsigned images;
	uint64_t size;
	bool readonly;
	bool ephemeral; /* nobody will open it again: close writes nothing */
	enum blk_cache cache;
	uint32_t align; /* the largest of the files' units */
	bool slow_io;	/* extents may be smaller than align: the owner moves data */
	bool any_direct;
	struct table_cache tables;
	uint8_t *cow;	/* owner's scratch, COW_BYTES */
	uint8_t *guard; /* likewise, 4096 aligned bytes for sector 0 */
	struct epoch epoch;
	struct epoch_slot *slots; /* of the open queues, under lock */
	pthread_mutex_t lock;	  /* slots, queues */
	unsigned queues;
	struct meta *meta;
	_Atomic bool meta_dirty; /* something is committed and not published */
	_Atomic bool corrupt;	 /* of the top image: writes are refused */
	_Atomic uint64_t guard_refusals;
	_Atomic uint64_t publishes;
};

#define BLK_COW_BYTES KIB(256)
#define BLK_TABLE_BUDGET MIB(32)
#define BLK_CHAIN_TABLES_MAX MIB(128) /* first-level tables of all images of a chain */

extern const struct blk_driver blk_raw_driver;
extern const struct blk_driver blk_qcow2_driver;

/* chain.c */
int blk_open_with(const struct blk_open *o, const struct bfile_ops *ops, void *ops_ctx,
		  struct blk **out, struct err *e);
int blk_image_stack(struct blk *b, struct blk_image *img);
void blk_image_free(struct blk_image *img);

/* map.c: the chain seen as one. Any thread; @*at is the image that said -EAGAIN or -EUCLEAN. */
int blk_chain_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out, unsigned *at);

/* sync.c: the owner's I/O. Ranges are checked by the callers (the funnel). */
int blk_own_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);
int blk_own_read(struct blk *b, uint64_t off, uint64_t len, struct iov_cursor *c);
int blk_own_write(struct blk *b, uint64_t off, uint64_t len, struct iov_cursor *c);
int blk_own_zero(struct blk *b, uint64_t off, uint64_t len, bool unmap);
int blk_own_discard(struct blk *b, uint64_t off, uint64_t len);
/* Link what was committed. Loads and drops no table, lowers no counter: safe in mid-change. */
int blk_own_link(struct blk *b);
/* The same, then let go of what that has dropped, which loads refcount blocks. */
int blk_own_publish(struct blk *b);
int blk_own_flush(struct blk *b);
bool blk_own_tidy(struct blk *b);
/* Publish until nothing is left to link or to free. No queue is open. */
int blk_own_settle(struct blk *b);
/* What lies beneath image @depth, for COW: the bytes of images depth+1 and on. */
int blk_own_read_from(struct blk *b, unsigned depth, uint64_t off, uint64_t len, void *buf);
/* Read the next bytes of the cursor as @x describes them. */
int blk_own_read_extent(struct blk *b, const struct blk_extent *x, struct iov_cursor *c);
void blk_own_corrupt(struct blk *b, unsigned depth);

/* raw.c */
bool blk_is_image_header(const uint8_t sector[512]);

static inline struct blk_image *blk_top(const struct blk *b)
{
	return b->image[0];
}

#endif
