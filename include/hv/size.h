/* SPDX-License-Identifier: MIT */
/*
 * size.h - numbers and sizes as people write them: "4096", "512M", "4G".
 */
#ifndef HV_SIZE_H
#define HV_SIZE_H

#include "hv/base.h"

/**
 * size_parse - read a size: digits and at most one of K M G T (powers of 1024,
 * either case); a trailing "B" or "iB" is allowed after the letter
 * @unit: what a bare number is multiplied by (1 for bytes, MIB(1) for MiB)
 *
 * Return: 0; -EINVAL for other text, a sign or an empty string; -ERANGE past 2^64.
 */
int size_parse(const char *text, uint64_t unit, uint64_t *out);
/** u64_parse - decimal digits (or 0x hex) only; 0, -EINVAL, -ERANGE. */
int u64_parse(const char *text, uint64_t *out);
/** size_format - "1.5 GiB" into @buf (at least 24 bytes); returns @buf. */
char *size_format(uint64_t bytes, char *buf, size_t len);

#endif
