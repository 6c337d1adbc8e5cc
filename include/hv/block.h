/* SPDX-License-Identifier: MIT */
/*
 * block.h - disk images: open, read, write, map; raw and qcow2, chains of backing files.
 *
 * A struct blk is one image with its chain of backing files. There are two ways in:
 *
 *  - synchronous (blk_pread, blk_pwrite, blk_flush, …): tools, boot discovery, tests.
 *    One thread at a time per blk, and never while queues are open on it.
 *  - asynchronous: a struct blk_queue per I/O thread; requests complete by callback on
 *    the thread that submitted them. Any number of queues on one blk at once.
 *
 * Metadata and data are apart (docs/ARCHITECTURE.md, "Block layer"): queue threads only
 * look mappings up and move data; whatever changes or loads metadata happens on the
 * image's one metadata thread, which blk_queue_open() starts with the first queue.
 */
#ifndef HV_BLOCK_H
#define HV_BLOCK_H

#include <sys/uio.h>

#include "hv/base.h"
#include "hv/err.h"

struct blk;
struct blk_queue;

#define BLK_CHAIN_MAX 200 /* images in a chain, the top one included */
#define BLK_NAME_MAX 1023 /* bytes of a backing file's name */

enum blk_format { BLK_FORMAT_PROBE, BLK_FORMAT_RAW, BLK_FORMAT_QCOW2 };
enum blk_cache {
	BLK_CACHE_WRITEBACK,	/* page cache; flush is fdatasync */
	BLK_CACHE_NONE,		/* O_DIRECT (the fd was opened so); unaligned requests bounce */
	BLK_CACHE_WRITETHROUGH, /* every write is followed by a flush */
	BLK_CACHE_UNSAFE,	/* flushes are ignored */
};

/*
 * The gate opens what an image names (a backing file). The library itself never opens
 * a path: the caller decides (deny, same directory, allow), perhaps in another process.
 * @name is the name as found in the image (not terminated by more than one NUL, at most
 * BLK_NAME_MAX bytes); @parent_path is the naming image's path as blk_open was told.
 * On success *@fd is an O_RDONLY|O_CLOEXEC descriptor that the library now owns and @path
 * (BLK_NAME_MAX + 1 + PATH_MAX bytes) holds the path under which its own backing is looked up.
 */
#define BLK_PATH_MAX 5120
typedef int (*blk_gate_fn)(void *ctx, const char *parent_path, const char *name, int *fd,
			   char path[BLK_PATH_MAX], struct err *e);

struct blk_open {
	const char *path;	/* for messages, and for the gate; borrowed during the call */
	int fd;			/* the image; owned by the blk from a successful open on */
	enum blk_format format; /* PROBE: by magic; a probed raw image guards its sector 0 */
	enum blk_cache cache;
	bool readonly;
	bool no_backing;  /* do not open backing files (info, header checks) */
	bool no_lock;	  /* take no OFD locks (the caller holds them, or wants none) */
	blk_gate_fn gate; /* NULL: deny */
	void *gate_ctx;
};

struct blk_stats {
	uint64_t meta_cache_bytes;	  /* qcow2 tables held in memory now */
	uint64_t meta_cache_budget_bytes; /* and at most */
	uint64_t guard_refusals;	  /* writes refused: they would make sector 0 a header */
	uint64_t publishes;		  /* times metadata was linked and flushed */
};

/**
 * blk_open - open an image and its chain
 *
 * Validates every header field before anything is allocated for it. Locks: shared for
 * reading, exclusive for writing, in QEMU's byte layout; a conflict is -EBUSY. On failure
 * @o->fd stays the caller's.
 *
 * Return: 0 with *@out to be closed by blk_close(); -errno with a line in @e that names
 * the file. -EUCLEAN: corrupt. -ENOTSUP: encrypted, external data file, unknown feature.
 */
int blk_open(const struct blk_open *o, struct blk **out, struct err *e);

/**
 * blk_close - publish, flush, release, drop the locks on the descriptors whoever took them
 *
 * All queues are closed before. Returns the first error.
 */
int blk_close(struct blk *b);

