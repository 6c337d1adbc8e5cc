/* SPDX-License-Identifier: MIT */
/*
 * link.h - the launcher and its machine process talk: one SEQPACKET socket, fixed messages.
 *
 * The machine asks (open what an image names; "the guest runs"), the launcher answers and
 * orders (stop, kill). Each side treats the other's message as untrusted: lengths are
 * fixed, strings are terminated on arrival, an unknown type ends the link.
 */
#ifndef HV_VMM_LINK_H
#define HV_VMM_LINK_H

#include "hv/block.h"
#include "hv/checksum.h"
#include "hv/err.h"

enum link_type {
	LINK_OPEN_BACKING = 1,	/* machine: open @name, which the image @path names */
	LINK_OPENED,		/* launcher: @code, then @path and an fd, or an error text in @path */
	LINK_RUNNING,		/* machine: the guest executes */
	LINK_STOP,		/* launcher: power button, then kill after the usual time */
	LINK_KILL,		/* launcher: end now, exit status 4 */
	LINK_UNPACK,		/* machine: unpack the kernel payload in the fd, a sealed memfd */
	LINK_UNPACKED,		/* launcher: @code 0 cached or 1 not, how in @path, and a kimage's fd;
				   or an error text in @path; in @name the payload's SHA-256 */
};
struct link_msg {
	uint32_t type;
	int32_t code;
	char path[BLK_PATH_MAX];
	char name[BLK_NAME_MAX + 1];
};

/** link_send - one message, with descriptor @fd unless -1 (which stays the caller's). */
int link_send(int sock, const struct link_msg *m, int fd);
/** link_send_type - a message without operands. */
int link_send_type(int sock, enum link_type type);
/**
 * link_recv - one message; blocks unless the socket does not
 *
 * Return: 0 with *@fd the descriptor received (the caller's) or -1; -EPIPE at the end;
 * -EPROTO for anything malformed; -EAGAIN.
 */
int link_recv(int sock, struct link_msg *m, int *fd);
/** link_gate - a blk_gate_fn for the machine process: asks the launcher; @ctx: int *, the socket. */
int link_gate(void *ctx, const char *parent_path, const char *name, int *fd,
	      char path[BLK_PATH_MAX], struct err *e);
/* What link_unpack() brings. */
struct link_unpacked {
	int fd;			/* a kimage; the caller's */
	bool cached;		/* a file of the cache, not a memfd */
	char how[64];		/* "cache hit", "cache miss", "not cached" */
	uint8_t digest[SHA256_BYTES];	/* of the payload */
	uint32_t order;		/* LINK_STOP or LINK_KILL that came while waiting, else 0 */
};
/**
 * link_unpack - have the launcher unpack a kernel's payload; waits for it
 *
 * Return: 0; -EPIPE if the launcher has left, -ECANCELED, -ENOTSUP, ...: no image, and
 * @u->order is to be obeyed all the same.
 */
int link_unpack(int sock, int payload_fd, struct link_unpacked *u, struct err *e);

#endif
