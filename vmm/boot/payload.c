/* SPDX-License-Identifier: MIT */
/*
 * The compressed kernel inside a bzImage. Linux, Documentation/arch/x86/boot.rst: fields
 * payload_offset and payload_length, counted from the start of the protected-mode code.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hv/fd.h"
#include "hv/overflow.h"
#include "kernel.h"
#include "unpack.h"

#define SETUP_HEADER_OFF 0x1f1
#define SETUP_SECTS_DEFAULT 4
#define SECTOR_BYTES 512
#define PAYLOAD_CHUNK MIB(1)

static int payload_find(const struct boot_source *kernel, uint64_t *off, uint64_t *len,
			struct err *e)
{
	uint8_t head[SETUP_HEADER_OFF + sizeof(struct setup_header)];
	struct setup_header h;
	int r;

	if (kernel->size < sizeof(head))
		return err_set(e, -ENOEXEC, "%s: not a bzImage", kernel->name);
	r = kernel_read(kernel, 0, head, sizeof(head), e);
	if (r)
		return r;
	if (!bzimage_probe(head, sizeof(head)))
		return err_set(e, -ENOEXEC, "%s: not a bzImage", kernel->name);
	memcpy(&h, head + SETUP_HEADER_OFF, sizeof(h));
	*off = ((h.setup_sects ? h.setup_sects : SETUP_SECTS_DEFAULT) + UINT64_C(1)) *
		       SECTOR_BYTES +
	       h.payload_offset;
	*len = h.payload_length;
	if (!*len || *len > UNPACK_IN_MAX || !range_ok(*off, *len, kernel->size))
		return err_set(e, -EBADMSG, "%s: no payload where its header says", kernel->name);
	return 0;
}

static int payload_copy(const struct boot_source *kernel, uint64_t off, uint64_t len, int fd,
			struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(PAYLOAD_CHUNK);

	if (!buf)
		return err_set(e, -ENOMEM, "out of memory");
	while (len) {
		size_t n = MIN(len, PAYLOAD_CHUNK);
		int r = kernel_read(kernel, off, buf, n, e);

		if (r)
			return r;
		r = fd_write_full(fd, buf, n);
		if (r)
			return err_set(e, r, "kernel payload: %s", strerror(-r));
		off += n;
		len -= n;
	}
	return 0;
}

int kernel_payload(const struct boot_source *kernel, int *fd, struct err *e)
{
	CLEANUP_FD int out = -1;
	uint64_t off, len;
	int r = payload_find(kernel, &off, &len, e);

	if (r)
		return r;
	out = memfd_create("kernel-payload", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (out < 0)
		return err_errno(e, "kernel payload: memfd");
	r = payload_copy(kernel, off, len, out, e);
	if (!r &&
	    fcntl(out, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		r = err_errno(e, "kernel payload: sealing");
	if (!r)
		*fd = fd_steal(&out);
	return r;
}
