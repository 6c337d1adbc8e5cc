/* SPDX-License-Identifier: MIT */
/*
 * vcpu.h - one vCPU: its thread, its registers at entry, its run loop.
 *
 * The thread does KVM_RUN and register access only. It never exits the process: what
 * ends a VM is reported through vcpu_env.event, and the main thread acts. Kicked out of
 * KVM_RUN by SIGUSR1 plus immediate_exit.
 */
#ifndef HV_VMM_VCPU_H
#define HV_VMM_VCPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "bus.h"
#include "hv/log.h"
#include "kvm.h"

struct kvm_run;

/* How the first vCPU enters the guest. */
enum vcpu_entry_mode {
	VCPU_ENTRY_PROT32,	/* flat 32-bit protected mode, paging off: PVH */
	VCPU_ENTRY_LONG64,	/* long mode on identity page tables: bzImage 64-bit entry */
};
struct vcpu_entry {
	enum vcpu_entry_mode mode;
	uint64_t rip;
	uint64_t rbx;	/* PVH: GPA of hvm_start_info */
	uint64_t rsi;	/* bzImage: GPA of boot_params */
	uint64_t cr3;	/* LONG64: GPA of the PML4 */
};

enum vcpu_event {
	VCPU_EVENT_RESET,	/* triple fault, or KVM's reset event */
	VCPU_EVENT_SHUTDOWN,	/* KVM's shutdown event */
	VCPU_EVENT_ERROR,	/* KVM cannot go on with this guest; @text says why */
};

/* What vCPU threads share; lives as long as they do. */
struct vcpu_env {
	struct kvm *kvm;
	struct bus *pio, *mmio;
	struct log_ctx *log;
	/* Called on a vCPU thread; must not block. */
	void (*event)(void *ctx, enum vcpu_event ev, const char *text);
	void *event_ctx;
};

struct vcpu {
	const struct vcpu_env *env;
	unsigned id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	_Atomic bool stop;	/* leave the loop */
	_Atomic bool pause;	/* park in the loop */
	_Atomic uint64_t exits;
	pthread_mutex_t lock;	/* guards @parked, with @cond */
	pthread_cond_t cond;
	bool parked;
};

/** vcpu_init - create in KVM, set CPUID and MSRs. @cpus is the VM's total. Main thread. */
int vcpu_init(struct vcpu *v, const struct vcpu_env *env, unsigned id, unsigned cpus,
	      struct err *e);
/** vcpu_set_entry - registers of the boot vCPU; others wait for INIT/SIPI. */
int vcpu_set_entry(struct vcpu *v, const struct vcpu_entry *at, struct err *e);
/** vcpu_start - make the thread and let it run. */
int vcpu_start(struct vcpu *v, struct err *e);
/** vcpu_pause/vcpu_resume - park outside KVM_RUN and back; pause returns once parked. */
void vcpu_pause(struct vcpu *v);
void vcpu_resume(struct vcpu *v);
/** vcpu_request_stop - ask the thread to end; does not wait. Any thread but the vCPU's. */
void vcpu_request_stop(struct vcpu *v);
/** vcpu_fini - stop and join the thread, release everything. Idempotent. */
void vcpu_fini(struct vcpu *v);
/** vcpu_signals_init - install the kick handler; once per process, before vcpu_start(). */
int vcpu_signals_init(void);

#endif
