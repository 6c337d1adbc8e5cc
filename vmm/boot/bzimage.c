/* SPDX-License-Identifier: MIT */
/*
 * bzImage by its 64-bit entry point. Linux, Documentation/arch/x86/boot.rst, sections "The
 * real-mode kernel header" and "64-bit boot protocol": protected-mode part at the
 * preferred address, boot_params ("zero page") with the copied set-up header, identity page
 * tables, entry at load address + 0x200 with RSI = boot_params.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gmem.h"
#include "hv/overflow.h"
#include "hv/log.h"
#include "kernel.h"
#include "layout.h"
#include "unpacked.h"

#define SETUP_HEADER_OFF 0x1f1
#define HDR_MAGIC 0x53726448	/* "HdrS" */
#define BOOT_FLAG_MAGIC 0xaa55
#define PROTOCOL_MIN 0x020c	/* 2.12: xloadflags, 64-bit entry */
#define ENTRY64_OFF 0x200
#define SECTOR_BYTES 512
#define SETUP_SECTS_DEFAULT 4
#define LOADER_TYPE_UNDEFINED 0xff

#define PTE_PRESENT_WRITE 0x3
#define PTE_LARGE 0x80
#define IDENTITY_GIB 4

bool bzimage_probe(const uint8_t *head, size_t n)
{
	struct setup_header h;

	if (n < SETUP_HEADER_OFF + sizeof(h))
		return false;
	memcpy(&h, head + SETUP_HEADER_OFF, sizeof(h));
	return h.boot_flag == BOOT_FLAG_MAGIC && h.header == HDR_MAGIC;
}

static int bzimage_header(const struct kernel_load *k, struct setup_header *h, struct err *e)
{
	int r = kernel_read(k->kernel, SETUP_HEADER_OFF, h, sizeof(*h), e);

	if (r)
		return r;
	if (h->version < PROTOCOL_MIN)
		return err_set(e, -ENOEXEC, "%s: boot protocol %u.%02u is too old, need 2.12 (Linux 3.8)",
			       k->kernel->name, h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH) || !(h->xloadflags & XLF_KERNEL_64))
		return err_set(e, -ENOEXEC, "%s: a 32-bit kernel; vmm needs an x86-64 one",
			       k->kernel->name);
	if (!h->setup_sects)
		h->setup_sects = SETUP_SECTS_DEFAULT;
	return 0;
}

/* Identity mapping of the first 4 GiB by 2 MiB pages: PML4, PDPT, four page directories. */
static int bzimage_page_tables(struct gmem *m)
{
	uint64_t table[512] = { 0 };
	const uint64_t pdpt = LAYOUT_PAGE_TABLES + 4096, pd = pdpt + 4096;
	int r;

	table[0] = pdpt | PTE_PRESENT_WRITE;
	r = gmem_write(m, LAYOUT_PAGE_TABLES, table, sizeof(table));
	for (uint64_t i = 0; i < IDENTITY_GIB; i++)
		table[i] = (pd + i * 4096) | PTE_PRESENT_WRITE;
	if (!r)
		r = gmem_write(m, pdpt, table, sizeof(table));
	for (uint64_t g = 0; !r && g < IDENTITY_GIB; g++) {
		for (uint64_t i = 0; i < 512; i++)
			table[i] = (GIB(g) + MIB(2 * i)) | PTE_PRESENT_WRITE | PTE_LARGE;
		r = gmem_write(m, pd + g * 4096, table, sizeof(table));
	}
	return r;
}

/* Null, 64-bit code, data, TSS: what vcpu.c loads into the segment registers. */
static int bzimage_gdt(struct gmem *m)
{
	static const uint64_t gdt[] = { 0, UINT64_C(0x00af9b000000ffff),
					UINT64_C(0x00cf93000000ffff),
					UINT64_C(0x00008b0000000067) };

	return gmem_write(m, LAYOUT_GDT, gdt, sizeof(gdt));
}

static void bzimage_params_e820(struct boot_params *bp, const struct gmem *m)
{
	struct e820 map;

	e820_build(m, &map);
	for (unsigned i = 0; i < map.n; i++)
		bp->e820_table[i] = (struct boot_e820_entry){ .addr = map.entry[i].gpa,
							      .size = map.entry[i].size,
							      .type = map.entry[i].type };
	bp->e820_entries = (uint8_t)map.n;
}

