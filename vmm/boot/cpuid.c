/* SPDX-License-Identifier: MIT */
/*
 * CPUID topology. Intel SDM vol. 2A "CPUID"; AMD APM vol. 3, appendix E. One package of
 * N cores, one thread each; APIC ID = vCPU index, so IDs are contiguous from 0.
 */
#include "cpuid.h"

#include <linux/kvm.h>

#define LEAF1_ECX_X2APIC BIT32(21)
#define LEAF1_ECX_TSC_DEADLINE BIT32(24)
#define LEAF1_ECX_HYPERVISOR BIT32(31)
#define LEAF1_EDX_MTRR BIT32(12)
#define LEAF1_EDX_HTT BIT32(28)
#define LEAF_TOPOLOGY 0xb
#define LEAF_TOPOLOGY_V2 0x1f
#define TOPO_LEVEL_SMT 1
#define TOPO_LEVEL_CORE 2
#define AMD_ECX_CMP_LEGACY BIT32(1)

/* Bits that hold the values 0..n-1. */
static unsigned cpuid_width(unsigned n)
{
	return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

static void cpuid_leaf1(struct kvm_cpuid_entry2 *l, unsigned id, unsigned cpus, bool tsc_deadline)
{
	unsigned logical = MIN(1u << cpuid_width(cpus), 255u);

	l->ebx = (l->ebx & 0xffff) | logical << 16 | (id & 0xff) << 24;
	l->ecx |= LEAF1_ECX_X2APIC | LEAF1_ECX_HYPERVISOR;
	if (tsc_deadline)
		l->ecx |= LEAF1_ECX_TSC_DEADLINE;
	l->edx = cpus > 1 ? l->edx | LEAF1_EDX_HTT : l->edx & ~LEAF1_EDX_HTT;
}

/* Leaf 0xb: sub-leaf 0 is SMT (one thread), 1 is core, 2 the empty level that ends it. */
static struct kvm_cpuid_entry2 cpuid_topology(unsigned level, unsigned id, unsigned cpus)
{
	struct kvm_cpuid_entry2 l = { .function = LEAF_TOPOLOGY,
				      .index = level,
				      .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
				      .ecx = level,
				      .edx = id };

	if (level == 0) {
		l.ebx = 1;
		l.ecx |= TOPO_LEVEL_SMT << 8;
	} else if (level == 1) {
		l.eax = cpuid_width(cpus);
		l.ebx = cpus;
		l.ecx |= TOPO_LEVEL_CORE << 8;
	}
	return l;
}

/* Only where the host's table reaches that far; leaf 0x1f, which could disagree, goes. */
static void cpuid_rebuild_topology(struct kvm_cpuid2 *c, size_t room, unsigned id, unsigned cpus)
{
	uint32_t kept = 0, max_leaf = 0;

	for (uint32_t i = 0; i < c->nent; i++) {
		uint32_t leaf = c->entries[i].function;

		if (leaf == 0)
			max_leaf = c->entries[i].eax;
		if (leaf != LEAF_TOPOLOGY && leaf != LEAF_TOPOLOGY_V2)
			c->entries[kept++] = c->entries[i];
	}
	c->nent = kept;
	for (unsigned level = 0; max_leaf >= LEAF_TOPOLOGY && level < 3 && c->nent < room; level++)
		c->entries[c->nent++] = cpuid_topology(level, id, cpus);
}

/* Leaf 4: each cache level's sharing, and cores per package (both "minus one"). */
static void cpuid_cache(struct kvm_cpuid_entry2 *l, unsigned cpus)
{
	unsigned level = l->eax >> 5 & 7;
	unsigned ids = 1u << cpuid_width(cpus);
	unsigned shared = level >= 3 ? ids - 1 : 0;

	if (!(l->eax & 0x1f))
		return;
	l->eax = (l->eax & 0x3fff) | MIN(shared, 0xfffu) << 14 | MIN(ids - 1, 0x3fu) << 26;
}

static void cpuid_amd_cores(struct kvm_cpuid_entry2 *l, unsigned cpus)
{
	l->ecx = MIN(cpus - 1, 0xffu) | cpuid_width(cpus) << 12;
}

/* AMD's per-level sharing: leaf 0x8000001d, like leaf 4 without the package field. */
static void cpuid_amd_cache(struct kvm_cpuid_entry2 *l, unsigned cpus)
{
	unsigned level = l->eax >> 5 & 7;

	if (l->eax & 0x1f)
		l->eax = (l->eax & 0x3fff) | (level >= 3 ? MIN(cpus - 1, 0xfffu) : 0) << 14;
}

static void cpuid_amd_ids(struct kvm_cpuid_entry2 *l, unsigned id)
{
	l->eax = id;
	l->ebx = id & 0xff;	/* core ID, one thread a core */
	l->ecx = 0;		/* node 0 of one */
}

static void cpuid_entry(struct kvm_cpuid_entry2 *l, unsigned id, unsigned cpus, bool tsc_deadline)
{
	switch (l->function) {
	case 0x1: cpuid_leaf1(l, id, cpus, tsc_deadline); break;
	case 0x4: cpuid_cache(l, cpus); break;
	case 0x80000001:
		l->ecx = cpus > 1 ? l->ecx | AMD_ECX_CMP_LEGACY : l->ecx & ~AMD_ECX_CMP_LEGACY;
		break;
	case 0x80000008: cpuid_amd_cores(l, cpus); break;
	case 0x8000001d: cpuid_amd_cache(l, cpus); break;
	case 0x8000001e: cpuid_amd_ids(l, id); break;
	}
}

void cpuid_for_vcpu(struct kvm_cpuid2 *c, size_t room, unsigned id, unsigned cpus,
		    bool tsc_deadline)
{
	cpuid_rebuild_topology(c, room, id, cpus);
	for (uint32_t i = 0; i < c->nent; i++)
		cpuid_entry(&c->entries[i], id, cpus, tsc_deadline);
}

bool cpuid_has_mtrr(const struct kvm_cpuid2 *c)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == 1)
			return c->entries[i].edx & LEAF1_EDX_MTRR;
	return false;
}
