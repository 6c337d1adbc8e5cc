/* SPDX-License-Identifier: MIT */
/*
 * ELF kernels with a PVH note. Xen's public headers (arch-x86/hvm/start_info.h, elfnote.h)
 * and Linux's Documentation name the protocol: 32-bit protected mode without paging, flat
 * segments, EBX = hvm_start_info.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "gmem.h"
#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"
#include "kernel.h"
#include "layout.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define PVH_START_MAGIC 0x336ec578
#define PVH_PHDRS_MAX 64
#define PVH_NOTES_MAX KIB(64)
#define INITRD_LIMIT UINT64_C(0x80000000)
#define PVH_CMDLINE_MAX 2048	/* Linux's COMMAND_LINE_SIZE on x86 */

/* Fields in order, all little-endian, as the guest reads them. */
struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_gpa, cmdline_gpa, rsdp_gpa, memmap_gpa;
	uint32_t memmap_entries, reserved;
};
struct pvh_module {
	uint64_t gpa, size, cmdline_gpa, reserved;
};
struct pvh_memmap_entry {
	uint64_t gpa, size;
	uint32_t type, reserved;
};
struct pvh_blob {
	struct pvh_start_info info;
	struct pvh_module module;
	struct pvh_memmap_entry map[E820_MAX];
};
static_assert(sizeof(struct pvh_start_info) == 56, "hvm_start_info version 1");

bool pvh_probe(const uint8_t *head, size_t n)
{
	return n >= sizeof(Elf64_Ehdr) && !memcmp(head, ELFMAG, SELFMAG) &&
	       head[EI_CLASS] == ELFCLASS64 && head[EI_DATA] == ELFDATA2LSB &&
	       load_le16(head + offsetof(Elf64_Ehdr, e_machine)) == EM_X86_64;
}

static int pvh_phdrs(const struct kernel_load *k, Elf64_Phdr ph[PVH_PHDRS_MAX], size_t *n,
		     struct err *e)
{
	Elf64_Ehdr eh;
	int r = kernel_read(k->kernel, 0, &eh, sizeof(eh), e);

	if (r)
		return r;
	if (eh.e_phentsize != sizeof(ph[0]) || !eh.e_phnum || eh.e_phnum > PVH_PHDRS_MAX)
		return err_set(e, -ENOEXEC, "%s: bad ELF program headers", k->kernel->name);
	*n = eh.e_phnum;
	return kernel_read(k->kernel, eh.e_phoff, ph, *n * sizeof(ph[0]), e);
}

/* Walk the notes of one segment for the entry point; each length is checked before use. */
static bool pvh_find_entry(const uint8_t *notes, size_t len, uint64_t *entry)
{
	size_t off = 0;

	while (range_ok(off, sizeof(Elf64_Nhdr), len)) {
		Elf64_Nhdr h;
		size_t name, desc;

		memcpy(&h, notes + off, sizeof(h));
		name = off + sizeof(h);
		desc = name + ALIGN_UP((size_t)h.n_namesz, 4);
		if (!range_ok(name, h.n_namesz, len) || !range_ok(desc, h.n_descsz, len))
			return false;
		if (h.n_type == XEN_ELFNOTE_PHYS32_ENTRY && h.n_namesz == 4 &&
		    !memcmp(notes + name, "Xen", 4) && (h.n_descsz == 4 || h.n_descsz == 8)) {
			*entry = load_le(notes + desc, h.n_descsz);
			return true;
		}
		off = desc + ALIGN_UP((size_t)h.n_descsz, 4);
	}
	return false;
}

