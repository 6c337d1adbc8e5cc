/* SPDX-License-Identifier: MIT */
/*
 * ELF to kimage. The relocation table is Linux's own (arch/x86/tools/relocs.c writes it,
 * handle_relocations() in arch/x86/boot/compressed/misc.c reads it from the end backwards):
 * each group of 32-bit places is preceded by a zero word, in the order 64-bit, inverse 32-bit,
 * 32-bit. Linux 6.15 dropped the inverse group together with zero-based per-CPU data.
 */
#include "flatten.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"
#include "kimage_format.h"
#include "layout.h"

#define FLATTEN_PHDRS_MAX 64

struct flatten {
	const uint8_t *elf;
	size_t len;
	Elf64_Ehdr eh;
	uint64_t elf_end; /* where the relocation table begins */
	const uint8_t *src[KIMAGE_SEGMENTS_MAX];
	const uint8_t *reloc[KIMAGE_RELOCS];
	struct kimage_header h;
};

static int flatten_header(struct flatten *f)
{
	uint64_t sections;

	if (f->len < sizeof(f->eh))
		return -ENOEXEC;
	memcpy(&f->eh, f->elf, sizeof(f->eh));
	if (memcmp(f->eh.e_ident, ELFMAG, SELFMAG) || f->eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    f->eh.e_ident[EI_DATA] != ELFDATA2LSB || f->eh.e_machine != EM_X86_64 ||
	    f->eh.e_phentsize != sizeof(Elf64_Phdr) || f->eh.e_phnum > FLATTEN_PHDRS_MAX ||
	    !range_ok(f->eh.e_phoff, f->eh.e_phnum * sizeof(Elf64_Phdr), f->len))
		return -ENOEXEC;
	sections = (uint64_t)f->eh.e_shnum * f->eh.e_shentsize;
	if (!range_ok(f->eh.e_shoff, sections, f->len))
		return -ENOEXEC;
	f->elf_end = f->eh.e_shoff + sections;
	f->h.entry_gpa = f->eh.e_entry;
	return 0;
}

static int flatten_segment(struct flatten *f, const Elf64_Phdr *ph)
{
	uint32_t n = f->h.n_segments;
	const struct kimage_segment *before = n ? &f->h.segment[n - 1] : NULL;
	uint64_t end, file = ph->p_filesz;

	if (n == KIMAGE_SEGMENTS_MAX || file > ph->p_memsz ||
	    !range_ok(ph->p_offset, file, f->len) || ph->p_paddr < LAYOUT_KERNEL_MIN ||
	    !add_u64(ph->p_paddr, ph->p_memsz, &end) || end > LAYOUT_RAM_LOW_END ||
	    (before && ph->p_paddr < before->gpa + before->mem_bytes))
		return -ENOEXEC;
	f->elf_end = MAX(f->elf_end, ph->p_offset + file);
	f->src[n] = f->elf + ph->p_offset;
	/* What ends in zeros (a vmlinux carries its .bss) need not be kept. */
	while (file && !f->src[n][file - 1])
		file--;
	f->h.segment[f->h.n_segments++] = (struct kimage_segment){ .gpa = ph->p_paddr,
								   .mem_bytes = ph->p_memsz,
								   .file_bytes = file };
	return 0;
}

static int flatten_segments(struct flatten *f)
{
	for (unsigned i = 0; i < f->eh.e_phnum; i++) {
		Elf64_Phdr ph;
		int r;

		memcpy(&ph, f->elf + f->eh.e_phoff + i * sizeof(ph), sizeof(ph));
		r = ph.p_type == PT_LOAD && ph.p_memsz ? flatten_segment(f, &ph) : 0;
		if (r)
			return r;
	}
	return f->h.n_segments ? 0 : -ENOEXEC;
}

/* Groups are told by the zero before each; with two groups there is no inverse one. */
static int flatten_relocs(struct flatten *f)
{
	static const enum kimage_reloc two[] = { KIMAGE_RELOC_64, KIMAGE_RELOC_32 };
	const uint8_t *table = f->elf + f->elf_end, *start[KIMAGE_RELOCS];
	size_t words = (f->len - f->elf_end) / 4, groups = 0;
	uint64_t count[KIMAGE_RELOCS] = { 0 };

	if ((f->len - f->elf_end) % 4 || (words && load_le32(table)))
		return -ENOEXEC;
	for (size_t i = 0; i < words; i++) {
		if (load_le32(table + 4 * i)) {
			count[groups - 1]++;
			continue;
		}
		if (groups == KIMAGE_RELOCS)
			return -ENOEXEC;
		start[groups++] = table + 4 * (i + 1);
	}
	if (groups == 1)
		return -ENOEXEC;
	for (size_t g = 0; g < groups; g++) {
		enum kimage_reloc kind = groups == 2 ? two[g] : (enum kimage_reloc)g;

		f->reloc[kind] = start[g];
		f->h.n_relocs[kind] = count[g];
	}
	return 0;
}

static int flatten_write(struct flatten *f, int fd)
{
	uint64_t off = KIMAGE_PAGE;
	int r = 0;

	for (uint32_t i = 0; i < f->h.n_segments && !r; i++) {
		struct kimage_segment *s = &f->h.segment[i];

		s->off = s->gpa % KIMAGE_PAGE;
		if (!s->file_bytes)
			continue;
		s->off += off;
		off = ALIGN_UP(s->off + s->file_bytes, KIMAGE_PAGE);
		r = fd_pwrite_full(fd, f->src[i], s->file_bytes, s->off);
	}
	f->h.reloc_off = f->reloc[KIMAGE_RELOC_64] ? off : 0;
	for (unsigned k = 0; k < KIMAGE_RELOCS && !r; k++) {
		r = f->h.n_relocs[k] ? fd_pwrite_full(fd, f->reloc[k], f->h.n_relocs[k] * 4, off)
				     : 0;
		off += f->h.n_relocs[k] * 4;
	}
	return r ? r : fd_pwrite_full(fd, &f->h, sizeof(f->h), 0);
}

int flatten_elf(const uint8_t *elf, size_t len, int out_fd, struct err *e)
{
	struct flatten f = { .elf = elf,
			     .len = len,
			     .h = { .magic = KIMAGE_MAGIC, .version = KIMAGE_VERSION } };
	int r = flatten_header(&f);

	if (!r)
		r = flatten_segments(&f);
	if (!r)
		r = flatten_relocs(&f);
	if (r)
		return err_set(e, r, "kernel payload: not an x86-64 kernel with its relocations");
	r = flatten_write(&f, out_fd);
	return r ? err_set(e, r, "unpacked kernel: %s", strerror(-r)) : 0;
}
