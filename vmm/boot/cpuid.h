/* SPDX-License-Identifier: MIT */
/* cpuid.h - the CPUID table a guest sees: the host's, with this VM's topology. */
#ifndef HV_VMM_BOOT_CPUID_H
#define HV_VMM_BOOT_CPUID_H

#include "hv/base.h"

struct kvm_cpuid2;

/**
 * cpuid_for_vcpu - turn the host's supported table into vCPU @id's, in place
 * @c:            the host's table
 * @room:         entries @c has memory for: the topology leaf is rebuilt with its sub-leaves,
 *                which newer KVMs leave out
 * @id:           APIC ID, 0-based
 * @cpus:         vCPUs of the VM: one package of @cpus cores without SMT
 * @tsc_deadline: KVM offers the TSC-deadline timer (an extension, not in the table)
 */
void cpuid_for_vcpu(struct kvm_cpuid2 *c, size_t room, unsigned id, unsigned cpus,
		    bool tsc_deadline);
/** cpuid_has_mtrr - leaf 1 EDX bit 12 of @c. */
bool cpuid_has_mtrr(const struct kvm_cpuid2 *c);

#endif
