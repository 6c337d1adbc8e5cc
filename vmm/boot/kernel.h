/* SPDX-License-Identifier: MIT */
/*
 * kernel.h - put a kernel, its initrd and its command line into guest memory.
 *
 * Formats: ELF with a PVH note (pvh.c) and x86 bzImage, entered at its 64-bit entry point
 * (bzimage.c). Everything read is hostile: it may come out of a stranger's image.
 */
#ifndef HV_VMM_BOOT_KERNEL_H
#define HV_VMM_BOOT_KERNEL_H

#include "e820.h"
#include "hv/base.h"
#include "hv/err.h"
#include "source.h"
#include "vcpu.h"

#define KERNEL_INITRDS_MAX 16

struct gmem;
struct log_ctx;

/* A bzImage's kernel, unpacked on the host (kimage_format.h). */
struct kernel_image {
	int fd;
	const char *how;	/* where it came from, for the log */
};

struct kernel_load {
	struct gmem *mem;
	const struct boot_source *kernel;
	const struct boot_source *initrd;	/* n_initrd of them, loaded one behind the other */
	size_t n_initrd;
	const char *cmdline;
	const struct kernel_image *image;	/* NULL: the guest unpacks it */
	struct log_ctx *log;	/* NULL: no notes */
};

/* Where loading has put things; each loader fills in what its boot protocol hands on. */
struct kernel_placed {
	uint64_t kernel_end;	/* first free GPA behind the kernel's own memory */
	uint64_t initrd_gpa, initrd_size;
};

/**
 * kernel_load - recognise the format, load all, prepare the boot vCPU's entry
 *
 * Main thread, before entry. Return: 0 with *@entry; -ENOEXEC for what is no x86-64 kernel
 * (the message says what it is), -E2BIG for a command line or an initrd that does not fit,
 * -EIO, -ENOMEM.
 */
int kernel_load(const struct kernel_load *k, struct vcpu_entry *entry, struct err *e);

/**
 * kernel_payload - copy a bzImage's compressed payload into a sealed memfd
 *
 * Return: 0 with *@fd, the caller's; -ENOEXEC for what is no bzImage, -EBADMSG if there is no
 * payload where it says, -EIO, -errno of memfd_create.
 */
int kernel_payload(const struct boot_source *kernel, int *fd, struct err *e);

/* ---- between the loaders ---- */

/** kernel_read - read from @src with its name in the error; -ENODATA past the end. */
int kernel_read(const struct boot_source *src, uint64_t off, void *buf, size_t len, struct err *e);
/** kernel_read_to_guest - stream [@off, @off+@len) of @src to @gpa; -ENOMEM if that is no RAM. */
int kernel_read_to_guest(const struct kernel_load *k, const struct boot_source *src, uint64_t off,
			 uint64_t gpa, uint64_t len, struct err *e);
/** kernel_place_initrd - load all initrds as high as @limit (exclusive GPA) allows. */
int kernel_place_initrd(const struct kernel_load *k, uint64_t limit, struct kernel_placed *p,
			struct err *e);
/** kernel_write_cmdline - at LAYOUT_CMDLINE; @max includes the NUL. */
int kernel_write_cmdline(const struct kernel_load *k, size_t max, struct err *e);

/** bzimage_probe/pvh_probe - do these first @n bytes look like mine? */
bool bzimage_probe(const uint8_t *head, size_t n);
bool pvh_probe(const uint8_t *head, size_t n);
int bzimage_load(const struct kernel_load *k, struct vcpu_entry *entry, struct err *e);
int pvh_load(const struct kernel_load *k, struct vcpu_entry *entry, struct err *e);

#endif
