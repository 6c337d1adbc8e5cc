/* SPDX-License-Identifier: MIT */
/* kernel.c, bzimage.c, pvh.c: hand-made kernels into a small guest memory. */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/kernel.h"
#include "gmem.h"
#include "hv/bytes.h"
#include "hv/overflow.h"
#include "layout.h"

#define RAM MIB(8)
#define FILE_BYTES KIB(16)

struct memory_file {
	uint8_t data[FILE_BYTES];
	struct boot_source src;
};
struct fixture {
	struct gmem m;
	uint8_t *ram;
	struct memory_file kernel, initrd[2];
	struct boot_source initrds[2];
	struct kernel_load load;
	struct vcpu_entry entry;
	struct err e;
};

static int memory_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	struct memory_file *f = ctx;

	assert_true(range_ok(off, len, f->src.size));
	if (!range_ok(off, len, sizeof(f->data)))
		return -EIO;	/* a source that claims more than it has */
	memcpy(buf, f->data + off, len);
	return 0;
}

static void memory_source(struct memory_file *f, const char *name, uint64_t size)
{
	f->src = (struct boot_source){ .name = name, .size = size, .read = memory_read, .ctx = f };
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->ram = calloc(1, RAM);
	*state = f;
	f->load = (struct kernel_load){ .mem = &f->m, .kernel = &f->kernel.src,
					.initrd = f->initrds, .cmdline = "console=ttyS0" };
	memory_source(&f->kernel, "vmlinuz", FILE_BYTES);
	return gmem_init_flat(&f->m, 0, f->ram, RAM);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	gmem_fini(&f->m);
	free(f->ram);
	free(f);
	return 0;
}

static int load(struct fixture *f)
{
	int r;

	f->e = (struct err){ 0 };
	r = kernel_load(&f->load, &f->entry, &f->e);
	assert_int_equal(r, f->e.code);
	return r;
}

#define REFUSED(f, code, text)                                            \
	do {                                                              \
		assert_int_equal(load(f), code);                          \
		assert_non_null(strstr((f)->e.msg, text));                \
	} while (0)

/* ---- bzImage ---------------------------------------------------------------------------------- */

static struct setup_header *header(struct fixture *f)
{
	return (struct setup_header *)(f->kernel.data + 0x1f1);
}

static void make_bzimage(struct fixture *f)
{
	struct setup_header h = { .setup_sects = 1, .boot_flag = 0xaa55, .header = 0x53726448,
				  .version = 0x020f, .loadflags = LOADED_HIGH | CAN_USE_HEAP,
				  .initrd_addr_max = 0x7fffffff, .cmdline_size = 2047,
				  .xloadflags = XLF_KERNEL_64, .pref_address = MIB(1),
				  .init_size = MIB(2) };

	memset(f->kernel.data, 0xcc, sizeof(f->kernel.data));
	memcpy(header(f), &h, sizeof(h));
	memcpy(f->kernel.data + 1024, "protected-mode part", 19);
}

static void add_initrd(struct fixture *f, const char *text)
{
	struct memory_file *i = &f->initrd[f->load.n_initrd];

	strcpy((char *)i->data, text);
	memory_source(i, "initrd.img", strlen(text));
	f->initrds[f->load.n_initrd++] = i->src;
}

static void a_bzimage_is_placed_with_its_parameters(void **state)
{
	struct fixture *f = *state;
	const struct boot_params *bp;
	uint64_t *pml4;

	make_bzimage(f);
	add_initrd(f, "first");
	add_initrd(f, "second");
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.mode, VCPU_ENTRY_LONG64);
	assert_int_equal(f->entry.rip, MIB(1) + 0x200);
	assert_int_equal(f->entry.rsi, LAYOUT_ZERO_PAGE);
	assert_memory_equal(f->ram + MIB(1), "protected-mode part", 19);
	bp = (const struct boot_params *)(f->ram + f->entry.rsi);
	assert_int_equal(bp->hdr.header, 0x53726448);
	assert_int_equal(bp->hdr.type_of_loader, 0xff);
	assert_false(bp->hdr.loadflags & CAN_USE_HEAP);
	assert_string_equal(f->ram + bp->hdr.cmd_line_ptr, "console=ttyS0");
	assert_int_equal(bp->acpi_rsdp_addr, LAYOUT_RSDP);
	assert_true(bp->e820_entries >= 3);
	/* Both initrds behind each other, each padded to four bytes, below the memory's end. */
	assert_int_equal(bp->hdr.ramdisk_size, 16);
	assert_true(bp->hdr.ramdisk_image >= MIB(3) && bp->hdr.ramdisk_image <= RAM - 16);
	assert_int_equal(bp->hdr.ramdisk_image % 4096, 0);
	assert_memory_equal(f->ram + bp->hdr.ramdisk_image, "first\0\0\0second\0\0", 16);
	pml4 = (uint64_t *)(f->ram + f->entry.cr3);
	assert_true(pml4[0] & 1);
}

