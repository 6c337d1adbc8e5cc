/* SPDX-License-Identifier: MIT */
/* What Linux's build would make, in small. */
#include "mini_kernel.h"

#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "hv/bytes.h"

#define TEXT_OFF 0x1000
#define TEXT_BYTES 0x2000
#define DATA_OFF 0x3080
#define LZ4_BLOCK MIB(8)

static void mini_phdr(uint8_t *buf, unsigned i, uint64_t gpa, uint64_t off, uint64_t file,
		      uint64_t mem)
{
	const Elf64_Phdr ph = {
		.p_type = PT_LOAD, .p_offset = off, .p_paddr = gpa, .p_filesz = file, .p_memsz = mem
	};

	memcpy(buf + sizeof(Elf64_Ehdr) + i * sizeof(ph), &ph, sizeof(ph));
}

static uint8_t *mini_table(uint8_t *p, unsigned groups)
{
	const uint64_t place[] = { MINI_PLACE_64, MINI_PLACE_INVERSE, MINI_PLACE_32 };

	for (unsigned i = 0; i < groups; i++) {
		uint64_t gpa = place[groups == 2 && i == 1 ? 2 : i];

		store_le32(p, 0);
		store_le32(p + 4, (uint32_t)(0x80000000 + gpa));
		p += 8;
	}
	return p;
}

size_t mini_vmlinux(uint8_t buf[MINI_MAX], unsigned groups)
{
	const uint64_t end = DATA_OFF + MINI_DATA_FILE;
	Elf64_Ehdr eh = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				       EV_CURRENT },
			  .e_type = ET_EXEC,
			  .e_machine = EM_X86_64,
			  .e_entry = MINI_BASE,
			  .e_phoff = sizeof(Elf64_Ehdr),
			  .e_phentsize = sizeof(Elf64_Phdr),
			  .e_phnum = 2,
			  .e_shoff = end,
			  .e_shentsize = sizeof(Elf64_Shdr),
			  .e_shnum = 1 };

	memset(buf, 0, MINI_MAX);
	memcpy(buf, &eh, sizeof(eh));
	mini_phdr(buf, 0, MINI_BASE, TEXT_OFF, TEXT_BYTES, TEXT_BYTES);
	mini_phdr(buf, 1, MINI_DATA, DATA_OFF, MINI_DATA_FILE, MINI_DATA_MEM);
	for (size_t i = TEXT_OFF; i < end; i++)
		buf[i] = (uint8_t)(i * 7 + i / 256 + 1) | 1;
	store_le64(buf + TEXT_OFF + (MINI_PLACE_64 - MINI_BASE), MINI_VALUE);
	store_le64(buf + TEXT_OFF + (MINI_PLACE_INVERSE - MINI_BASE), MINI_VALUE);
	store_le64(buf + DATA_OFF + (MINI_PLACE_32 - MINI_DATA), MINI_VALUE);
	return (size_t)(mini_table(buf + end + sizeof(Elf64_Shdr), groups) - buf);
}

static size_t mini_gzip(const uint8_t *data, size_t len, uint8_t *out, size_t max)
{
	z_stream z = { .next_in = (uint8_t *)data,
		       .avail_in = (uInt)len,
		       .next_out = out,
		       .avail_out = (uInt)max };

	deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return max - z.avail_out;
}

/* As the kernel's build does it: x86 filter before LZMA2, CRC32. */
static size_t mini_xz(const uint8_t *data, size_t len, uint8_t *out, size_t max)
{
	lzma_options_lzma o;
	lzma_filter f[] = { { LZMA_FILTER_X86, NULL },
			    { LZMA_FILTER_LZMA2, &o },
			    { LZMA_VLI_UNKNOWN, NULL } };
	size_t n = 0;

	lzma_lzma_preset(&o, 2);
	if (lzma_stream_buffer_encode(f, LZMA_CHECK_CRC32, NULL, data, len, out, &n, max) !=
	    LZMA_OK)
		abort();
	return n;
}

static size_t mini_lz4(const uint8_t *data, size_t len, uint8_t *out, size_t max)
{
	size_t at = 4;

	store_le32(out, 0x184c2102);
	for (size_t off = 0; off < len; off += LZ4_BLOCK) {
		int n = LZ4_compress_default((const char *)data + off, (char *)out + at + 4,
					     (int)MIN(len - off, LZ4_BLOCK), (int)(max - at - 4));

		store_le32(out + at, (uint32_t)n);
		at += 4 + (size_t)n;
	}
	return at;
}

uint8_t *mini_pack(enum mini_codec codec, const uint8_t *data, size_t len, size_t *out_len)
{
	size_t max = len + len / 64 + KIB(64), n = 0;
	uint8_t *out = calloc(1, max + 4);

	switch (codec) {
	case MINI_GZIP: *out_len = mini_gzip(data, len, out, max); return out;
	case MINI_XZ: n = mini_xz(data, len, out, max); break;
	case MINI_LZ4: n = mini_lz4(data, len, out, max); break;
	case MINI_ZSTD: n = ZSTD_compress(out, max, data, len, 3); break;
	case MINI_CODECS: break;
	}
	store_le32(out + n, (uint32_t)len);
	*out_len = n + 4;
	return out;
}
