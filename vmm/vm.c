/* SPDX-License-Identifier: MIT */
/*
 * Building a VM is a list of steps, each with its undo; teardown runs the undos of the
 * steps that were done, in reverse. Order matters in two places: I/O threads must run
 * before the devices that they serve exist, and must be quiet before those are freed;
 * vCPUs end before anything that an exit could touch.
 */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi.h"
#include "boot/reset_vector.h"
#include "boot/smbios.h"
#include "hv/fd.h"
#include "hv/log.h"
#include "io/iothread.h"
#include "layout.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"

static void vm_on_guest_event(void *ctx, enum guest_event ev)
{
	struct vm *vm = ctx;
	static const enum vm_event map[] = { [GUEST_EVENT_POWEROFF] = VM_EVENT_POWEROFF,
					     [GUEST_EVENT_RESET] = VM_EVENT_RESET,
					     [GUEST_EVENT_PANIC] = VM_EVENT_PANIC };

	vm->parts->event(vm->parts->event_ctx, map[ev], NULL);
}

static void vm_on_vcpu_event(void *ctx, enum vcpu_event ev, const char *text)
{
	struct vm *vm = ctx;
	static const enum vm_event map[] = { [VCPU_EVENT_RESET] = VM_EVENT_RESET,
					     [VCPU_EVENT_SHUTDOWN] = VM_EVENT_POWEROFF,
					     [VCPU_EVENT_ERROR] = VM_EVENT_ERROR };

	vm->parts->event(vm->parts->event_ctx, map[ev], text);
}

/* ---- steps ------------------------------------------------------------------------------ */

static int step_kvm(struct vm *vm, struct err *e)
{
	int r = kvm_attach(&vm->kvm, vm->parts->kvm_fd, e);

	if (!r && vm->parts->cfg->cpus > vm->kvm.vcpus_max)
		r = err_set(e, -EINVAL, "--cpus %u: this host's KVM allows %u", vm->parts->cfg->cpus,
			    vm->kvm.vcpus_max);
	return r ? r : kvm_create_vm(&vm->kvm, e);
}

static void undo_kvm(struct vm *vm)
{
	kvm_destroy_vm(&vm->kvm);
}

static int step_memory(struct vm *vm, struct err *e)
{
	int r = gmem_init(&vm->mem, vm->parts->cfg->memory_bytes, vm->parts->cfg->hugepages, e);

	if (r)
		return r;
	r = kvm_map_memory(&vm->kvm, &vm->mem, e);
	if (!r)
		r = kvm_create_irqchip(&vm->kvm, e);
	if (r)
		gmem_fini(&vm->mem);
	return r;
}

static void undo_memory(struct vm *vm)
{
	gmem_fini(&vm->mem);
}

static int step_buses(struct vm *vm, struct err *e)
{
	if (bus_init(&vm->pio))
		return err_set(e, -ENOMEM, "I/O buses");
	if (bus_init(&vm->mmio)) {
		bus_fini(&vm->pio);
		return err_set(e, -ENOMEM, "I/O buses");
	}
	return 0;
}

static void undo_buses(struct vm *vm)
{
	bus_fini(&vm->mmio);
	bus_fini(&vm->pio);
}

static int step_irq(struct vm *vm, struct err *e)
{
	return irq_init(&vm->irq, &kvm_irq_backend, &vm->kvm, e);
}

static void undo_irq(struct vm *vm)
{
	irq_fini(&vm->irq);
}

static int step_serial(struct vm *vm, struct err *e)
{
	return serial_init(&vm->serial, &vm->pio, &vm->irq, &vm->parts->serial, e);
}

static void undo_serial(struct vm *vm)
{
	serial_fini(&vm->serial, &vm->irq);
}

static int step_ged(struct vm *vm, struct err *e)
{
	return ged_init(&vm->ged, &vm->pio, &vm->irq, e);
}

static void undo_ged(struct vm *vm)
{
	ged_fini(&vm->ged, &vm->irq);
}

static int step_ports(struct vm *vm, struct err *e)
{
	int r = rtc_init(&vm->rtc, &vm->pio);

	vm->sink = (struct guest_event_sink){ .fn = vm_on_guest_event, .ctx = vm };
	if (!r)
		r = i8042_init(&vm->i8042, &vm->pio, &vm->sink);
	if (!r)
		r = pvpanic_init(&vm->pvpanic, &vm->pio, &vm->sink);
	if (!r)
		r = acpi_pm_init(&vm->acpi_pm, &vm->pio, &vm->sink);
	return r ? err_set(e, r, "platform devices: %s", strerror(-r)) : 0;
}

static void undo_ports(struct vm *vm)
{
	rtc_fini(&vm->rtc);
}

