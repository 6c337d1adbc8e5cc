/* SPDX-License-Identifier: MIT */
/* Sizes as text. */
#include "hv/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/overflow.h"

static int parse_digits(const char *text, int base, uint64_t *out, const char **end)
{
	char *stop;

	/* strtoull takes signs and spaces; people who write them mean something else. */
	if (!isxdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &stop, base);
	if (errno == ERANGE)
		return -ERANGE;
	*end = stop;
	return stop == text ? -EINVAL : 0;
}

int u64_parse(const char *text, uint64_t *out)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *end;
	int r = parse_digits(hex ? text + 2 : text, hex ? 16 : 10, out, &end);

	return r ? r : *end ? -EINVAL : 0;
}

int size_parse(const char *text, uint64_t unit, uint64_t *out)
{
	static const char letters[] = "KMGT";
	const char *end, *letter;
	uint64_t n;
	int r = parse_digits(text, 10, &n, &end);

	if (r)
		return r;
	if (*end) {
		letter = strchr(letters, toupper((unsigned char)*end));
		if (!letter)
			return -EINVAL;
		unit = UINT64_C(1) << (10 * (letter - letters + 1));
		end++;
		if (*end && strcmp(end, "B") && strcmp(end, "iB"))
			return -EINVAL;
	}
	return mul_u64(n, unit, out) ? 0 : -ERANGE;
}

char *size_format(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	size_t u = 0;
	double v = (double)bytes;

	for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	snprintf(buf, len, v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v, units[u]);
	return buf;
}
