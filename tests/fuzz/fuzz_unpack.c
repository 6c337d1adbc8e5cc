/* SPDX-License-Identifier: MIT */
/*
 * A kernel's way from its payload to guest memory. The first byte says where the input comes
 * in: as a packed payload, as an unpacked vmlinux, or as the kimage that the helper hands on.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/flatten.h"
#include "boot/kimage.h"
#include "boot/unpack.h"
#include "gmem.h"
#include "hv/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX MIB(1) /* speed: what matters is that the bound holds */
#define RAM_BASE MIB(16)
#define RAM KIB(256)

static void load(int fd)
{
	uint8_t *ram = calloc(1, RAM);
	struct kimage k;
	struct gmem m;

	if (!kimage_open(&k, fd, NULL) && !gmem_init_flat(&m, RAM_BASE, ram, RAM)) {
		kimage_relocatable(&k);
		if (!kimage_load(&k, &m, 0, false, NULL))
			kimage_relocate(&k, &m, 0, MIB(2), NULL);
		kimage_load(&k, &m, KIB(64), false, NULL);
		gmem_fini(&m);
	}
	free(ram);
}

static void flatten(const uint8_t *elf, size_t len)
{
	CLEANUP_FD int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd >= 0 && !flatten_elf(elf, len, fd, NULL))
		load(fd);
}

static void unpack(const uint8_t *in, size_t len)
{
	uint64_t claimed = unpack_claimed_bytes(in, len);
	size_t n = (size_t)MIN(claimed, OUT_MAX);
	CLEANUP_FREE uint8_t *out = calloc(1, n + 1);

	if (out && n && !unpack_payload(in, len, out, n, NULL))
		flatten(out, n);
}

static void image(const uint8_t *data, size_t len)
{
	CLEANUP_FD int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd >= 0 && !fd_write_full(fd, data, len))
		load(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	/* A block of its own, so that a read past its end is seen. */
	CLEANUP_FREE uint8_t *copy = malloc(size - 1);

	memcpy(copy, data + 1, size - 1);
	switch (data[0]) {
	case 'p': unpack(copy, size - 1); break;
	case 'e': flatten(copy, size - 1); break;
	case 'k': image(copy, size - 1); break;
	}
	return 0;
}