static int bzimage_params(const struct kernel_load *k, const struct setup_header *h,
			  const struct kernel_placed *p, bool kaslr)
{
	struct boot_params *bp = calloc(1, sizeof(*bp));
	int r;

	if (!bp)
		return -ENOMEM;
	bp->hdr = *h;
	bp->hdr.type_of_loader = LOADER_TYPE_UNDEFINED;
	bp->hdr.loadflags &= (uint8_t) ~(CAN_USE_HEAP | KASLR_FLAG);
	if (kaslr)
		bp->hdr.loadflags |= KASLR_FLAG;
	bp->hdr.cmd_line_ptr = (uint32_t)LAYOUT_CMDLINE;
	bp->hdr.ramdisk_image = (uint32_t)p->initrd_gpa;
	bp->hdr.ramdisk_size = (uint32_t)p->initrd_size;
	bp->acpi_rsdp_addr = LAYOUT_RSDP;
	bzimage_params_e820(bp, k->mem);
	r = gmem_write(k->mem, LAYOUT_ZERO_PAGE, bp, sizeof(*bp));
	free(bp);
	return r;
}

static int bzimage_place_kernel(const struct kernel_load *k, const struct setup_header *h,
				struct kernel_placed *p, struct err *e)
{
	uint64_t setup = (h->setup_sects + UINT64_C(1)) * SECTOR_BYTES, needs;

	if (setup >= k->kernel->size)
		return err_set(e, -ENODATA, "%s: truncated", k->kernel->name);
	needs = MAX((uint64_t)h->init_size, k->kernel->size - setup);
	if (h->pref_address < LAYOUT_KERNEL_MIN || !add_u64(h->pref_address, needs, &p->kernel_end))
		return err_set(e, -ENOEXEC, "%s: impossible load address 0x%" PRIx64,
			       k->kernel->name, (uint64_t)h->pref_address);
	if (!gmem_ptr(k->mem, h->pref_address, needs))
		return err_set(e, -ENOMEM,
			       "%s: needs memory up to %" PRIu64 " MiB (try a larger --memory)",
			       k->kernel->name, (p->kernel_end + MIB(1) - 1) >> 20);
	return kernel_read_to_guest(k, k->kernel, setup, h->pref_address, k->kernel->size - setup, e);
}

/* As it is: the guest unpacks it, and picks the random offsets. */
static int bzimage_load_packed(const struct kernel_load *k, const struct setup_header *h,
			       struct kernel_placed *p, struct unpacked_done *done, struct err *e)
{
	int r;

	*p = (struct kernel_placed){ 0 };
	*done = (struct unpacked_done){ .rip = h->pref_address + ENTRY64_OFF };
	r = bzimage_place_kernel(k, h, p, e);
	return r ? r : kernel_place_initrd(k, (uint64_t)h->initrd_addr_max + 1, p, e);
}

static int bzimage_place(const struct kernel_load *k, const struct setup_header *h,
			 struct kernel_placed *p, struct unpacked_done *done, struct err *e)
{
	struct err why = { 0 };

	if (k->image) {
		if (!unpacked_load(k, h, p, done, &why))
			return 0;
		log_info(k->log, "%s: the guest will unpack it", why.msg);
	}
	return bzimage_load_packed(k, h, p, done, e);
}

int bzimage_load(const struct kernel_load *k, struct vcpu_entry *entry, struct err *e)
{
	struct kernel_placed p = { 0 };
	struct unpacked_done done = { 0 };
	struct setup_header h;
	int r = bzimage_header(k, &h, e);

	if (!r)
		r = bzimage_place(k, &h, &p, &done, e);
	if (!r)
		r = kernel_write_cmdline(k, (size_t)h.cmdline_size + 1, e);
	if (r)
		return r;
	r = bzimage_params(k, &h, &p, done.kaslr);
	if (!r)
		r = bzimage_page_tables(k->mem);
	if (!r)
		r = bzimage_gdt(k->mem);
	if (r)
		return err_set(e, r, "%s: too little guest memory", k->kernel->name);
	*entry = (struct vcpu_entry){ .mode = VCPU_ENTRY_LONG64,
				      .rip = done.rip,
				      .rsi = LAYOUT_ZERO_PAGE,
				      .cr3 = LAYOUT_PAGE_TABLES };
	return 0;
}
