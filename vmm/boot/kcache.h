/* SPDX-License-Identifier: MIT */
/*
 * kcache.h - unpacked kernels, kept on the host by content hash.
 *
 * A bzImage carries its kernel compressed; unpacking it in the guest costs up to a second.
 * Here a one-shot helper process unpacks it (payload in, memfd out); the launcher hashes
 * and alone writes $XDG_CACHE_HOME/vmm/HASH.
 */
#ifndef HV_VMM_BOOT_KCACHE_H
#define HV_VMM_BOOT_KCACHE_H

#include "hv/base.h"
#include "hv/err.h"

/**
 * kcache_dir - the cache's directory
 * @create: make it if it is not there
 *
 * Return: 0 with the path in @buf, -ENOENT without HOME and XDG_CACHE_HOME, -errno.
 */
int kcache_dir(char *buf, size_t len, bool create);

#endif
