/* SPDX-License-Identifier: MIT */
/* machine_int.h - the machine process's state, shared by machine.c and machine_parts.c only. */
#ifndef HV_VMM_MACHINE_INT_H
#define HV_VMM_MACHINE_INT_H

#include "console.h"
#include "hv/loop.h"
#include "kernel_fetch.h"
#include "machine.h"
#include "vm.h"

struct qmp;

struct machine {
	struct machine_args *args;
	const struct config *cfg;
	struct loop *loop;
	struct console console;
	struct qmp *qmp;
	struct blk *disk[VM_DISKS_MAX];
	struct vm_parts parts;
	struct vm vm;
	bool vm_exists;
	bool announced;		/* LINK_RUNNING was sent */
	int exit_status;
	bool ending;		/* @exit_status is settled */
	bool stopping;		/* the power button was pressed for the user, the timer runs */
	struct kernel_fetch fetch;
	uint32_t order;		/* the launcher's, while the kernel was fetched: LINK_STOP, LINK_KILL */
	const char *paused_why;	/* RunState while paused; NULL: running */
	struct loop_source link, events;
	struct loop_timer stop_timer;
	int event_fd;
	pthread_mutex_t event_lock;
	uint32_t pending;	/* bit per enum vm_event */
	char event_text[160];
};

/** machine_disks - open the images and make the seed; what is open is closed by close_disks. */
int machine_disks(struct machine *m, struct err *e);
/** machine_close_disks - write back and close; MACHINE_EXIT_FAILED if a write-back failed. */
int machine_close_disks(struct machine *m);
/** machine_nets - make the TAPs that the launcher opened ready for virtio-net. */
int machine_nets(struct machine *m, struct err *e);

#endif