static void a_bzimage_cut_anywhere_is_refused(void **state)
{
	struct fixture *f = *state;

	make_bzimage(f);
	for (uint64_t n = 0; n <= 1024; n++) {
		f->kernel.src.size = n;
		assert_true(load(f) < 0);
	}
	f->kernel.src.size = 1025;
	assert_int_equal(load(f), 0);
}

static void zero_setup_sectors_mean_four(void **state)
{
	struct fixture *f = *state;

	make_bzimage(f);
	header(f)->setup_sects = 0;
	memcpy(f->kernel.data + 5 * 512, "here", 4);
	assert_int_equal(load(f), 0);
	assert_memory_equal(f->ram + MIB(1), "here", 4);
}

static void old_and_32_bit_kernels_are_named(void **state)
{
	struct fixture *f = *state;

	make_bzimage(f);
	header(f)->version = 0x020b;
	REFUSED(f, -ENOEXEC, "2.11 is too old");
	make_bzimage(f);
	header(f)->xloadflags = 0;
	REFUSED(f, -ENOEXEC, "32-bit kernel");
	make_bzimage(f);
	header(f)->loadflags = 0;
	REFUSED(f, -ENOEXEC, "32-bit kernel");
}

static void impossible_load_addresses_are_refused(void **state)
{
	struct fixture *f = *state;

	make_bzimage(f);
	header(f)->pref_address = 0;
	REFUSED(f, -ENOEXEC, "impossible load address");
	header(f)->pref_address = MIB(1) - 1;
	REFUSED(f, -ENOEXEC, "impossible load address");
	header(f)->pref_address = UINT64_MAX - 4095;
	REFUSED(f, -ENOEXEC, "impossible load address");
	header(f)->pref_address = RAM;
	REFUSED(f, -ENOMEM, "larger --memory");
	header(f)->pref_address = GIB(1) << 30;
	REFUSED(f, -ENOMEM, "larger --memory");
	make_bzimage(f);
	header(f)->init_size = UINT32_MAX;
	REFUSED(f, -ENOMEM, "needs memory up to 4097 MiB");
}

static void initrds_respect_the_kernels_limit(void **state)
{
	struct fixture *f = *state;
	const struct boot_params *bp = (const struct boot_params *)(f->ram + LAYOUT_ZERO_PAGE);

	make_bzimage(f);
	add_initrd(f, "data");
	header(f)->initrd_addr_max = MIB(4) - 1;
	assert_int_equal(load(f), 0);
	assert_int_equal(bp->hdr.ramdisk_image, MIB(4) - 4096);
	header(f)->initrd_addr_max = MIB(3);	/* the kernel's own memory ends at 3 MiB */
	REFUSED(f, -E2BIG, "more memory than the VM has");
	header(f)->initrd_addr_max = 0;
	REFUSED(f, -E2BIG, "initrd.img: too large");
	header(f)->initrd_addr_max = UINT32_MAX;
	assert_int_equal(load(f), 0);
	assert_int_equal(bp->hdr.ramdisk_image, RAM - 4096);
}

static void initrds_larger_than_memory_are_refused(void **state)
{
	static const uint64_t sizes[] = { RAM, RAM - MIB(3) + 1, INT64_MAX, GIB(4) };
	struct fixture *f = *state;

	make_bzimage(f);
	add_initrd(f, "data");
	add_initrd(f, "more");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		f->initrds[1].size = sizes[i];
		assert_int_equal(load(f), -E2BIG);
	}
}

static void an_empty_initrd_is_none(void **state)
{
	struct fixture *f = *state;

	make_bzimage(f);
	add_initrd(f, "");
	assert_int_equal(load(f), 0);
	assert_int_equal(((struct boot_params *)(f->ram + LAYOUT_ZERO_PAGE))->hdr.ramdisk_size, 0);
}

