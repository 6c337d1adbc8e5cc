/* SPDX-License-Identifier: MIT */
/* Checking, loading and relocating an unpacked kernel. */
#include "kimage.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "gmem.h"
#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"
#include "layout.h"

#define KIMAGE_RELOC_CHUNK 4096 /* places */

static bool kimage_segment_ok(const struct kimage_segment *s, uint64_t after, uint64_t size)
{
	return s->gpa >= after && s->mem_bytes && s->file_bytes <= s->mem_bytes &&
	       range_ok(s->gpa, s->mem_bytes, LAYOUT_RAM_LOW_END) &&
	       range_ok(s->off, s->file_bytes, size) &&
	       s->off % KIMAGE_PAGE == s->gpa % KIMAGE_PAGE;
}

static bool kimage_relocs_ok(const struct kimage_header *h, uint64_t size)
{
	uint64_t max = size / sizeof(uint32_t), total = 0;

	for (unsigned k = 0; k < KIMAGE_RELOCS; k++) {
		if (h->n_relocs[k] > max)
			return false;
		total += h->n_relocs[k];
	}
	return range_ok(h->reloc_off, total * sizeof(uint32_t), size);
}

static bool kimage_header_ok(struct kimage *k, uint64_t size)
{
	const struct kimage_header *h = &k->h;

	if (h->magic != KIMAGE_MAGIC || h->version != KIMAGE_VERSION || !h->n_segments ||
	    h->n_segments > KIMAGE_SEGMENTS_MAX)
		return false;
	k->start = h->segment[0].gpa;
	k->end = LAYOUT_KERNEL_MIN;
	for (uint32_t i = 0; i < h->n_segments; i++) {
		if (!kimage_segment_ok(&h->segment[i], k->end, size))
			return false;
		k->end = h->segment[i].gpa + h->segment[i].mem_bytes;
	}
	return h->entry_gpa >= k->start && h->entry_gpa < k->end && kimage_relocs_ok(h, size);
}

int kimage_open(struct kimage *k, int fd, struct err *e)
{
	struct stat st;
	int r;

	*k = (struct kimage){ .fd = fd };
	if (fstat(fd, &st) < 0)
		return err_errno(e, "unpacked kernel");
	r = fd_pread_full(fd, &k->h, sizeof(k->h), 0);
	if (r && r != -ENODATA)
		return err_set(e, r, "unpacked kernel: %s", strerror(-r));
	if (r || !kimage_header_ok(k, (uint64_t)st.st_size))
		return err_set(e, -EBADMSG, "unpacked kernel: bad header");
	return 0;
}

bool kimage_relocatable(const struct kimage *k)
{
	return k->h.n_relocs[KIMAGE_RELOC_64] && k->h.n_relocs[KIMAGE_RELOC_32];
}

static int kimage_copy(const struct kimage *k, struct gmem *m, uint64_t gpa, uint64_t len,
		       uint64_t off)
{
	void *hva = gmem_ptr(m, gpa, len);
	int r;

	if (!len)
		return 0;
	if (!hva)
		return -ENOMEM;
	r = fd_pread_full(k->fd, hva, len, off);
	if (!r)
		gmem_done_write(m, gpa, len);
	return r;
}

/* Whole pages by mapping, what hangs over at either end by copy. */
static int kimage_map(const struct kimage *k, struct gmem *m, uint64_t gpa, uint64_t len,
		      uint64_t off)
{
	uint64_t head = MIN(len, ALIGN_UP(gpa, KIMAGE_PAGE) - gpa);
	uint64_t pages = ALIGN_DOWN(len - head, KIMAGE_PAGE);
	int r = kimage_copy(k, m, gpa, head, off);

	if (!r && pages)
		r = gmem_map_file(m, gpa + head, pages, k->fd, off + head);
	if (!r)
		r = kimage_copy(k, m, gpa + head + pages, len - head - pages, off + head + pages);
	return r;
}

int kimage_load(const struct kimage *k, struct gmem *m, uint64_t phys_delta, bool map,
		struct err *e)
{
	for (uint32_t i = 0; i < k->h.n_segments; i++) {
		const struct kimage_segment *s = &k->h.segment[i];
		uint64_t gpa;
		int r;

		if (!add_u64(s->gpa, phys_delta, &gpa) || !gmem_ptr(m, gpa, s->mem_bytes))
			return err_set(e, -ENOMEM, "unpacked kernel: too little guest memory");
		r = map ? kimage_map(k, m, gpa, s->file_bytes, s->off)
			: kimage_copy(k, m, gpa, s->file_bytes, s->off);
		if (r)
			return err_set(e, r, "unpacked kernel: loading: %s", strerror(-r));
	}
	return 0;
}

/* @hva: where k->start is now. */
static bool kimage_adjust(const struct kimage *k, uint8_t *hva, enum kimage_reloc kind,
			  uint32_t place, uint64_t delta)
{
	uint64_t gpa = (uint64_t)place - KIMAGE_VIRT_BASE;
	size_t width = kind == KIMAGE_RELOC_64 ? 8 : 4;
	uint8_t *p;

	if (place < KIMAGE_VIRT_BASE || gpa < k->start ||
	    !range_ok(gpa - k->start, width, k->end - k->start))
		return false;
	p = hva + (gpa - k->start);
	if (kind == KIMAGE_RELOC_64)
		store_le64(p, load_le64(p) + delta);
	else if (kind == KIMAGE_RELOC_32)
		store_le32(p, load_le32(p) + (uint32_t)delta);
	else
		store_le32(p, load_le32(p) - (uint32_t)delta);
	return true;
}

static int kimage_relocate_kind(const struct kimage *k, uint8_t *hva, enum kimage_reloc kind,
				uint64_t off, uint64_t delta)
{
	uint32_t place[KIMAGE_RELOC_CHUNK];
	uint64_t left = k->h.n_relocs[kind];

	while (left) {
		size_t n = MIN(left, (uint64_t)KIMAGE_RELOC_CHUNK);
		int r = fd_pread_full(k->fd, place, n * sizeof(place[0]), off);

		for (size_t i = 0; i < n && !r; i++)
			if (!kimage_adjust(k, hva, kind, place[i], delta))
				r = -EBADMSG;
		if (r)
			return r;
		off += n * sizeof(place[0]);
		left -= n;
	}
	return 0;
}

int kimage_relocate(const struct kimage *k, struct gmem *m, uint64_t phys_delta,
		    uint64_t virt_delta, struct err *e)
{
	uint64_t gpa = k->start + phys_delta, bytes = k->end - k->start, off = k->h.reloc_off;
	uint8_t *hva = gmem_ptr(m, gpa, bytes);

	if (!hva)
		return err_set(e, -ENOMEM, "unpacked kernel: too little guest memory");
	for (unsigned kind = 0; kind < KIMAGE_RELOCS; kind++) {
		int r = kimage_relocate_kind(k, hva, kind, off, virt_delta);

		if (r)
			return err_set(e, r, "unpacked kernel: relocation: %s", strerror(-r));
		off += k->h.n_relocs[kind] * sizeof(uint32_t);
	}
	gmem_done_write(m, gpa, bytes);
	return 0;
}
