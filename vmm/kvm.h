/* SPDX-License-Identifier: MIT */
/*
 * kvm.h - every KVM ioctl wrapped once.
 *
 * struct kvm is the system handle plus one VM. The main thread creates and destroys;
 * kvm_irq_backend may be called from any thread (irq.c holds its mutex around it).
 */
#ifndef HV_VMM_KVM_H
#define HV_VMM_KVM_H

#include "hv/base.h"
#include "hv/err.h"
#include "irq.h"

#define KVM_CPUID_ENTRIES_MAX 512	/* room in a table of kvm_supported_cpuid() */

struct gmem;
struct kvm_cpuid2;

struct kvm {
	int sys_fd;		/* /dev/kvm, borrowed from the machine */
	int vm_fd;		/* owned; -1 before kvm_create_vm() */
	size_t run_bytes;	/* size of a vCPU's shared kvm_run mapping */
	unsigned vcpus_max;	/* the host's limit */
	unsigned slots_used;
	bool tsc_deadline;	/* KVM_CAP_TSC_DEADLINE_TIMER: CPUID does not tell */
	bool x2apic_ids;	/* KVM_CAP_X2APIC_API: APIC IDs past 254 */
};

/** kvm_attach - check the API version and the extensions vmm needs. @sys_fd stays the caller's. */
int kvm_attach(struct kvm *k, int sys_fd, struct err *e);
/** kvm_create_vm - a VM with nothing in it yet. Bound to this process. */
int kvm_create_vm(struct kvm *k, struct err *e);
/**
 * kvm_create_irqchip - PIC, I/O APIC and local APICs in the kernel; before the first vCPU
 *
 * After kvm_map_memory(): both wait for readers of the VM's tables, and a memory slot that
 * comes second waits up to 10 ms.
 */
int kvm_create_irqchip(struct kvm *k, struct err *e);
/** kvm_destroy_vm - close the VM; all vCPU descriptors are closed before. */
void kvm_destroy_vm(struct kvm *k);
/** kvm_map_memory - make every region of @m guest RAM. */
int kvm_map_memory(struct kvm *k, const struct gmem *m, struct err *e);
/** kvm_supported_cpuid - the host's table, malloc'd, caller frees. */
int kvm_supported_cpuid(const struct kvm *k, struct kvm_cpuid2 **out, struct err *e);
/** kvm_create_vcpu - descriptor of vCPU @id (APIC ID); caller closes. */
int kvm_create_vcpu(const struct kvm *k, unsigned id, int *out, struct err *e);
/**
 * kvm_missing_optional - names of the extensions that vmm can use but does without
 *
 * Return: how many; @buf holds their names, each with a space in front.
 */
unsigned kvm_missing_optional(const struct kvm *k, char *buf, size_t len);
/** kvm_open_hint - the usual cure for the errno with which opening /dev/kvm failed. */
const char *kvm_open_hint(int code);

/** kvm_irq_backend - irq.h's backend over a struct kvm as @ctx. */
extern const struct irq_backend kvm_irq_backend;

#endif