static int pvh_entry(const struct kernel_load *k, const Elf64_Phdr *ph, size_t n, uint64_t *entry,
		     struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE uint8_t *notes = NULL;
		int r;

		if (ph[i].p_type != PT_NOTE || ph[i].p_filesz > PVH_NOTES_MAX || !ph[i].p_filesz)
			continue;
		notes = malloc(ph[i].p_filesz);
		if (!notes)
			return err_set(e, -ENOMEM, "%s", k->kernel->name);
		r = kernel_read(k->kernel, ph[i].p_offset, notes, ph[i].p_filesz, e);
		if (r)
			return r;
		if (pvh_find_entry(notes, ph[i].p_filesz, entry))
			return 0;
	}
	return err_set(e, -ENOEXEC,
		       "%s: an ELF file without a PVH note: not a kernel that vmm can start "
		       "(use the bzImage, or CONFIG_PVH=y)",
		       k->kernel->name);
}

static int pvh_load_segments(const struct kernel_load *k, const Elf64_Phdr *ph, size_t n,
			     struct kernel_placed *p, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t end;
		int r;

		if (ph[i].p_type != PT_LOAD || !ph[i].p_memsz)
			continue;
		if (ph[i].p_filesz > ph[i].p_memsz || ph[i].p_paddr < LAYOUT_KERNEL_MIN ||
		    !add_u64(ph[i].p_paddr, ph[i].p_memsz, &end))
			return err_set(e, -ENOEXEC, "%s: bad ELF segment %zu", k->kernel->name, i);
		if (!gmem_ptr(k->mem, ph[i].p_paddr, ph[i].p_memsz))
			return err_set(e, -ENOMEM,
				       "%s: needs memory up to %" PRIu64
				       " MiB (try a larger --memory)",
				       k->kernel->name, end >> 20);
		r = kernel_read_to_guest(k, k->kernel, ph[i].p_offset, ph[i].p_paddr,
					 ph[i].p_filesz, e);
		if (r)
			return r;
		p->kernel_end = MAX(p->kernel_end, end);
	}
	return p->kernel_end ? 0 : err_set(e, -ENOEXEC, "%s: nothing to load", k->kernel->name);
}

static int pvh_start_info(const struct kernel_load *k, const struct kernel_placed *p)
{
	struct pvh_blob b = { .info = { .magic = PVH_START_MAGIC, .version = 1 } };
	struct e820 map;

	e820_build(k->mem, &map);
	for (unsigned i = 0; i < map.n; i++)
		b.map[i] = (struct pvh_memmap_entry){ map.entry[i].gpa, map.entry[i].size,
						      map.entry[i].type, 0 };
	b.info.memmap_gpa = LAYOUT_PVH_INFO + offsetof(struct pvh_blob, map);
	b.info.memmap_entries = map.n;
	b.info.cmdline_gpa = LAYOUT_CMDLINE;
	b.info.rsdp_gpa = LAYOUT_RSDP;
	if (p->initrd_size) {
		b.info.nr_modules = 1;
		b.info.modlist_gpa = LAYOUT_PVH_INFO + offsetof(struct pvh_blob, module);
		b.module = (struct pvh_module){ .gpa = p->initrd_gpa, .size = p->initrd_size };
	}
	return gmem_write(k->mem, LAYOUT_PVH_INFO, &b, sizeof(b));
}

int pvh_load(const struct kernel_load *k, struct vcpu_entry *entry, struct err *e)
{
	Elf64_Phdr ph[PVH_PHDRS_MAX];
	struct kernel_placed p = { 0 };
	uint64_t rip = 0;
	size_t n = 0;
	int r = pvh_phdrs(k, ph, &n, e);

	if (!r)
		r = pvh_entry(k, ph, n, &rip, e);
	if (!r)
		r = pvh_load_segments(k, ph, n, &p, e);
	if (!r)
		r = kernel_place_initrd(k, INITRD_LIMIT, &p, e);
	if (!r)
		r = kernel_write_cmdline(k, PVH_CMDLINE_MAX, e);
	if (r)
		return r;
	r = pvh_start_info(k, &p);
	if (r)
		return err_set(e, r, "%s: too little guest memory", k->kernel->name);
	*entry = (struct vcpu_entry){ .mode = VCPU_ENTRY_PROT32,
				      .rip = rip & UINT32_MAX,
				      .rbx = LAYOUT_PVH_INFO };
	return 0;
}
