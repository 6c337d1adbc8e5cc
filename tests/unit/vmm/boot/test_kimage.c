/* SPDX-License-Identifier: MIT */
/* From a vmlinux to a kimage to guest memory; hostile files at both steps. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../support/mini_kernel.h"
#include "boot/flatten.h"
#include "boot/kimage.h"
#include "gmem.h"
#include "hv/bytes.h"
#include "hv/fd.h"

#define RAM MIB(32)
#define MOVE MIB(2)

static uint8_t elf[MINI_MAX];

static int flat(size_t len)
{
	int fd = memfd_create("kimage", MFD_CLOEXEC);

	assert_true(fd >= 0);
	if (!flatten_elf(elf, len, fd, NULL))
		return fd;
	close(fd);
	return -1;
}

static uint64_t at(struct gmem *m, uint64_t gpa)
{
	uint64_t v;

	assert_int_equal(gmem_read(m, gpa, &v, sizeof(v)), 0);
	return v;
}

static void expect_loaded(struct gmem *m, uint64_t delta)
{
	uint8_t *text = gmem_ptr(m, MINI_BASE + delta, 0x2000);
	uint8_t *data = gmem_ptr(m, MINI_DATA + delta, MINI_DATA_MEM);

	assert_memory_equal(text, elf + 0x1000, 0x2000);
	assert_memory_equal(data, elf + 0x3080, MINI_DATA_FILE);
	for (size_t i = MINI_DATA_FILE; i < MINI_DATA_MEM; i++)
		assert_int_equal(data[i], 0);
}

static void a_kernel_is_loaded_by_copy_and_by_mapping_alike(void **state)
{
	CLEANUP_FD int fd = flat(mini_vmlinux(elf, 3));
	struct kimage k;

	assert_int_equal(kimage_open(&k, fd, NULL), 0);
	assert_int_equal(k.start, MINI_BASE);
	assert_int_equal(k.end, MINI_END);
	assert_int_equal(k.h.entry_gpa, MINI_BASE);
	assert_true(kimage_relocatable(&k));
	for (int map = 0; map < 2; map++) {
		struct gmem m;

		assert_int_equal(gmem_init(&m, RAM, false, NULL), 0);
		assert_int_equal(kimage_load(&k, &m, 0, map, NULL), 0);
		expect_loaded(&m, 0);
		gmem_fini(&m);
	}
}

static void writes_to_mapped_pages_stay_private(void **state)
{
	CLEANUP_FD int fd = flat(mini_vmlinux(elf, 3));
	struct kimage k;
	struct gmem m[2];

	assert_int_equal(kimage_open(&k, fd, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(gmem_init(&m[i], RAM, false, NULL), 0);
		assert_int_equal(kimage_load(&k, &m[i], 0, true, NULL), 0);
	}
	assert_int_equal(gmem_write(&m[0], MINI_BASE, "changed", 7), 0);
	expect_loaded(&m[1], 0);
	gmem_fini(&m[0]);
	gmem_fini(&m[1]);
}

static void relocation_moves_each_kind_its_own_way(void **state)
{
	for (unsigned groups = 2; groups <= 3; groups++) {
		CLEANUP_FD int fd = flat(mini_vmlinux(elf, groups));
		const uint64_t delta = 0x6000000;
		struct kimage k;
		struct gmem m;

		assert_int_equal(kimage_open(&k, fd, NULL), 0);
		assert_int_equal(gmem_init(&m, RAM, false, NULL), 0);
		assert_int_equal(kimage_load(&k, &m, MOVE, false, NULL), 0);
		assert_int_equal(kimage_relocate(&k, &m, MOVE, delta, NULL), 0);
		assert_int_equal(at(&m, MINI_PLACE_64 + MOVE), MINI_VALUE + delta);
		assert_int_equal(at(&m, MINI_PLACE_32 + MOVE), MINI_VALUE + delta);
		assert_int_equal(at(&m, MINI_PLACE_INVERSE + MOVE),
				 MINI_VALUE - (groups == 3 ? delta : 0));
		gmem_fini(&m);
	}
}

static void a_kernel_without_a_table_is_not_relocatable(void **state)
{
	CLEANUP_FD int fd = flat(mini_vmlinux(elf, 0));
	struct kimage k;

	assert_int_equal(kimage_open(&k, fd, NULL), 0);
	assert_false(kimage_relocatable(&k));
}

static void a_place_outside_the_kernel_is_refused(void **state)
{
	const uint32_t bad[] = { 0x80000000u,
				 0x7fffffff,
				 (uint32_t)(0x80000000 + MINI_BASE - 1),
				 (uint32_t)(0x80000000 + MINI_END - 7),
				 0xffffffff,
				 1 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t len = mini_vmlinux(elf, 3);
		struct kimage k;
		struct gmem m;

		store_le32(elf + len - 5 * 4, bad[i]); /* the 64-bit place */
		CLEANUP_FD int fd = flat(len);

		assert_int_equal(kimage_open(&k, fd, NULL), 0);
		assert_int_equal(gmem_init(&m, RAM, false, NULL), 0);
		assert_int_equal(kimage_load(&k, &m, 0, false, NULL), 0);
		assert_int_equal(kimage_relocate(&k, &m, 0, MOVE, NULL), -EBADMSG);
		gmem_fini(&m);
	}
}

