/* SPDX-License-Identifier: MIT */
/* launcher_int.h - the launcher's state, shared by launcher.c and launcher_open.c only. */
#ifndef HV_VMM_LAUNCHER_INT_H
#define HV_VMM_LAUNCHER_INT_H

#include "hv/loop.h"
#include "machine.h"
#include "terminal.h"
#include "unpack_job.h"

struct launcher {
	struct config cfg;
	struct machine_args args;
	struct stat disk_stat[CONFIG_DISKS_MAX];
	struct blk_gate gate;
	struct loop *loop;
	struct loop_source link_src;
	int link_fd;
	int console_in, console_out;	/* our ends; -1: the console is not on this terminal */
	struct pump in, out;
	struct unpack_job unpack;
	pid_t machine;
	int status;
	bool running;
	bool killed;		/* by us: no error of its own */
	struct loop_timer kill_timer;
};

/** launcher_open_all - everything the options name; what was opened is closed by close_args. */
int launcher_open_all(struct launcher *l, struct err *e);
/** launcher_open_disk - disk @i into args.disk_fd, with its locks if @lock. */
int launcher_open_disk(struct launcher *l, unsigned i, bool lock, struct err *e);
/** launcher_close_args - what only the machine needs; lets it see the end of its sockets. */
void launcher_close_args(struct launcher *l);

#endif
