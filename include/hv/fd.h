/* SPDX-License-Identifier: MIT */
/*
 * fd.h - owners for file descriptors, streams and heap blocks.
 *
 * CLEANUP_* releases on every return; *_steal hands over exactly once.
 */
#ifndef HV_FD_H
#define HV_FD_H

#include <stdio.h>
#include <stdlib.h>

#include "hv/base.h"

/** fd_close - close *@fd if it is >= 0 and set it to -1; errno is kept. */
void fd_close(int *fd);
/** fd_steal - take the descriptor out of *@fd, which becomes -1. */
static inline int fd_steal(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
/** free_ptr - cleanup handler: free what the pointer variable at @p points to. */
static inline void free_ptr(void *p)
{
	free(*(void **)p);
}
/** file_close - cleanup handler: fclose *@f unless NULL. */
static inline void file_close(FILE **f)
{
	if (*f)
		fclose(*f);
}
/** ptr_steal - take a heap block out of a CLEANUP_FREE variable. */
#define ptr_steal(p)                          \
	({                                    \
		__typeof__(*(p)) taken_ = *(p); \
		*(p) = NULL;                  \
		taken_;                       \
	})

#define CLEANUP_FD __attribute__((cleanup(fd_close)))
#define CLEANUP_FREE __attribute__((cleanup(free_ptr)))
#define CLEANUP_FILE __attribute__((cleanup(file_close)))

/** fd_read_full - read exactly @len bytes at the file position; -ENODATA on early EOF. */
int fd_read_full(int fd, void *buf, size_t len);
/** fd_write_full - write all of @buf, restarting after signals; 0 or -errno. */
int fd_write_full(int fd, const void *buf, size_t len);
/** fd_pread_full - pread of exactly @len bytes; -ENODATA on early EOF, else 0 or -errno. */
int fd_pread_full(int fd, void *buf, size_t len, uint64_t off);
/** fd_pwrite_full - pwrite of all of @buf; 0 or -errno. */
int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off);
/** fd_set_nonblock - set or clear O_NONBLOCK; 0 or -errno. */
int fd_set_nonblock(int fd, bool on);
/**
 * fd_slurp - read a whole small file by descriptor from offset 0
 * @max: bytes; a larger file is -EFBIG
 *
 * Return: 0 with *@out a malloc'd block (caller frees) that has a NUL behind
 * its *@len bytes; or -errno.
 */
int fd_slurp(int fd, size_t max, uint8_t **out, size_t *len);

#endif
