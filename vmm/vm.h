/* SPDX-License-Identifier: MIT */
/*
 * vm.h - one VM from build to teardown: memory, buses, devices, vCPUs.
 *
 * A guest's reboot ends one struct vm and builds the next from the same vm_parts, which
 * belong to the machine process and outlive both. Main thread throughout; what the guest
 * does that concerns the whole VM arrives through vm_parts.event on a vCPU thread.
 */
#ifndef HV_VMM_VM_H
#define HV_VMM_VM_H

#include "boot/kernel.h"
#include "bus.h"
#include "config.h"
#include "dev/acpi_pm.h"
#include "dev/ged.h"
#include "dev/i8042.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "dev/serial.h"
#include "gmem.h"
#include "irq.h"
#include "kvm.h"
#include "pci/pci.h"
#include "vcpu.h"
#include "virtio/device.h"

#define VM_DISKS_MAX (CONFIG_DISKS_MAX + 1)	/* and the NoCloud seed */
#define VM_IOTHREADS_MAX 64

enum vm_event {
	VM_EVENT_POWEROFF,
	VM_EVENT_RESET,
	VM_EVENT_PANIC,	/* the guest told so, through pvpanic */
	VM_EVENT_ERROR,	/* KVM gave up on the guest */
};

struct vm_disk {
	struct blk *blk;
	unsigned queues;
	const char *serial;
	bool discard;
	bool writethrough;
};
struct vm_net {
	int fds[CONFIG_NET_QUEUES_MAX];
	unsigned queues;
	unsigned offloads;
	uint8_t mac[6];
	uint16_t mtu;
};

/* What a VM is made of. Owned by the machine process; constant while a VM exists. */
struct vm_parts {
	const struct config *cfg;
	int kvm_fd;
	int urandom_fd;
	int console_in_fd, console_out_fd;	/* of virtio-console; -1 for none */
	struct vm_disk disk[VM_DISKS_MAX];
	unsigned n_disks;
	struct vm_net net[CONFIG_NETS_MAX];
	unsigned n_nets;
	struct serial_sink serial;
	struct log_ctx log;
	/* vCPU thread; must not block. @text only with VM_EVENT_ERROR, valid during the call. */
	void (*event)(void *ctx, enum vm_event ev, const char *text);
	void *event_ctx;
};

struct vm {
	struct vm_parts *parts;
	struct kvm kvm;
	struct gmem mem;
	struct bus pio, mmio;
	struct irq irq;
	struct pci_bus pci;
	struct guest_event_sink sink;
	struct serial serial;
	struct rtc rtc;
	struct i8042 i8042;
	struct pvpanic pvpanic;
	struct ged ged;
	struct acpi_pm acpi_pm;
	struct iothread *iothread[VM_IOTHREADS_MAX];
	unsigned n_iothreads;
	struct vcpu_env env;
	struct vcpu *vcpu;
	unsigned n_vcpus;
	unsigned built;		/* steps of vm_build() done, for the teardown */
	bool paused;
};

/** vm_build - everything but virtio devices and what the guest boots; its memory is empty. */
int vm_build(struct vm *vm, struct vm_parts *parts, struct err *e);
/** vm_load - ACPI, SMBIOS, what @what names (its @mem is ours), the boot vCPU's registers. */
int vm_load(struct vm *vm, const struct kernel_load *what, struct err *e);
/**
 * vm_attach - the virtio devices and their I/O threads
 *
 * After vm_load(): until now the disks may be read by their synchronous calls (boot
 * discovery, the kernel), from now on they belong to the queues.
 */
int vm_attach(struct vm *vm, struct err *e);
/** vm_start - run all vCPUs. */
int vm_start(struct vm *vm, struct err *e);
/** vm_pause/vm_resume - park the vCPUs and back; I/O in flight completes. Idempotent. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
/** vm_power_button - ACPI power button; the guest decides what to do. */
void vm_power_button(struct vm *vm);
/** vm_fini - stop and join all threads, flush nothing, release everything. Idempotent. */
void vm_fini(struct vm *vm);

#endif
