/* SPDX-License-Identifier: MIT */
/* What the two kernel formats share: recognition, streaming into RAM, initrd, command line. */
#include "kernel.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "gmem.h"
#include "hv/bytes.h"
#include "hv/overflow.h"
#include "layout.h"

#define KERNEL_HEAD_BYTES 1024
#define KERNEL_CHUNK MIB(1)
#define PAGE_BYTES 4096

int kernel_read(const struct boot_source *src, uint64_t off, void *buf, size_t len, struct err *e)
{
	int r;

	if (!range_ok(off, len, src->size))
		return err_set(e, -ENODATA, "%s: truncated: %zu bytes at %" PRIu64 " of %" PRIu64,
			       src->name, len, off, src->size);
	r = src->read(src->ctx, off, buf, len);
	return r ? err_set(e, r, "%s: reading: %s", src->name, strerror(-r)) : 0;
}

int kernel_read_to_guest(const struct kernel_load *k, const struct boot_source *src, uint64_t off,
			 uint64_t gpa, uint64_t len, struct err *e)
{
	while (len) {
		size_t n = MIN(len, KERNEL_CHUNK);
		void *hva = gmem_ptr(k->mem, gpa, n);
		int r;

		if (!hva)
			return err_set(e, -ENOMEM,
				       "%s: does not fit into guest memory (try a larger --memory)",
				       src->name);
		r = kernel_read(src, off, hva, n, e);
		if (r)
			return r;
		gmem_done_write(k->mem, gpa, n);
		off += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int kernel_place_initrd(const struct kernel_load *k, uint64_t limit, struct kernel_placed *p,
			struct err *e)
{
	const struct gmem_table *t = atomic_load(&k->mem->table);
	uint64_t total = 0, gpa;
	int r;

	limit = MIN(limit, t->region[0].gpa + t->region[0].size);
	for (size_t i = 0; i < k->n_initrd; i++)
		if (!add_u64(total, ALIGN_UP(k->initrd[i].size, 4), &total) || total > limit)
			return err_set(e, -E2BIG,
				       "%s: too large: %" PRIu64 " MiB are there for it (try a larger --memory)",
				       k->initrd[i].name, limit >> 20);
	if (!total)
		return 0;
	gpa = ALIGN_DOWN(limit - total, PAGE_BYTES);
	if (gpa < p->kernel_end)
		return err_set(e, -E2BIG,
			       "kernel and initrd (%" PRIu64 " MiB) need more memory than the VM has "
			       "(try a larger --memory)",
			       (total + p->kernel_end) >> 20);
	p->initrd_gpa = gpa;
	p->initrd_size = total;
	for (size_t i = 0; i < k->n_initrd; i++) {
		r = kernel_read_to_guest(k, &k->initrd[i], 0, gpa, k->initrd[i].size, e);
		if (r)
			return r;
		gpa += ALIGN_UP(k->initrd[i].size, 4);	/* RAM is zero: so is the padding */
	}
	return 0;
}

int kernel_write_cmdline(const struct kernel_load *k, size_t max, struct err *e)
{
	size_t n = strlen(k->cmdline) + 1;

	max = MIN(max, (size_t)LAYOUT_CMDLINE_MAX);
	if (n > max)
		return err_set(e, -E2BIG, "kernel command line: %zu bytes, this kernel takes %zu",
			       n - 1, max - 1);
	return gmem_write(k->mem, LAYOUT_CMDLINE, k->cmdline, n);
}

/* Name the usual wrong files, so that the error says what to do. */
static const char *kernel_wrong_kind(const uint8_t *head, size_t n)
{
	if (n >= 20 && !memcmp(head, ELFMAG, SELFMAG))
		return head[EI_CLASS] == ELFCLASS64 && load_le16(head + 18) == EM_X86_64 ?
			       "an ELF file without a PVH note" :
			       "an ELF kernel of another architecture; this host runs x86-64";
	if (n >= 0x40 && !memcmp(head + 0x38, "ARM\x64", 4))
		return "an arm64 kernel; this host runs x86-64";
	if (n >= 0x40 && !memcmp(head + 0x38, "RSC\x05", 4))
		return "a RISC-V kernel; this host runs x86-64";
	if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b)
		return "gzip-compressed: unpack it first, or give the bzImage";
	return "not a kernel: neither an ELF file with a PVH note nor a bzImage";
}

int kernel_load(const struct kernel_load *k, struct vcpu_entry *entry, struct err *e)
{
	uint8_t head[KERNEL_HEAD_BYTES] = { 0 };
	size_t n = MIN(k->kernel->size, sizeof(head));
	int r = kernel_read(k->kernel, 0, head, n, e);

	if (r)
		return r;
	if (bzimage_probe(head, n))
		return bzimage_load(k, entry, e);
	if (pvh_probe(head, n))
		return pvh_load(k, entry, e);
	return err_set(e, -ENOEXEC, "%s: %s", k->kernel->name, kernel_wrong_kind(head, n));
}