static void too_little_memory_is_told(void **state)
{
	CLEANUP_FD int fd = flat(mini_vmlinux(elf, 3));
	struct kimage k;
	struct gmem m;

	assert_int_equal(kimage_open(&k, fd, NULL), 0);
	assert_int_equal(gmem_init(&m, MIB(16), false, NULL), 0);
	assert_int_equal(kimage_load(&k, &m, 0, false, NULL), -ENOMEM);
	assert_int_equal(kimage_load(&k, &m, UINT64_MAX - MINI_BASE, false, NULL), -ENOMEM);
	assert_int_equal(kimage_relocate(&k, &m, 0, MOVE, NULL), -ENOMEM);
	gmem_fini(&m);
}

static void strange_elf_files_are_refused(void **state)
{
	size_t len = mini_vmlinux(elf, 3);
	Elf64_Phdr *ph = (Elf64_Phdr *)(elf + sizeof(Elf64_Ehdr));
	Elf64_Ehdr *eh = (Elf64_Ehdr *)elf;

	assert_int_equal(flat(0), -1);
	assert_int_equal(flat(len - 1), -1);	     /* table of odd length */
	assert_int_equal(flat(len - 2 * 4 * 2), -1); /* one group only */
	eh->e_machine = EM_AARCH64;
	assert_int_equal(flat(len), -1);
	len = mini_vmlinux(elf, 3);
	eh->e_shoff = UINT64_MAX - 8;
	assert_int_equal(flat(len), -1);
	len = mini_vmlinux(elf, 3);
	ph[1].p_paddr = MINI_BASE; /* overlaps the first */
	assert_int_equal(flat(len), -1);
	len = mini_vmlinux(elf, 3);
	ph[1].p_memsz = UINT64_MAX;
	assert_int_equal(flat(len), -1);
	len = mini_vmlinux(elf, 3);
	ph[0].p_offset = len;
	assert_int_equal(flat(len), -1);
	len = mini_vmlinux(elf, 3);
	memset(elf + len - 24, 0, 24); /* six groups */
	assert_int_equal(flat(len), -1);
}

static void expect_bad(int fd, const struct kimage_header *h)
{
	struct kimage k;

	assert_int_equal(fd_pwrite_full(fd, h, sizeof(*h), 0), 0);
	assert_int_equal(kimage_open(&k, fd, NULL), -EBADMSG);
}

#define REFUSE(change)              \
	do {                        \
		h = good;           \
		h.change;           \
		expect_bad(fd, &h); \
	} while (0)

static void a_hostile_header_is_refused(void **state)
{
	CLEANUP_FD int fd = flat(mini_vmlinux(elf, 3));
	struct kimage_header good, h;

	assert_int_equal(fd_pread_full(fd, &good, sizeof(good), 0), 0);
	REFUSE(magic++);
	REFUSE(n_segments = KIMAGE_SEGMENTS_MAX + 1);
	REFUSE(n_segments = 0);
	REFUSE(segment[0].off = UINT64_MAX - 4095);
	REFUSE(segment[0].off++);
	REFUSE(segment[0].gpa = 0);
	REFUSE(segment[1].gpa = MINI_BASE);
	REFUSE(segment[1].mem_bytes = UINT64_MAX);
	REFUSE(segment[1].file_bytes = MIB(1));
	REFUSE(n_relocs[0] = UINT64_MAX / 4);
	REFUSE(n_relocs[2]++);
	REFUSE(reloc_off = UINT64_MAX);
	REFUSE(entry_gpa = MINI_END);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kernel_is_loaded_by_copy_and_by_mapping_alike),
		cmocka_unit_test(writes_to_mapped_pages_stay_private),
		cmocka_unit_test(relocation_moves_each_kind_its_own_way),
		cmocka_unit_test(a_kernel_without_a_table_is_not_relocatable),
		cmocka_unit_test(a_place_outside_the_kernel_is_refused),
		cmocka_unit_test(too_little_memory_is_told),
		cmocka_unit_test(strange_elf_files_are_refused),
		cmocka_unit_test(a_hostile_header_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
