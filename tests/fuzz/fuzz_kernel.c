/* SPDX-License-Identifier: MIT */
/*
 * A kernel file (bzImage or ELF) loaded into a guest of 4 MiB. The first byte chooses what
 * comes with it: bits 0-1 the number of initrds, bit 2 a long command line; the second one
 * is how many times 4 KiB the file claims to be longer than it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/kernel.h"
#include "gmem.h"
#include "hv/overflow.h"

#define RAM MIB(4)
#define LONG_CMDLINE 4200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p;
	size_t n;
};

static int input_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	const struct input *in = ctx;

	if (!range_ok(off, len, in->n))
		return -EIO;
	memcpy(buf, in->p + off, len);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *ram;
	static char cmdline[LONG_CMDLINE];
	struct boot_source kernel = { .name = "kernel", .read = input_read }, initrd[3];
	struct kernel_load k = { .kernel = &kernel, .initrd = initrd, .cmdline = cmdline };
	struct vcpu_entry entry;
	struct input in;
	struct gmem mem;
	struct err e = { 0 };

	if (!ram)
		ram = calloc(1, RAM);
	if (size < 2 || !ram || gmem_init_flat(&mem, 0, ram, RAM))
		return 0;
	in = (struct input){ data + 2, size - 2 };
	kernel.ctx = &in;
	kernel.size = in.n + data[1] * KIB(4);
	memset(cmdline, 'a', data[0] & 4 ? LONG_CMDLINE - 1 : 20);
	cmdline[data[0] & 4 ? LONG_CMDLINE - 1 : 20] = 0;
	k.mem = &mem;
	k.n_initrd = data[0] & 3;
	for (size_t i = 0; i < k.n_initrd; i++)
		initrd[i] = (struct boot_source){ "initrd", in.n, input_read, &in };
	if (!kernel_load(&k, &entry, &e) && (entry.rip < MIB(1) || entry.rip >= UINT64_MAX - 512))
		if (entry.mode == VCPU_ENTRY_LONG64)
			abort();
	gmem_fini(&mem);
	return 0;
}
