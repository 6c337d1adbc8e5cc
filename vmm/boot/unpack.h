/* SPDX-License-Identifier: MIT */
/*
 * unpack.h - the compressed payload of a bzImage, unpacked: gzip, xz, lz4 (legacy), zstd.
 *
 * The payload is hostile. Output goes into a buffer of the size that the payload's last four
 * bytes claim, and nowhere else; memory besides is bounded by UNPACK_MEMORY_MAX.
 */
#ifndef HV_VMM_BOOT_UNPACK_H
#define HV_VMM_BOOT_UNPACK_H

#include "hv/base.h"
#include "hv/err.h"

#define UNPACK_IN_MAX MIB(256)
#define UNPACK_OUT_MAX MIB(512)
#define UNPACK_MEMORY_MAX MIB(192) /* a decoder's own: xz takes a dictionary of 128 MiB */

/** unpack_claimed_bytes - what @in says it unpacks to; 0 if it is too short to say. */
uint64_t unpack_claimed_bytes(const uint8_t *in, size_t in_len);
/**
 * unpack_payload - unpack all of @in into exactly @out_len bytes
 * @in_len: bytes, the four of the claimed size included
 *
 * Any thread. Return: 0; -ENOTSUP for another compression, -EBADMSG for damaged data or
 * another length than @out_len, -ENOMEM.
 */
int unpack_payload(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len, struct err *e);

#endif
