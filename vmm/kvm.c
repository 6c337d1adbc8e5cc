/* SPDX-License-Identifier: MIT */
/* KVM's ioctls: system, VM, memory slots, routing, irqfd, ioeventfd. */
#include "kvm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "gmem.h"
#include "hv/fd.h"
#include "hv/log.h"
#include "layout.h"

const char *kvm_open_hint(int code)
{
	switch (code) {
	case -EACCES:
	case -EPERM: return "add yourself to the group kvm, then log in again";
	case -ENOENT: return "load the module kvm_intel or kvm_amd, and enable VT-x or SVM in the firmware";
	case -ENXIO:
	case -ENODEV: return "no hardware virtualization here: enable VT-x or SVM in the firmware";
	}
	return "see vmm doctor";
}

static int kvm_check(const struct kvm *k, long cap)
{
	int r = ioctl(k->vm_fd >= 0 ? k->vm_fd : k->sys_fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

struct kvm_extension {
	long cap;
	const char *name;
};

static const struct kvm_extension kvm_required[] = {
	{ KVM_CAP_IRQCHIP, "in-kernel irqchip" }, { KVM_CAP_USER_MEMORY, "user memory" },
	{ KVM_CAP_IRQFD, "irqfd" },		  { KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_IRQ_ROUTING, "irq routing" },	  { KVM_CAP_SIGNAL_MSI, "MSI" },
	{ KVM_CAP_EXT_CPUID, "CPUID" },		  { KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
};

static const struct kvm_extension kvm_optional[] = {
	{ KVM_CAP_TSC_DEADLINE_TIMER, "TSC-deadline" },
	{ KVM_CAP_X2APIC_API, "x2APIC" },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, "ioeventfd-any-length" },
};

unsigned kvm_missing_optional(const struct kvm *k, char *buf, size_t len)
{
	unsigned n = 0;

	*buf = 0;
	for (size_t i = 0; i < ARRAY_SIZE(kvm_optional); i++) {
		if (kvm_check(k, kvm_optional[i].cap))
			continue;
		snprintf(buf + strlen(buf), len - strlen(buf), " %s", kvm_optional[i].name);
		n++;
	}
	return n;
}

int kvm_attach(struct kvm *k, int sys_fd, struct err *e)
{
	int version = ioctl(sys_fd, KVM_GET_API_VERSION, 0);
	int r;

	*k = (struct kvm){ .sys_fd = sys_fd, .vm_fd = -1 };
	if (version < 0)
		return err_errno(e, "/dev/kvm: not KVM");
	if (version != KVM_API_VERSION)
		return err_set(e, -ENOTSUP, "/dev/kvm: API version %d, need %d", version,
			       KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(kvm_required); i++)
		if (!kvm_check(k, kvm_required[i].cap))
			return err_set(e, -ENOTSUP, "/dev/kvm: this host's KVM has no %s",
				       kvm_required[i].name);
	r = ioctl(sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < 0)
		return err_errno(e, "/dev/kvm: KVM_GET_VCPU_MMAP_SIZE");
	k->run_bytes = (size_t)r;
	r = kvm_check(k, KVM_CAP_MAX_VCPUS);
	k->vcpus_max = r > 0 ? (unsigned)r : 4;
	k->tsc_deadline = kvm_check(k, KVM_CAP_TSC_DEADLINE_TIMER) != 0;
	return 0;
}

/* APIC IDs past 254 in MSI messages and IPIs; optional, as only giant guests need it. */
static void kvm_enable_x2apic_ids(struct kvm *k)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X2APIC_API,
				      .args = { KVM_X2APIC_API_USE_32BIT_IDS |
						KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK } };

	k->x2apic_ids = kvm_check(k, KVM_CAP_X2APIC_API) && !ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap);
}

