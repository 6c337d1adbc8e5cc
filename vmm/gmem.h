/* SPDX-License-Identifier: MIT */
/*
 * gmem.h - guest memory: which GPA is RAM, and the only way to touch it.
 *
 * Regions do not overlap and are sorted by GPA. The table is replaced atomically, never
 * edited, so any thread reads it without a lock. All of guest memory can change under
 * the reader at any time: copy once, validate the copy, use the copy.
 */
#ifndef HV_VMM_GMEM_H
#define HV_VMM_GMEM_H

#include <stdatomic.h>

#include "hv/base.h"
#include "hv/err.h"

#define GMEM_REGIONS_MAX 8

struct gmem_region {
	uint64_t gpa;
	uint64_t size;	/* bytes */
	uint8_t *hva;
};
struct gmem_table {
	unsigned n;
	struct gmem_region region[GMEM_REGIONS_MAX];
};
struct gmem {
	_Atomic(struct gmem_table *) table;
	uint64_t total_bytes;
	bool hugepages;	/* reserved ones: cannot be replaced page by page */
	_Atomic(uint64_t *) dirty; /* one bit a 4 KiB page while logging, else NULL */
};

/**
 * gmem_init - map @bytes of anonymous memory as RAM below and above the 4 GiB hole
 * @hugepages: from the host's reserved huge pages; else MADV_HUGEPAGE
 */
int gmem_init(struct gmem *m, uint64_t bytes, bool hugepages, struct err *e);
/**
 * gmem_init_flat - one region at @gpa over the caller's buffer: for unit tests and fuzzers
 */
int gmem_init_flat(struct gmem *m, uint64_t gpa, void *hva, uint64_t size);
/** gmem_fini - unmap what gmem_init() mapped; no thread uses @m any more. */
void gmem_fini(struct gmem *m);

/** gmem_ptr - HVA of [gpa, gpa+len) if one RAM region holds all of it, else NULL. Any thread. */
void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len);
/** gmem_read - copy @len bytes from @gpa to @dst; may cross regions; 0 or -EFAULT. Any thread. */
int gmem_read(const struct gmem *m, uint64_t gpa, void *dst, size_t len);
/** gmem_write - copy @len bytes from @src to @gpa and mark them dirty; 0 or -EFAULT. */
int gmem_write(struct gmem *m, uint64_t gpa, const void *src, size_t len);
/**
 * gmem_map_file - put a file's pages in place of RAM, privately: unwritten ones stay shared
 * @gpa, @len, @off: multiples of the page size; @fd stays the caller's
 *
 * Before entry only. The file must not shrink while @m lives. Return: 0; -EINVAL for RAM of
 * reserved huge pages, -EFAULT if [@gpa, @gpa+@len) is not RAM, -errno of mmap.
 */
int gmem_map_file(struct gmem *m, uint64_t gpa, uint64_t len, int fd, uint64_t off);
/** gmem_done_write - pages of [gpa, gpa+len) were written by vmm: mark them while logging. */
static inline void gmem_done_write(struct gmem *m, uint64_t gpa, uint64_t len);

void gmem_mark_dirty(struct gmem *m, uint64_t *map, uint64_t gpa, uint64_t len);
static inline void gmem_done_write(struct gmem *m, uint64_t gpa, uint64_t len)
{
	uint64_t *map = atomic_load_explicit(&m->dirty, memory_order_acquire);

	if (__builtin_expect(map != NULL, 0))
		gmem_mark_dirty(m, map, gpa, len);
}

#endif
