/* SPDX-License-Identifier: MIT */
/*
 * uring.h - one restricted io_uring of one I/O thread.
 *
 * A ring reaches past seccomp: IORING_OP_OPENAT opens although the filter does not. So it
 * starts disabled, is told the few operations it may do, all of them on fixed files, and
 * only then enabled; after that the only register call is the one that fills file slots.
 */
#ifndef HV_VMM_IO_URING_H
#define HV_VMM_IO_URING_H

#include <sys/uio.h>

#include "hv/base.h"
#include "hv/err.h"

#define URING_FILES 1024	/* file slots of a ring */

struct uring;
struct io_uring;

/* A submitted operation. Caller's storage until @done. */
struct uring_op {
	void (*done)(struct uring_op *op, int res);	/* result as of the system call: -errno */
};

/** uring_new - make, restrict and enable a ring; -ENOSYS, -EPERM… where the host has none. */
int uring_new(struct uring **out);
void uring_free(struct uring *u);
/** uring_fd - readable while completions wait (for epoll). */
int uring_fd(const struct uring *u);
/** uring_raw - liburing's struct, for the test that tries what is forbidden. */
struct io_uring *uring_raw(struct uring *u);

/**
 * uring_add_files - put @n descriptors into consecutive slots; returns the first, or -ENFILE
 *
 * Any thread, as is uring_del_files().
 */
int uring_add_files(struct uring *u, const int *fds, unsigned n);
void uring_del_files(struct uring *u, unsigned slot, unsigned n);

/* The ring's thread only. Operations start with the next uring_submit() at the latest. */
void uring_readv(struct uring *u, struct uring_op *op, unsigned slot, const struct iovec *iov,
		 unsigned n, uint64_t off);
void uring_writev(struct uring *u, struct uring_op *op, unsigned slot, const struct iovec *iov,
		  unsigned n, uint64_t off);
void uring_fdatasync(struct uring *u, struct uring_op *op, unsigned slot);
void uring_fallocate(struct uring *u, struct uring_op *op, unsigned slot, int mode, uint64_t off,
		     uint64_t len);
/** uring_submit - hand queued operations to the kernel; false if some had to stay. */
bool uring_submit(struct uring *u);
/** uring_reap - call @done of what has completed; returns how many. */
unsigned uring_reap(struct uring *u);

#endif
