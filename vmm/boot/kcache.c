/* SPDX-License-Identifier: MIT */
/* Where unpacked kernels are kept. */
#include "kcache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int kcache_dir(char *buf, size_t len, bool create)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (xdg && *xdg == '/')
		n = snprintf(buf, len, "%s/vmm", xdg);
	else if (home && *home == '/')
		n = snprintf(buf, len, "%s/.cache/vmm", home);
	else
		return -ENOENT;
	if (n < 0 || (size_t)n >= len)
		return -ENAMETOOLONG;
	if (create && mkdir(buf, 0700) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}
