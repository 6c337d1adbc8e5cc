/* SPDX-License-Identifier: MIT */
/* Guest memory regions: mapping, bounded lookup, copies, the dirty bitmap. */
#include "gmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hv/overflow.h"
#include "layout.h"

#define GMEM_HUGE_PAGE MIB(2)
#define GMEM_PAGE_SHIFT 12

static const struct gmem_table *gmem_table(const struct gmem *m)
{
	return atomic_load_explicit(&m->table, memory_order_acquire);
}

/*
 * HVA and GPA alike modulo 2 MiB: else KVM can map no huge page into the guest. What was
 * taken too much is given back.
 */
static void *gmem_mmap_aligned(uint64_t size)
{
	uint8_t *at = mmap(NULL, size + GMEM_HUGE_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head;

	if (at == MAP_FAILED)
		return at;
	head = ALIGN_UP((uintptr_t)at, GMEM_HUGE_PAGE) - (uintptr_t)at;
	if (head)
		munmap(at, head);
	munmap(at + head + size, GMEM_HUGE_PAGE - head);
	return at + head;
}

static int gmem_map(struct gmem_region *r, bool hugepages, struct err *e)
{
	r->hva = hugepages ? mmap(NULL, r->size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0) :
			     gmem_mmap_aligned(r->size);
	if (r->hva != MAP_FAILED) {
		/* Both are wishes: a kernel without THP or KSM still runs the guest. */
		madvise(r->hva, r->size, MADV_HUGEPAGE);
		madvise(r->hva, r->size, MADV_DONTDUMP);
		return 0;
	}
	err_errno(e, "map %llu MiB of guest memory", (unsigned long long)(r->size >> 20));
	if (hugepages)
		err_hint(e, "reserve huge pages: sysctl vm.nr_hugepages=%llu",
			 (unsigned long long)DIV_ROUND_UP(r->size, GMEM_HUGE_PAGE));
	return e ? e->code : -ENOMEM;
}

int gmem_init(struct gmem *m, uint64_t bytes, bool hugepages, struct err *e)
{
	struct gmem_table *t = calloc(1, sizeof(*t));
	uint64_t low = MIN(bytes, LAYOUT_RAM_LOW_END);
	int r = 0;

	if (!t)
		return err_set(e, -ENOMEM, "guest memory");
	t->region[t->n++] = (struct gmem_region){ .gpa = 0, .size = low };
	if (bytes > low)
		t->region[t->n++] = (struct gmem_region){ .gpa = LAYOUT_RAM_HIGH_BASE,
							  .size = bytes - low };
	for (unsigned i = 0; i < t->n && !r; i++)
		r = gmem_map(&t->region[i], hugepages, e);
	*m = (struct gmem){ .total_bytes = bytes, .hugepages = hugepages };
	atomic_store_explicit(&m->table, t, memory_order_release);
	if (r)
		gmem_fini(m);
	return r;
}

int gmem_init_flat(struct gmem *m, uint64_t gpa, void *hva, uint64_t size)
{
	struct gmem_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->n = 1;
	t->region[0] = (struct gmem_region){ .gpa = gpa, .size = size, .hva = hva };
	*m = (struct gmem){ .total_bytes = 0 };	/* 0: not ours to unmap */
	atomic_store_explicit(&m->table, t, memory_order_release);
	return 0;
}

void gmem_fini(struct gmem *m)
{
	struct gmem_table *t = atomic_exchange(&m->table, NULL);

	if (!t)
		return;
	for (unsigned i = 0; m->total_bytes && i < t->n; i++)
		if (t->region[i].hva && t->region[i].hva != MAP_FAILED)
			munmap(t->region[i].hva, t->region[i].size);
	free(t);
}

/* The last region that starts at or below @gpa. */
static const struct gmem_region *gmem_find(const struct gmem *m, uint64_t gpa)
{
	const struct gmem_table *t = gmem_table(m);
	const struct gmem_region *found = NULL;

	for (unsigned i = 0; i < t->n && t->region[i].gpa <= gpa; i++)
		found = &t->region[i];
	return found;
}

void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	const struct gmem_region *r = gmem_find(m, gpa);

	if (!r || len > r->size)
		return NULL;
	if (gpa - r->gpa > r->size - len)	/* subtract only: nothing can wrap */
		return NULL;
	return r->hva + (gpa - r->gpa);
}

/* Bytes of RAM that follow @gpa without a gap, at most @want; *@hva is where they are. */
static size_t gmem_run(const struct gmem *m, uint64_t gpa, size_t want, uint8_t **hva)
{
	const struct gmem_region *r = gmem_find(m, gpa);

	if (!r || gpa - r->gpa >= r->size)
		return 0;
	*hva = r->hva + (gpa - r->gpa);
	return MIN(want, r->size - (gpa - r->gpa));
}

int gmem_read(const struct gmem *m, uint64_t gpa, void *dst, size_t len)
{
	uint8_t *hva;
	size_t n;

	for (; len; gpa += n, dst = (char *)dst + n, len -= n) {
		n = gmem_run(m, gpa, len, &hva);
		if (!n)
			return -EFAULT;
		memcpy(dst, hva, n);
	}
	return 0;
}

int gmem_write(struct gmem *m, uint64_t gpa, const void *src, size_t len)
{
	uint8_t *hva;
	size_t n;

	for (; len; gpa += n, src = (const char *)src + n, len -= n) {
		n = gmem_run(m, gpa, len, &hva);
		if (!n)
			return -EFAULT;
		memcpy(hva, src, n);
		gmem_done_write(m, gpa, n);
	}
	return 0;
}

int gmem_map_file(struct gmem *m, uint64_t gpa, uint64_t len, int fd, uint64_t off)
{
	void *hva = gmem_ptr(m, gpa, len);

	if (m->hugepages)
		return -EINVAL;
	if (!hva)
		return -EFAULT;
	if (mmap(hva, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
		 (off_t)off) == MAP_FAILED)
		return -errno;
	madvise(hva, len, MADV_DONTDUMP);
	gmem_done_write(m, gpa, len);
	return 0;
}

void gmem_mark_dirty(struct gmem *m, uint64_t *map, uint64_t gpa, uint64_t len)
{
	const struct gmem_table *t = gmem_table(m);
	const struct gmem_region *top = &t->region[t->n - 1];
	uint64_t end = (top->gpa + top->size) >> GMEM_PAGE_SHIFT, page, last;

	if (!len || !add_u64(gpa, len - 1, &last))
		return;
	last >>= GMEM_PAGE_SHIFT;
	for (page = gpa >> GMEM_PAGE_SHIFT; page <= last && page < end; page++)
		__atomic_fetch_or(&map[page / 64], BIT64(page % 64), __ATOMIC_RELAXED);
}
