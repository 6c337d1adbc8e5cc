/* SPDX-License-Identifier: MIT */
/*
 * kcache.h - unpacked kernels, kept on the host by content hash.
 *
 * A bzImage carries its kernel compressed; unpacking it in the guest costs up to a second.
 * Here a one-shot helper process unpacks it (payload in, memfd out); the launcher hashes
 * and alone writes $XDG_CACHE_HOME/vmm/HASH.
 *
 * An entry is a kimage and a trailer with its checksum. It is written under another name and
 * renamed, never changed afterwards: whoever has it open or mapped keeps what he has. Launchers
 * may work on one directory at a time. Nothing here is fatal: without a usable directory,
 * kernels are unpacked at every boot.
 */
#ifndef HV_VMM_BOOT_KCACHE_H
#define HV_VMM_BOOT_KCACHE_H

#include "hv/base.h"
#include "hv/checksum.h"
#include "hv/err.h"

#define KCACHE_ENTRIES_MAX 8
#define KCACHE_BYTES_MAX MIB(512)

struct kcache_usage {
	unsigned entries;
	uint64_t bytes;
};

/**
 * kcache_dir - the cache's directory
 * @create: make it if it is not there
 *
 * Return: 0 with the path in @buf, -ENOENT without HOME and XDG_CACHE_HOME, -errno.
 */
int kcache_dir(char *buf, size_t len, bool create);
/**
 * kcache_open - the directory by descriptor, made if need be
 *
 * Return: the descriptor, the caller's; -EPERM if it is not ours alone to write, -errno.
 */
int kcache_open(struct err *e);
/**
 * kcache_get - the kimage that was made of the payload with this digest
 *
 * A damaged entry is removed. Return: 0 with *@fd open for reading; -ENOENT; -errno.
 */
int kcache_get(int dir_fd, const uint8_t digest[SHA256_BYTES], int *fd);
/**
 * kcache_put - keep a copy of @image_fd, drop the least recently used beyond the limits
 *
 * Return: 0 with *@fd the entry, open for reading; -errno, the cache being as before.
 */
int kcache_put(int dir_fd, const uint8_t digest[SHA256_BYTES], int image_fd, int *fd);
/** kcache_usage - what is kept in @dir_fd. */
int kcache_usage(int dir_fd, struct kcache_usage *u);

#endif
