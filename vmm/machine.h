/* SPDX-License-Identifier: MIT */
/*
 * machine.h - the machine process: everything that touches an image, a kernel or a guest.
 *
 * It is given descriptors, never paths. Its main thread owns the VM: it parses, builds,
 * runs the control loop, and builds again when the guest reboots.
 */
#ifndef HV_VMM_MACHINE_H
#define HV_VMM_MACHINE_H

#include "config.h"
#include "rundir.h"

enum machine_exit {
	MACHINE_EXIT_OK = 0,	  /* powered off, stopped, or reset under --no-reboot */
	MACHINE_EXIT_FAILED = 1,
	MACHINE_EXIT_USAGE = 2,
	MACHINE_EXIT_CRASHED = 3,
	MACHINE_EXIT_KILLED = 4,
};

/* All descriptors are the machine's from the fork on; -1: not there. */
struct machine_args {
	const struct config *cfg;
	int link_fd;
	int kvm_fd, urandom_fd;
	int disk_fd[CONFIG_DISKS_MAX];
	int scratch_fd[CONFIG_DISKS_MAX];	/* --ephemeral: where writes go */
	int tap_fd[CONFIG_NETS_MAX][CONFIG_NET_QUEUES_MAX];
	int kernel_fd, initrd_fd[CONFIG_INITRDS_MAX];
	int ssh_key_fd, user_data_fd, seed_fd;
	int console_in_fd, console_out_fd, console_listen_fd;
	int console_dir_fd;	/* of the directory that --console unix=PATH lies in */
	int console_pty_fd;	/* the user's end of the pty, held so that it never hangs up */
	int qmp_listen_fd;
	struct rundir rundir;
	uint64_t started_ns;	/* CLOCK_MONOTONIC at exec of the launcher */
};

/** machine_unlink_console - remove the socket of --console unix=PATH. Whoever ends last. */
void machine_unlink_console(const struct machine_args *a);
/** machine_run - the whole life of the machine process; returns its exit status. */
int machine_run(struct machine_args *a);
/** machine_boot_entries - `vmm boot-entries`: list what @a's first disk boots, and leave. */
int machine_boot_entries(struct machine_args *a, bool json);

#endif
