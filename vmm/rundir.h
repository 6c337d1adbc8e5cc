/* SPDX-License-Identifier: MIT */
/*
 * rundir.h - RUNTIME/NAME, the one directory a running VM has.
 *
 *   lock       held (flock, exclusive) as long as launcher or machine process lives: tells
 *              the living from the left-behind, without trusting pids; visitors ask for it
 *              shared, and exclusively only to remove what was left behind
 *   info       JSON: pid, cpus, memory, started, disks by device and inode
 *   log        messages of a detached VM
 *   qmp.sock   control; console.sock: the console of a detached VM
 */
#ifndef HV_VMM_RUNDIR_H
#define HV_VMM_RUNDIR_H

#include <sys/stat.h>

#include "hv/base.h"
#include "hv/err.h"

struct config;

#define RUNDIR_PATH_MAX 256	/* so that socket names fit sockaddr_un with room to spare */

struct rundir {
	char path[RUNDIR_PATH_MAX];
	int dir_fd;	/* of RUNTIME/NAME, -1: none */
	int parent_fd;	/* of RUNTIME */
	int lock_fd;
	char name[80];
};

/** rundir_base - RUNTIME: /run/vmm for root, else $XDG_RUNTIME_DIR/vmm. */
int rundir_base(char path[RUNDIR_PATH_MAX], struct err *e);
/**
 * rundir_claim - make RUNTIME/NAME, or take over one that a killed VM left behind
 * @wanted: the exact name, or NULL: @fallback, with a number behind it if taken
 *
 * Return: 0 with the lock held; -EEXIST if a living VM has @wanted.
 */
int rundir_claim(struct rundir *d, const char *wanted, const char *fallback, struct err *e);
/** rundir_write_info - the info file; @disk describes @n open images. */
int rundir_write_info(const struct rundir *d, const struct config *cfg, pid_t pid,
		      const struct stat *disk, unsigned n, struct err *e);
/** rundir_log_to - make descriptor @fd (stderr) the VM's log file; left alone on failure. */
void rundir_log_to(const struct rundir *d, int fd);
/** rundir_remove - unlink what is in it and the directory, by descriptor. */
void rundir_remove(struct rundir *d);
/** rundir_close - let go of the descriptors only (the other process goes on). */
void rundir_close(struct rundir *d);

struct rundir_vm {
	char name[80];
	pid_t pid;
	unsigned cpus;
	uint64_t memory_bytes;
	int64_t started;	/* seconds since 1970 */
};
/** rundir_each - call @fn for each living VM; left-behind directories are removed. */
int rundir_each(int (*fn)(void *ctx, const struct rundir_vm *vm), void *ctx, struct err *e);
/** rundir_find - look @name up: 0, or -ENOENT with a line in @e. */
int rundir_find(const char *name, struct rundir_vm *out, struct err *e);
/** rundir_disk_holder - the living VM that has image @st open; false if there is none. */
bool rundir_disk_holder(const struct stat *st, struct rundir_vm *out);
/** rundir_socket - path of RUNTIME/NAME/FILE for connect() and bind(). */
int rundir_socket(const char *name, const char *file, char path[RUNDIR_PATH_MAX], struct err *e);
/** rundir_listen - a listening stream socket FILE in @d, mode 0600; fd in *@out. */
int rundir_listen(const struct rundir *d, const char *file, int *out, struct err *e);

#endif