static void a_command_line_too_long_for_the_kernel_is_refused(void **state)
{
	static char text[5000];
	struct fixture *f = *state;

	memset(text, 'a', sizeof(text) - 1);
	f->load.cmdline = text;
	make_bzimage(f);
	REFUSED(f, -E2BIG, "4999 bytes, this kernel takes 2047");
	text[2047] = 0;
	assert_int_equal(load(f), 0);
	header(f)->cmdline_size = 0;
	REFUSED(f, -E2BIG, "takes 0");
	header(f)->cmdline_size = UINT32_MAX;	/* our own limit holds */
	memset(text, 'a', sizeof(text) - 1);
	REFUSED(f, -E2BIG, "takes 4095");
}

static void a_read_error_is_told_with_the_files_name(void **state)
{
	struct fixture *f = *state;

	make_bzimage(f);
	f->kernel.src.size = MIB(1);	/* behind FILE_BYTES reading fails */
	REFUSED(f, -EIO, "vmlinuz: reading");
}

/* ---- ELF ---------------------------------------------------------------------------------------- */

static const struct {
	Elf64_Nhdr other;
	char other_name[4];
	uint32_t other_desc;
	Elf64_Nhdr h;
	char name[4];
	uint32_t entry;
} xen_note = {
	{ 4, 1, 6 }, "Xen", 'x', { 4, 4, 18 }, "Xen", 0x100040,
};
#define NOTE_AT 0x200
#define TEXT_AT 0x1000

static Elf64_Ehdr *ehdr(struct fixture *f)
{
	return (Elf64_Ehdr *)f->kernel.data;
}

static Elf64_Phdr *phdr(struct fixture *f, unsigned i)
{
	return (Elf64_Phdr *)(f->kernel.data + sizeof(Elf64_Ehdr)) + i;
}

static void make_elf(struct fixture *f)
{
	memset(f->kernel.data, 0, sizeof(f->kernel.data));
	*ehdr(f) = (Elf64_Ehdr){ .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 },
				 .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1,
				 .e_phoff = sizeof(Elf64_Ehdr), .e_ehsize = sizeof(Elf64_Ehdr),
				 .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 };
	*phdr(f, 0) = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = TEXT_AT, .p_paddr = MIB(1),
				    .p_filesz = 64, .p_memsz = KIB(64) };
	*phdr(f, 1) = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = NOTE_AT,
				    .p_filesz = sizeof(xen_note) };
	memcpy(f->kernel.data + NOTE_AT, &xen_note, sizeof(xen_note));
	memcpy(f->kernel.data + TEXT_AT, "text segment", 12);
}

static void an_elf_with_a_pvh_note_is_placed_with_its_start_info(void **state)
{
	struct fixture *f = *state;
	const uint8_t *info, *module;

	make_elf(f);
	add_initrd(f, "ramdisk");
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.mode, VCPU_ENTRY_PROT32);
	assert_int_equal(f->entry.rip, 0x100040);
	assert_memory_equal(f->ram + MIB(1), "text segment", 12);
	info = f->ram + f->entry.rbx;
	assert_int_equal(load_le32(info), 0x336ec578);
	assert_int_equal(load_le32(info + 12), 1);	/* modules */
	module = f->ram + load_le64(info + 16);
	assert_memory_equal(f->ram + load_le64(module), "ramdisk", 7);
	assert_int_equal(load_le64(module + 8), 8);
	assert_string_equal(f->ram + load_le64(info + 24), "console=ttyS0");
	assert_int_equal(load_le64(info + 32), LAYOUT_RSDP);
	assert_true(load_le32(info + 48) >= 3);
	assert_int_equal(load_le64(f->ram + load_le64(info + 40)), 0);	/* RAM from 0 on */
}

static void an_elf_cut_anywhere_is_refused(void **state)
{
	struct fixture *f = *state;

	make_elf(f);
	for (uint64_t n = 0; n < TEXT_AT + 64; n++) {
		f->kernel.src.size = n;
		assert_true(load(f) < 0);
	}
	f->kernel.src.size = TEXT_AT + 64;
	assert_int_equal(load(f), 0);
}

static void hostile_program_headers_are_refused(void **state)
{
	struct fixture *f = *state;

	make_elf(f);
	ehdr(f)->e_phnum = 0;
	REFUSED(f, -ENOEXEC, "bad ELF program headers");
	ehdr(f)->e_phnum = UINT16_MAX;
	REFUSED(f, -ENOEXEC, "bad ELF program headers");
	make_elf(f);
	ehdr(f)->e_phentsize = 1;
	REFUSED(f, -ENOEXEC, "bad ELF program headers");
	make_elf(f);
	ehdr(f)->e_phoff = UINT64_MAX;
	REFUSED(f, -ENODATA, "truncated");
	ehdr(f)->e_phoff = FILE_BYTES - 60;
	REFUSED(f, -ENODATA, "truncated");
}