/** blk_size - virtual size in bytes. Any thread. */
uint64_t blk_size(const struct blk *b);
bool blk_readonly(const struct blk *b);
/** blk_format_name - "raw" or "qcow2". */
const char *blk_format_name(const struct blk *b);
/** blk_cluster_size - granularity of allocation in bytes; 512 for raw. */
uint32_t blk_cluster_size(const struct blk *b);
/** blk_get_stats - counters and the metadata cache's size. Any thread. */
void blk_get_stats(const struct blk *b, struct blk_stats *out);

/** blk_pread - read exactly @len bytes at @off; -EINVAL past the end, -EUCLEAN, -EIO. */
int blk_pread(struct blk *b, uint64_t off, void *buf, size_t len);
/** blk_pwrite - write exactly @len bytes at @off; -EROFS, -EINVAL past the end, -ENOSPC. */
int blk_pwrite(struct blk *b, uint64_t off, const void *buf, size_t len);
/** blk_pwrite_zeroes - make a range read as zeros, deallocating where @unmap allows. */
int blk_pwrite_zeroes(struct blk *b, uint64_t off, uint64_t len, bool unmap);
/** blk_pdiscard - drop a range; whole clusters only, the ragged ends are left alone. */
int blk_pdiscard(struct blk *b, uint64_t off, uint64_t len);
/** blk_flush - all completed writes are durable when this returns 0. */
int blk_flush(struct blk *b);

enum blk_extent_kind {
	BLK_DATA,	/* bytes at @host_off of file @file */
	BLK_ZERO,	/* reads as zeros; nothing to read */
	BLK_COMPRESSED, /* one compressed cluster at @host_off of @file, @host_len bytes */
	BLK_HOLE,	/* in no image of the chain: reads as zeros */
};
struct blk_extent {
	enum blk_extent_kind kind;
	unsigned depth;	   /* 0: the top image */
	unsigned file;	   /* index for blk_file_fd() */
	bool in_place;	   /* DATA of the top image that may be overwritten where it is */
	uint64_t off, len; /* bytes of the virtual disk described */
	uint64_t host_off, host_len;
};
/** blk_map_sync - what holds the bytes from @off on; len >= 1 unless @off is the size. */
int blk_map_sync(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);

/** blk_files/blk_file_fd - the chain's descriptors (borrowed), for registering with a ring. */
unsigned blk_files(const struct blk *b);
int blk_file_fd(const struct blk *b, unsigned file);

/* ---- asynchronous side ------------------------------------------------------------ */

enum blk_op { BLK_OP_READ, BLK_OP_WRITE, BLK_OP_FLUSH, BLK_OP_DISCARD, BLK_OP_WRITE_ZEROES };

/*
 * One request. The caller owns the storage and the iovecs and keeps both, unchanged,
 * until @done is called. @priv is the library's.
 */
struct blk_req {
	enum blk_op op;
	bool unmap;	   /* WRITE_ZEROES: may deallocate */
	uint64_t off, len; /* bytes; len equals the iovec's total for READ and WRITE */
	const struct iovec *iov;
	unsigned iovcnt;
	int result;			   /* 0 or -errno, valid in @done */
	void (*done)(struct blk_req *req); /* on the queue's thread */
	uint64_t priv[24];
};

/*
 * One transfer that the library asks the I/O thread for. The thread calls
 * blk_io_done() on the same thread, later or from within submit itself.
 */
enum blk_io_op { BLK_IO_READ, BLK_IO_WRITE, BLK_IO_FDATASYNC, BLK_IO_FALLOCATE };
struct blk_io {
	enum blk_io_op op;
	unsigned file;	 /* blk_file_fd() index */
	int fd;		 /* the same file's descriptor */
	int falloc_mode; /* FALLOCATE: FALLOC_FL_* */
	uint64_t off, len;
	const struct iovec *iov;
	unsigned iovcnt;
	struct blk_io *next; /* free for the I/O thread while it holds the io */
	void *thread_priv;   /* likewise */
};

struct blk_io_ops {
	/* Start @io; short transfers are the I/O thread's to continue. Queue's thread only. */
	void (*submit)(void *ctx, struct blk_io *io);
	/* Make the queue's thread call blk_queue_run() soon. Any thread; must not block. */
	void (*wake)(void *ctx);
};

/**
 * blk_queue_open - start asynchronous use from one I/O thread
 * @ops, @ctx: that thread's transfer functions; borrowed until blk_queue_close()
 *
 * The calling thread may be any; all later calls on the queue come from its I/O thread.
 */
