/* SPDX-License-Identifier: MIT */
/*
 * checksum.h - SHA-256 (a name that nobody can forge) and CRC-32C (was it damaged?).
 *
 * Both use the CPU's own instructions where it has them. Any thread, no state.
 */
#ifndef HV_CHECKSUM_H
#define HV_CHECKSUM_H

#include "hv/base.h"

#define SHA256_BYTES 32

/** sha256 - digest of @len bytes at @data (FIPS 180-4). */
void sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES]);
/** sha256_portable - the same without special instructions; for tests. */
void sha256_portable(const void *data, size_t len, uint8_t out[SHA256_BYTES]);

/** crc32c - checksum of @len bytes, Castagnoli polynomial; @crc: of what came before, 0 at first.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/** crc32c_portable - the same without special instructions; for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