int kvm_create_vm(struct kvm *k, struct err *e)
{
	uint64_t identity = LAYOUT_KVM_IDENTITY;

	do
		k->vm_fd = ioctl(k->sys_fd, KVM_CREATE_VM, 0);
	while (k->vm_fd < 0 && errno == EINTR);
	if (k->vm_fd < 0)
		return err_errno(e, "/dev/kvm: KVM_CREATE_VM");
	/* Only VT-x without unrestricted guests uses these; others may refuse them. */
	if (ioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		log_debug(NULL, "KVM_SET_IDENTITY_MAP_ADDR refused");
	if (ioctl(k->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_KVM_TSS) < 0)
		log_debug(NULL, "KVM_SET_TSS_ADDR refused");
	return 0;
}

int kvm_create_irqchip(struct kvm *k, struct err *e)
{
	if (ioctl(k->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_errno(e, "/dev/kvm: KVM_CREATE_IRQCHIP");
	kvm_enable_x2apic_ids(k);
	return 0;
}

void kvm_destroy_vm(struct kvm *k)
{
	fd_close(&k->vm_fd);
	k->slots_used = 0;
}

int kvm_map_memory(struct kvm *k, const struct gmem *m, struct err *e)
{
	const struct gmem_table *t = atomic_load(&m->table);

	for (unsigned i = 0; i < t->n; i++) {
		const struct gmem_region *g = &t->region[i];
		struct kvm_userspace_memory_region slot = {
			.slot = k->slots_used,
			.guest_phys_addr = g->gpa,
			.memory_size = g->size,
			.userspace_addr = (uintptr_t)g->hva,
		};

		if (ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return err_errno(e, "giving KVM %llu MiB at 0x%llx",
					 (unsigned long long)(g->size >> 20),
					 (unsigned long long)g->gpa);
		k->slots_used++;
	}
	return 0;
}

int kvm_supported_cpuid(const struct kvm *k, struct kvm_cpuid2 **out, struct err *e)
{
	struct kvm_cpuid2 *c =
		calloc(1, sizeof(*c) + KVM_CPUID_ENTRIES_MAX * sizeof(c->entries[0]));

	if (!c)
		return err_set(e, -ENOMEM, "CPUID table");
	c->nent = KVM_CPUID_ENTRIES_MAX;
	if (ioctl(k->sys_fd, KVM_GET_SUPPORTED_CPUID, c) < 0) {
		free(c);
		return err_errno(e, "/dev/kvm: KVM_GET_SUPPORTED_CPUID");
	}
	*out = c;
	return 0;
}

int kvm_create_vcpu(const struct kvm *k, unsigned id, int *out, struct err *e)
{
	int fd = ioctl(k->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);

	if (fd < 0)
		return err_errno(e, "creating vCPU %u", id);
	*out = fd;
	return 0;
}

/* The I/O APIC's pins first, then the MSI routes: one table, set whole. */
static int kvm_set_routes(void *ctx, const struct irq_route *routes, size_t n)
{
	const struct kvm *k = ctx;
	struct kvm_irq_routing *t;
	size_t total = GSI_MSI_BASE + n;
	int r = 0;

	t = calloc(1, sizeof(*t) + total * sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	t->nr = (uint32_t)total;
	for (unsigned pin = 0; pin < GSI_MSI_BASE; pin++)
		t->entries[pin] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin },
		};
	for (size_t i = 0; i < n; i++)
		t->entries[GSI_MSI_BASE + i] = (struct kvm_irq_routing_entry){
			.gsi = routes[i].gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = (uint32_t)routes[i].addr,
				   .address_hi = (uint32_t)(routes[i].addr >> 32),
				   .data = routes[i].data },
		};
	if (ioctl(k->vm_fd, KVM_SET_GSI_ROUTING, t) < 0)
		r = -errno;
	free(t);
	return r;
}

static int kvm_irqfd(void *ctx, int fd, unsigned gsi, bool assign)
{
	const struct kvm *k = ctx;
	struct kvm_irqfd arg = { .fd = (uint32_t)fd,
				 .gsi = gsi,
				 .flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	return ioctl(k->vm_fd, KVM_IRQFD, &arg) < 0 ? -errno : 0;
}

static int kvm_ioeventfd(void *ctx, uint64_t addr, unsigned len, bool pio, int fd, bool assign)
{
	const struct kvm *k = ctx;
	struct kvm_ioeventfd arg = {
		.addr = addr,
		.len = len,
		.fd = fd,
		.flags = (pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return ioctl(k->vm_fd, KVM_IOEVENTFD, &arg) < 0 ? -errno : 0;
}

const struct irq_backend kvm_irq_backend = {
	.set_routes = kvm_set_routes,
	.irqfd = kvm_irqfd,
	.ioeventfd = kvm_ioeventfd,
};