static int step_pci(struct vm *vm, struct err *e)
{
	int r = pci_bus_init(&vm->pci, &vm->pio, &vm->mmio, &vm->irq, e);

	if (r)
		return r;
	r = pci_host_bridge_add(&vm->pci, e);
	if (r)
		pci_bus_fini(&vm->pci);
	return r;
}

/* Also frees every device on the bus: their queues must be quiet, their threads alive. */
static void undo_pci(struct vm *vm)
{
	pci_bus_quiesce(&vm->pci);
	pci_bus_fini(&vm->pci);
}

static int vm_iothread(struct vm *vm, const char *name, struct iothread **out, struct err *e)
{
	struct iothread_cfg cfg = { .name = name, .poll_us = IOTHREAD_POLL_US };
	int r;

	if (vm->n_iothreads == VM_IOTHREADS_MAX)
		return err_set(e, -EINVAL, "more than %d I/O threads: use fewer queues",
			       VM_IOTHREADS_MAX);
	r = iothread_new(&cfg, out, e);
	if (r)
		return r;
	r = iothread_start(*out, e);
	if (r) {
		iothread_free(*out);
		return r;
	}
	vm->iothread[vm->n_iothreads++] = *out;
	return 0;
}

/* @n threads "KIND0", "KIND1" … for one device's queues. */
static int vm_iothreads(struct vm *vm, const char *kind, unsigned device, unsigned n,
			struct iothread **out, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < n && !r; i++) {
		char name[16];

		snprintf(name, sizeof(name), n > 1 ? "%s%u.%u" : "%s%u", kind, device, i);
		r = vm_iothread(vm, name, &out[i], e);
	}
	return r;
}

static int vm_plug(struct vm *vm, struct virtio_dev *d, struct err *e)
{
	int r = virtio_pci_add(&vm->pci, d, &vm->mem, &vm->irq, e);

	if (r)
		vdev_free(d);
	return r;
}

static int vm_add_disk(struct vm *vm, unsigned i, struct err *e)
{
	const struct vm_disk *disk = &vm->parts->disk[i];
	struct iothread *threads[VM_IOTHREADS_MAX];
	struct virtio_blk_cfg cfg = { .blk = disk->blk,
				      .queues = disk->queues,
				      .threads = threads,
				      .n_threads = disk->queues,
				      .serial = disk->serial,
				      .discard = disk->discard,
				      .writethrough = disk->writethrough };
	struct virtio_dev *d;
	int r = vm_iothreads(vm, "blk", i, disk->queues, threads, e);

	if (!r)
		r = virtio_blk_new(&cfg, &d, e);
	return r ? r : vm_plug(vm, d, e);
}

static void vm_close_all(int *fds, unsigned n)
{
	while (n)
		fd_close(&fds[--n]);
}

/* A device owns its descriptors and dies with the VM; the TAP has to live through a reset. */
static int vm_dup_all(const int *from, int *to, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		to[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 0);
		if (to[i] < 0) {
			vm_close_all(to, i);
			return err_errno(e, "TAP queue");
		}
	}
	return 0;
}

static int vm_add_net(struct vm *vm, unsigned i, struct err *e)
{
	const struct vm_net *net = &vm->parts->net[i];
	struct iothread *threads[VM_IOTHREADS_MAX];
	int fds[CONFIG_NET_QUEUES_MAX];
	struct virtio_net_cfg cfg = { .tap_fds = fds,
				      .pairs = net->queues,
				      .offloads = net->offloads,
				      .mtu = net->mtu,
				      .threads = threads,
				      .n_threads = net->queues };
	struct virtio_dev *d;
	int r = vm_iothreads(vm, "net", i, net->queues, threads, e);

	memcpy(cfg.mac, net->mac, sizeof(cfg.mac));
	if (!r)
		r = vm_dup_all(net->fds, fds, net->queues, e);
	if (r)
		return r;
	r = virtio_net_new(&cfg, &d, e);
	if (r) {
		vm_close_all(fds, net->queues);
		return r;
	}
	return vm_plug(vm, d, e);
}

static int vm_add_small(struct vm *vm, struct err *e)
{
	struct virtio_rng_cfg rng = { .fd = vm->parts->urandom_fd };
	struct virtio_console_cfg con = { .in_fd = vm->parts->console_in_fd,
					  .out_fd = vm->parts->console_out_fd };
	struct virtio_dev *d;
	int r = vm_iothreads(vm, "misc", 0, 1, &rng.thread, e);

	con.thread = rng.thread;
	if (!r)
		r = virtio_rng_new(&rng, &d, e);
	if (!r)
		r = vm_plug(vm, d, e);
	if (!r)
		r = virtio_console_new(&con, &d, e);
	return r ? r : vm_plug(vm, d, e);
}

