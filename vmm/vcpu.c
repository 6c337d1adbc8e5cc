/* SPDX-License-Identifier: MIT */
/*
 * The run loop and its exit table. The kick protocol: whoever wants the thread out of
 * KVM_RUN stores @stop or @pause, sets run->immediate_exit and sends SIGUSR1; the handler
 * does nothing, so there is no window in which a kick is lost.
 */
#include "vcpu.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/cpuid.h"
#include "hv/fd.h"
#include "layout.h"

#define VCPU_KICK_SIGNAL SIGUSR1

#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING BIT64(0)
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE_WRITE_BACK (BIT64(11) | 6)

#define CR0_PE BIT64(0)
#define CR0_MP BIT64(1)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5)
#define CR0_PG BIT64(31)
#define CR4_PAE BIT64(5)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)

static void vcpu_on_kick(int signo)
{
	(void)signo;
}

int vcpu_signals_init(void)
{
	struct sigaction sa = { .sa_handler = vcpu_on_kick };

	return sigaction(VCPU_KICK_SIGNAL, &sa, NULL) < 0 ? -errno : 0;
}

static int vcpu_set_cpuid(struct vcpu *v, unsigned cpus, bool *mtrr, struct err *e)
{
	CLEANUP_FREE struct kvm_cpuid2 *c = NULL;
	int r = kvm_supported_cpuid(v->env->kvm, &c, e);

	if (r)
		return r;
	cpuid_for_vcpu(c, KVM_CPUID_ENTRIES_MAX, v->id, cpus,
		       v->env->kvm->tsc_deadline);
	*mtrr = cpuid_has_mtrr(c);
	if (ioctl(v->fd, KVM_SET_CPUID2, c) < 0)
		return err_errno(e, "vCPU %u: KVM_SET_CPUID2", v->id);
	return 0;
}

/* A host may refuse an MSR; the guest then sees the architectural reset value. */
static void vcpu_set_msr(struct vcpu *v, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	if (ioctl(v->fd, KVM_SET_MSRS, &m) != 1)
		log_debug(v->env->log, "vCPU %u: MSR 0x%x refused by KVM", v->id, index);
}

int vcpu_init(struct vcpu *v, const struct vcpu_env *env, unsigned id, unsigned cpus,
	      struct err *e)
{
	bool mtrr = false;
	int r;

	*v = (struct vcpu){ .env = env, .id = id, .fd = -1, .run = MAP_FAILED };
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->cond, NULL);
	r = kvm_create_vcpu(env->kvm, id, &v->fd, e);
	if (r)
		goto out;
	v->run = mmap(NULL, env->kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		r = err_errno(e, "vCPU %u: mapping its run structure", id);
		goto out;
	}
	r = vcpu_set_cpuid(v, cpus, &mtrr, e);
	if (r)
		goto out;
	vcpu_set_msr(v, MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING);
	if (mtrr)
		vcpu_set_msr(v, MSR_MTRR_DEF_TYPE, MTRR_ENABLE_WRITE_BACK);
	return 0;
out:
	vcpu_fini(v);
	return r;
}

static struct kvm_segment vcpu_flat_segment(bool code, bool long_mode)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff,
		.selector = code ? 0x8 : 0x10,
		.type = code ? 0xb : 0x3,	/* accessed; execute/read or read/write */
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code && long_mode,
		.db = !(code && long_mode),
	};
}

static void vcpu_entry_sregs(struct kvm_sregs *s, const struct vcpu_entry *at)
{
	bool long_mode = at->mode == VCPU_ENTRY_LONG64;

	s->cs = vcpu_flat_segment(true, long_mode);
	s->ds = s->es = s->fs = s->gs = s->ss = vcpu_flat_segment(false, long_mode);
	s->tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1, .selector = 0x18 };
	s->gdt = (struct kvm_dtable){ .base = LAYOUT_GDT, .limit = 4 * 8 - 1 };
	s->idt = (struct kvm_dtable){ 0 };
	s->cr0 = CR0_PE | CR0_ET;
	s->cr4 = 0;
	s->efer = 0;
	if (long_mode) {
		s->cr0 |= CR0_PG | CR0_NE | CR0_MP;
		s->cr3 = at->cr3;
		s->cr4 = CR4_PAE;
		s->efer = EFER_LME | EFER_LMA;
	}
}

int vcpu_set_entry(struct vcpu *v, const struct vcpu_entry *at, struct err *e)
{
	struct kvm_regs regs = { .rflags = 2, .rip = at->rip, .rbx = at->rbx, .rsi = at->rsi };
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return err_errno(e, "vCPU %u: KVM_GET_SREGS", v->id);
	vcpu_entry_sregs(&s, at);
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
		return err_errno(e, "vCPU %u: KVM_SET_SREGS", v->id);
	if (ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
		return err_errno(e, "vCPU %u: KVM_SET_REGS", v->id);
	return 0;
}

static void vcpu_exit_io(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(v->env->pio, run->io.port, data, run->io.size);
		else
			bus_read(v->env->pio, run->io.port, data, run->io.size);
	}
}

