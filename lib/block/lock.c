/* SPDX-License-Identifier: MIT */
/*
 * QEMU's image locks: open-file-description read locks on single bytes.
 *
 *   byte 100 + p   held: "I use permission p"
 *   byte 200 + p   held: "nobody else may use permission p"
 *
 * Every lock is a read lock, so that any number of programs can hold the same byte; a
 * conflict is found by asking whether a write lock could be had on the opposite byte.
 * Taking first and asking second makes of two racing programs at most one a winner.
 */
#include <errno.h>
#include <fcntl.h>

#include "hv/block.h"

#define LOCK_PERM_BASE 100
#define LOCK_UNSHARED_BASE 200
#define LOCK_BITS 5

/* Permission bits, by their place in QEMU's byte layout. */
#define PERM_CONSISTENT_READ BIT32(0)
#define PERM_WRITE BIT32(1)
#define PERM_RESIZE BIT32(3)

static int lock_byte(int fd, int cmd, short type, off_t at, short *found)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	if (fcntl(fd, cmd, &fl) < 0)
		return -errno;
	*found = fl.l_type;
	return 0;
}

static int lock_take(int fd, uint32_t bits, off_t base)
{
	short found;
	int r = 0;

	for (int i = 0; i < LOCK_BITS && !r; i++)
		if (bits & BIT32(i))
			r = lock_byte(fd, F_OFD_SETLK, F_RDLCK, base + i, &found);
	return r;
}

static int lock_ask(int fd, uint32_t bits, off_t base)
{
	for (int i = 0; i < LOCK_BITS; i++) {
		short found = F_UNLCK;
		int r;

		if (!(bits & BIT32(i)))
			continue;
		r = lock_byte(fd, F_OFD_GETLK, F_WRLCK, base + i, &found);
		if (r)
			return r;
		if (found != F_UNLCK)
			return -EBUSY;
	}
	return 0;
}

void blk_unlock_fd(int fd)
{
	struct flock fl = { .l_type = F_UNLCK,
			    .l_whence = SEEK_SET,
			    .l_start = LOCK_PERM_BASE,
			    .l_len = LOCK_UNSHARED_BASE - LOCK_PERM_BASE + LOCK_BITS };

	(void)fcntl(fd, F_OFD_SETLK, &fl);
}

int blk_lock_fd(int fd, bool write, const char *path, struct err *e)
{
	uint32_t use = PERM_CONSISTENT_READ | (write ? PERM_WRITE | PERM_RESIZE : 0);
	uint32_t unshared = PERM_WRITE | PERM_RESIZE;
	int r = lock_take(fd, use, LOCK_PERM_BASE);

	if (!r)
		r = lock_take(fd, unshared, LOCK_UNSHARED_BASE);
	if (!r)
		r = lock_ask(fd, use, LOCK_UNSHARED_BASE);
	if (!r)
		r = lock_ask(fd, unshared, LOCK_PERM_BASE);
	if (!r || r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS)
		return 0;
	blk_unlock_fd(fd);
	if (r == -EBUSY || r == -EAGAIN || r == -EACCES)
		return err_set(e, -EBUSY, "%s is in use by another program", path);
	errno = -r;
	return err_errno(e, "lock %s", path);
}