static void hostile_segments_are_refused(void **state)
{
	struct fixture *f = *state;

	make_elf(f);
	phdr(f, 0)->p_filesz = KIB(64) + 1;
	REFUSED(f, -ENOEXEC, "bad ELF segment 0");
	make_elf(f);
	phdr(f, 0)->p_paddr = LAYOUT_KERNEL_MIN - 1;
	REFUSED(f, -ENOEXEC, "bad ELF segment 0");
	make_elf(f);
	phdr(f, 0)->p_paddr = UINT64_MAX - 16;
	REFUSED(f, -ENOEXEC, "bad ELF segment 0");
	make_elf(f);
	phdr(f, 0)->p_memsz = UINT64_MAX;
	REFUSED(f, -ENOEXEC, "bad ELF segment 0");
	make_elf(f);
	phdr(f, 0)->p_memsz = RAM;
	REFUSED(f, -ENOMEM, "larger --memory");
	make_elf(f);
	phdr(f, 0)->p_offset = UINT64_MAX - 8;
	REFUSED(f, -ENODATA, "truncated");
	make_elf(f);
	phdr(f, 0)->p_type = PT_NULL;
	REFUSED(f, -ENOEXEC, "nothing to load");
}

static void notes_are_walked_within_their_segment(void **state)
{
	struct fixture *f = *state;
	Elf64_Nhdr *first = (Elf64_Nhdr *)(f->kernel.data + NOTE_AT);

	make_elf(f);
	first->n_namesz = UINT32_MAX;
	REFUSED(f, -ENOEXEC, "without a PVH note");
	make_elf(f);
	first->n_descsz = UINT32_MAX - 2;	/* rounds up past the type */
	REFUSED(f, -ENOEXEC, "without a PVH note");
	make_elf(f);
	phdr(f, 1)->p_filesz = sizeof(xen_note) - 1;	/* the entry is cut */
	REFUSED(f, -ENOEXEC, "without a PVH note");
	make_elf(f);
	phdr(f, 1)->p_filesz = UINT64_MAX;	/* nothing is allocated for it */
	REFUSED(f, -ENOEXEC, "without a PVH note");
	make_elf(f);
	phdr(f, 1)->p_offset = UINT64_MAX;
	REFUSED(f, -ENODATA, "truncated");
	make_elf(f);
	memcpy(f->kernel.data + NOTE_AT + 20 + 12, "Zen", 4);
	REFUSED(f, -ENOEXEC, "CONFIG_PVH");
}

/* ---- what is no kernel ----------------------------------------------------------------------------- */

static void the_usual_wrong_files_are_named(void **state)
{
	struct fixture *f = *state;

	make_elf(f);
	ehdr(f)->e_machine = EM_AARCH64;
	REFUSED(f, -ENOEXEC, "another architecture");
	make_elf(f);
	ehdr(f)->e_ident[EI_CLASS] = ELFCLASS32;
	REFUSED(f, -ENOEXEC, "another architecture");
	memset(f->kernel.data, 0, FILE_BYTES);
	REFUSED(f, -ENOEXEC, "not a kernel");
	memcpy(f->kernel.data + 0x38, "ARM\x64", 4);
	REFUSED(f, -ENOEXEC, "arm64");
	memcpy(f->kernel.data + 0x38, "RSC\x05", 4);
	REFUSED(f, -ENOEXEC, "RISC-V");
	memcpy(f->kernel.data, "\x1f\x8b", 2);
	memset(f->kernel.data + 0x38, 0, 4);
	REFUSED(f, -ENOEXEC, "gzip");
	f->kernel.src.size = 0;
	REFUSED(f, -ENOEXEC, "not a kernel");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_bzimage_is_placed_with_its_parameters),
		T(a_bzimage_cut_anywhere_is_refused),
		T(zero_setup_sectors_mean_four),
		T(old_and_32_bit_kernels_are_named),
		T(impossible_load_addresses_are_refused),
		T(initrds_respect_the_kernels_limit),
		T(initrds_larger_than_memory_are_refused),
		T(an_empty_initrd_is_none),
		T(a_command_line_too_long_for_the_kernel_is_refused),
		T(a_read_error_is_told_with_the_files_name),
		T(an_elf_with_a_pvh_note_is_placed_with_its_start_info),
		T(an_elf_cut_anywhere_is_refused),
		T(hostile_program_headers_are_refused),
		T(hostile_segments_are_refused),
		T(notes_are_walked_within_their_segment),
		T(the_usual_wrong_files_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