int blk_queue_open(struct blk *b, const struct blk_io_ops *ops, void *ctx, struct blk_queue **out,
		   struct err *e);
/**
 * blk_queue_close - every request is done; stops the metadata thread with the last queue
 *
 * Not from within a done callback. Waits for a publish, that is for the disk, with the last.
 */
void blk_queue_close(struct blk_queue *q);
/** blk_submit - start @req; @req->done may be called before this returns. Never blocks. */
void blk_submit(struct blk_queue *q, struct blk_req *req);
/** blk_io_done - @io has ended: 0 or -errno (EOF of a read is zero-filled by the thread). */
void blk_io_done(struct blk_queue *q, struct blk_io *io, int result);
/** blk_queue_run - take in what the metadata thread has finished; call after wake(). */
void blk_queue_run(struct blk_queue *q);

/* ---- locks and the gate ------------------------------------------------------------ */

/**
 * blk_lock_fd - take QEMU's locks on an image's descriptor (blk_open does so by itself)
 * @write: as a program that writes it; otherwise as a reader, which other readers may join
 *
 * They belong to the open file description: a descriptor passed to another process carries
 * them along, and the last close (or blk_unlock_fd) drops them. The other user is not known
 * to the kernel; the caller may add its pid from elsewhere.
 *
 * Return: 0, also on file systems without locks; -EBUSY "… is in use by another program".
 */
int blk_lock_fd(int fd, bool write, const char *path, struct err *e);
/** blk_unlock_fd - drop them, in every process that shares the description. */
void blk_unlock_fd(int fd);

enum blk_gate_policy {
	BLK_GATE_DENY,
	BLK_GATE_SAME_DIR, /* beneath the naming image's directory, no symlinks */
	BLK_GATE_ALLOW,	   /* whatever path the image names */
};
struct blk_gate {
	enum blk_gate_policy policy;
	bool lock;	    /* take a reader's lock on what is opened */
	const char *option; /* for messages: the option that widens the policy; may be NULL */
};
/**
 * blk_gate_open - a blk_gate_fn over the file system; @ctx is a struct blk_gate
 *
 * Only regular files and block devices are opened; "nbd:", "json:" and the like never are.
 * Return: 0; -EACCES by policy, with the option in the message; -errno of the open.
 */
int blk_gate_open(void *ctx, const char *parent_path, const char *name, int *fd,
		  char path[BLK_PATH_MAX], struct err *e);

/* ---- ephemeral disks and checking --------------------------------------------------- */

/**
 * blk_open_ephemeral - writes to @tmp_fd, everything else from @base
 * @base:   opened read-only; owned by the result from success on
 * @tmp_fd: an empty unlinked file or memfd, owned by the result from success on
 *
 * The result forgets its writes when it is closed; flushes cost nothing.
 */
int blk_open_ephemeral(struct blk *base, int tmp_fd, struct blk **out, struct err *e);

struct blk_check {
	uint64_t corruptions;	/* references without a refcount, overlaps, bad offsets */
	uint64_t leaks;		/* clusters counted but not referenced: lost space, no harm */
	uint64_t copied_errors; /* COPIED bits that contradict the refcount */
	uint64_t clusters;	/* in use */
	uint64_t file_clusters;
};
/**
 * blk_check - compare a qcow2 image's references with its refcounts; changes nothing
 *
 * Publishes first, where the image is writable. Clusters of persistent bitmaps, which this
 * library does not know, are reported as leaks. Sync side only. Return: 0 with *@out filled
 * (and the first finding in @e->msg); -ENOTSUP for raw; -errno if it could not be read.
 */
int blk_check(struct blk *b, struct blk_check *out, struct err *e);

/* ---- creation ---------------------------------------------------------------------- */

struct blk_create {
	uint64_t size;			/* bytes; 0 with a backing file: the backing file's */
	uint32_t cluster_bits;		/* 0: 16 */
	const char *backing;		/* name to record; NULL for none */
	enum blk_format backing_format; /* recorded by extension; PROBE is refused */
};
/** blk_create_qcow2 - write a fresh v3 image into the empty file @fd (borrowed). */
int blk_create_qcow2(int fd, const struct blk_create *c, struct err *e);

#endif