static void vcpu_exit_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	if (run->mmio.is_write)
		bus_write(v->env->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		bus_read(v->env->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void vcpu_event(struct vcpu *v, enum vcpu_event ev, const char *text)
{
	atomic_store(&v->pause, true);	/* this vCPU has nothing to run any more */
	v->env->event(v->env->event_ctx, ev, text);
}

static void vcpu_fail(struct vcpu *v, const char *what, uint64_t detail)
{
	struct kvm_regs regs = { 0 };
	char text[160];

	ioctl(v->fd, KVM_GET_REGS, &regs);
	snprintf(text, sizeof(text), "vCPU %u: %s (0x%" PRIx64 ") at rip 0x%" PRIx64, v->id, what,
		 detail, (uint64_t)regs.rip);
	vcpu_event(v, VCPU_EVENT_ERROR, text);
}

static void vcpu_exit_system(struct vcpu *v)
{
	switch (v->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN: vcpu_event(v, VCPU_EVENT_SHUTDOWN, NULL); return;
	case KVM_SYSTEM_EVENT_RESET: vcpu_event(v, VCPU_EVENT_RESET, NULL); return;
	}
	vcpu_fail(v, "system event", v->run->system_event.type);
}

static void vcpu_dispatch(struct vcpu *v)
{
	const struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO: vcpu_exit_io(v); return;
	case KVM_EXIT_MMIO: vcpu_exit_mmio(v); return;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN: return;
	case KVM_EXIT_HLT: return;	/* only without in-kernel irqchip */
	case KVM_EXIT_SHUTDOWN: vcpu_event(v, VCPU_EVENT_RESET, NULL); return;
	case KVM_EXIT_SYSTEM_EVENT: vcpu_exit_system(v); return;
	case KVM_EXIT_FAIL_ENTRY:
		vcpu_fail(v, "KVM could not enter the guest",
			  run->fail_entry.hardware_entry_failure_reason);
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		vcpu_fail(v, "KVM internal error", run->internal.suberror);
		return;
	}
	vcpu_fail(v, "unknown KVM exit", run->exit_reason);
}

/* Park until resumed or stopped. The kick may have hit anywhere before. */
static void vcpu_park(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->parked = true;
	pthread_cond_broadcast(&v->cond);
	while (atomic_load(&v->pause) && !atomic_load(&v->stop))
		pthread_cond_wait(&v->cond, &v->lock);
	v->parked = false;
	pthread_mutex_unlock(&v->lock);
}

/* An exit whose completion (the value read) is still to be taken in by KVM: run with
 * immediate_exit once, so that registers are whole before anyone looks at them. */
static void vcpu_complete_exit(struct vcpu *v)
{
	v->run->immediate_exit = 1;
	ioctl(v->fd, KVM_RUN, 0);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->id);
	pthread_setname_np(pthread_self(), name);
	while (!atomic_load(&v->stop)) {
		if (atomic_load(&v->pause)) {
			vcpu_complete_exit(v);
			vcpu_park(v);
			continue;
		}
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (atomic_load(&v->stop) || atomic_load(&v->pause))
			continue;	/* a kick came before the store above */
		if (ioctl(v->fd, KVM_RUN, 0) < 0) {
			if (errno != EINTR && errno != EAGAIN)
				vcpu_fail(v, "KVM_RUN failed", (uint64_t)errno);
			continue;
		}
		atomic_fetch_add_explicit(&v->exits, 1, memory_order_relaxed);
		vcpu_dispatch(v);
	}
	return NULL;
}

int vcpu_start(struct vcpu *v, struct err *e)
{
	sigset_t all, old;
	int r;

	/* The thread takes no signal but the kick: the main thread has the rest by signalfd. */
	sigfillset(&all);
	sigdelset(&all, VCPU_KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&v->thread, NULL, vcpu_thread, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_set(e, -r, "starting the thread of vCPU %u: %s", v->id, strerror(r));
	v->started = true;
	return 0;
}

static void vcpu_kick(struct vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (v->started)
		pthread_kill(v->thread, VCPU_KICK_SIGNAL);
}

void vcpu_pause(struct vcpu *v)
{
	if (!v->started)
		return;
	atomic_store(&v->pause, true);
	vcpu_kick(v);
	pthread_mutex_lock(&v->lock);
	while (!v->parked)
		pthread_cond_wait(&v->cond, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void vcpu_resume(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	atomic_store(&v->pause, false);
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
}

void vcpu_request_stop(struct vcpu *v)
{
	if (v->run == MAP_FAILED)
		return;
	pthread_mutex_lock(&v->lock);
	atomic_store(&v->stop, true);
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	vcpu_kick(v);
}

void vcpu_fini(struct vcpu *v)
{
	if (v->started) {
		vcpu_request_stop(v);
		pthread_join(v->thread, NULL);
		v->started = false;
	}
	if (v->run && v->run != MAP_FAILED)
		munmap(v->run, v->env->kvm->run_bytes);
	v->run = MAP_FAILED;
	fd_close(&v->fd);
	pthread_cond_destroy(&v->cond);
	pthread_mutex_destroy(&v->lock);
}