static int step_devices(struct vm *vm, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < vm->parts->n_disks && !r; i++)
		r = vm_add_disk(vm, i, e);
	for (unsigned i = 0; i < vm->parts->n_nets && !r; i++)
		r = vm_add_net(vm, i, e);
	return r ? r : vm_add_small(vm, e);
}

static void undo_iothreads(struct vm *vm)
{
	while (vm->n_iothreads)
		iothread_free(vm->iothread[--vm->n_iothreads]);
}

static int step_none(struct vm *vm, struct err *e)
{
	(void)vm;
	(void)e;
	return 0;
}

static void undo_vcpus(struct vm *vm)
{
	/* All at once, then one by one: they run down in parallel. */
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_request_stop(&vm->vcpu[i]);
	while (vm->n_vcpus)
		vcpu_fini(&vm->vcpu[--vm->n_vcpus]);
	free(vm->vcpu);
	vm->vcpu = NULL;
}

static int step_vcpus(struct vm *vm, struct err *e)
{
	unsigned cpus = vm->parts->cfg->cpus;

	vm->env = (struct vcpu_env){ .kvm = &vm->kvm,
				     .pio = &vm->pio,
				     .mmio = &vm->mmio,
				     .log = &vm->parts->log,
				     .event = vm_on_vcpu_event,
				     .event_ctx = vm };
	vm->vcpu = calloc(cpus, sizeof(*vm->vcpu));
	if (!vm->vcpu)
		return err_set(e, -ENOMEM, "vCPUs");
	for (; vm->n_vcpus < cpus; vm->n_vcpus++) {
		int r = vcpu_init(&vm->vcpu[vm->n_vcpus], &vm->env, vm->n_vcpus, cpus, e);

		if (r) {
			undo_vcpus(vm);
			return r;
		}
	}
	return 0;
}

/* I/O threads are made by step_devices as it goes; they end after the PCI bus is gone. */
static const struct {
	int (*step)(struct vm *vm, struct err *e);
	void (*undo)(struct vm *vm);
} vm_steps[] = {
	{ step_kvm, undo_kvm },	    { step_memory, undo_memory },  { step_buses, undo_buses },
	{ step_irq, undo_irq },	    { step_serial, undo_serial },  { step_ged, undo_ged },
	{ step_ports, undo_ports }, { step_none, undo_iothreads }, { step_pci, undo_pci },
	{ step_vcpus, undo_vcpus }, { step_devices, NULL },
};
#define VM_STEPS_BEFORE_DEVICES (ARRAY_SIZE(vm_steps) - 1)

static int vm_run_steps(struct vm *vm, unsigned up_to, struct err *e)
{
	for (; vm->built < up_to; vm->built++) {
		int r = vm_steps[vm->built].step(vm, e);

		if (r) {
			vm_fini(vm);
			return r;
		}
	}
	return 0;
}

int vm_build(struct vm *vm, struct vm_parts *parts, struct err *e)
{
	*vm = (struct vm){ .parts = parts };
	return vm_run_steps(vm, VM_STEPS_BEFORE_DEVICES, e);
}

int vm_attach(struct vm *vm, struct err *e)
{
	return vm_run_steps(vm, ARRAY_SIZE(vm_steps), e);
}

void vm_fini(struct vm *vm)
{
	while (vm->built) {
		void (*undo)(struct vm *) = vm_steps[--vm->built].undo;

		if (undo)
			undo(vm);
	}
}

int vm_load(struct vm *vm, const struct kernel_load *what, struct err *e)
{
	struct kernel_load load = *what;
	const struct smbios_cfg smbios = { .name = vm->parts->cfg->name,
					   .memory_bytes = vm->parts->cfg->memory_bytes,
					   .cpus = vm->n_vcpus };
	struct vcpu_entry entry;
	int r;

	load.mem = &vm->mem;
	r = kernel_load(&load, &entry, e);
	if (!r)
		r = acpi_write(&vm->mem, vm->n_vcpus, e);
	if (!r)
		r = smbios_write(&vm->mem, &smbios, e);
	if (!r && reset_vector_write(&vm->mem))
		r = err_set(e, -EFAULT, "too little guest memory");
	return r ? r : vcpu_set_entry(&vm->vcpu[0], &entry, e);
}

int vm_start(struct vm *vm, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < vm->n_vcpus && !r; i++)
		r = vcpu_start(&vm->vcpu[i], e);
	return r;
}

void vm_pause(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus && !vm->paused; i++)
		vcpu_pause(&vm->vcpu[i]);
	vm->paused = true;
}

void vm_resume(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus && vm->paused; i++)
		vcpu_resume(&vm->vcpu[i]);
	vm->paused = false;
}

void vm_power_button(struct vm *vm)
{
	ged_raise(&vm->ged, GED_EVENT_POWER_BUTTON);
}
