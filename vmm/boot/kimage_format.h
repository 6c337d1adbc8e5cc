/* SPDX-License-Identifier: MIT */
/*
 * kimage_format.h - an unpacked kernel, laid out for loading: what the helper makes of an ELF
 * file, what the cache keeps, what the machine maps or copies.
 *
 *   0       struct kimage_header
 *   4096    each segment's bytes, at an offset congruent to its address modulo 4096
 *   ...     the relocation table: 64-bit, inverse 32-bit, 32-bit places, each a le32
 *
 * Host byte order (x86). A change makes a new KIMAGE_VERSION, which is in the cache's names.
 */
#ifndef HV_VMM_BOOT_KIMAGE_FORMAT_H
#define HV_VMM_BOOT_KIMAGE_FORMAT_H

#include "hv/base.h"

#define KIMAGE_MAGIC UINT64_C(0x3147414d494b4d56) /* "VMKIMAG1" */
#define KIMAGE_VERSION 1
#define KIMAGE_PAGE 4096
#define KIMAGE_SEGMENTS_MAX 16

/*
 * A place is a 32-bit address in the kernel's upper half: its GPA, as linked, is what is above
 * this (Linux's __START_KERNEL_map, low half).
 */
#define KIMAGE_VIRT_BASE UINT32_C(0x80000000)

/* What is done at the places of a kind when the kernel runs @delta above where it was linked. */
enum kimage_reloc {
	KIMAGE_RELOC_64,	 /* 64 bits += delta */
	KIMAGE_RELOC_INVERSE_32, /* 32 bits -= delta: relative to per-CPU data, which stays */
	KIMAGE_RELOC_32,	 /* 32 bits += delta */
	KIMAGE_RELOCS
};

struct kimage_segment {
	uint64_t gpa; /* as linked */
	uint64_t mem_bytes, file_bytes;
	uint64_t off;
};

struct kimage_header {
	uint64_t magic;
	uint32_t version;
	uint32_t n_segments; /* ascending, not overlapping */
	uint64_t entry_gpa;  /* as linked */
	uint64_t reloc_off;
	uint64_t n_relocs[KIMAGE_RELOCS];
	struct kimage_segment segment[KIMAGE_SEGMENTS_MAX];
};
static_assert(sizeof(struct kimage_header) <= KIMAGE_PAGE, "the header is one page");

#endif
