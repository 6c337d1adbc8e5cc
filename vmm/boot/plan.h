/* SPDX-License-Identifier: MIT */
/*
 * plan.h - what will be booted: kernel, initrds and command line, from files or from disks.
 *
 * Main thread of the machine process; made anew for every start of the guest, because the
 * guest may have upgraded its kernel since.
 */
#ifndef HV_VMM_BOOT_PLAN_H
#define HV_VMM_BOOT_PLAN_H

#include "hv/err.h"
#include "hv/guestfs.h"
#include "kernel.h"

struct blk;

struct boot_plan {
	struct boot_source kernel;
	struct boot_source initrd[KERNEL_INITRDS_MAX];
	size_t n_initrd;
	char *cmdline;
	char *title;		/* for --verbose */
	/* What the sources read from. */
	struct gfs *gfs;
	struct boot_list entries;
	struct gfs_file *file[KERNEL_INITRDS_MAX + 1];
	size_t n_files;
	int fd[KERNEL_INITRDS_MAX + 1];
};

struct boot_plan_args {
	const char *append;	/* NULL for none */
	const char *extra;	/* vmm's own arguments (ds=nocloud); NULL for none */
	const char *entry;	/* --boot-entry; NULL for the default */
};

/** boot_plan_files - --kernel and --initrd; descriptors and names are borrowed. */
int boot_plan_files(struct boot_plan *p, int kernel_fd, const char *kernel_name,
		    const int *initrd_fd, const char *const *initrd_name, size_t n_initrd,
		    const struct boot_plan_args *args, struct err *e);
/**
 * boot_plan_disks - find the boot entries in @disks and take the chosen one
 * @disks: no queue is open on them until boot_plan_fini()
 */
int boot_plan_disks(struct boot_plan *p, struct blk **disks, size_t n,
		    const struct boot_plan_args *args, struct err *e);
/** boot_plan_fini - release; safe on a zeroed plan. */
void boot_plan_fini(struct boot_plan *p);

#endif
