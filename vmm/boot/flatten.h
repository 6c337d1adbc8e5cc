/* SPDX-License-Identifier: MIT */
/* flatten.h - an unpacked vmlinux with its relocation table, made into a kimage. */
#ifndef HV_VMM_BOOT_FLATTEN_H
#define HV_VMM_BOOT_FLATTEN_H

#include "hv/base.h"
#include "hv/err.h"

/**
 * flatten_elf - write the kimage of @elf to @out_fd
 * @elf: an ELF file and, directly behind it, what Linux's relocs tool appends; hostile
 *
 * Runs in the one-shot helper. Return: 0; -ENOEXEC for what is no such file; -errno of the
 * write.
 */
int flatten_elf(const uint8_t *elf, size_t len, int out_fd, struct err *e);

#endif
