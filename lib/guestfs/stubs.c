/* SPDX-License-Identifier: MIT */
#include "ext4_priv.h"
#include <errno.h>
#include <stdlib.h>
static int no_open(struct gfs_fs *fs, struct err *e)
{
	return err_set(e, -ENOTSUP, "not read yet");
}
const struct gfs_ops gfs_fat_ops = { .open = no_open }, gfs_xfs_ops = { .open = no_open };
#include "boot_priv.h"
int bootcfg_extlinux(struct boot_scan *s, struct gfs_fs *fs)
{
	return 0;
}
int bootcfg_uki(struct boot_scan *s, struct gfs_fs *fs)
{
	return 0;
}
