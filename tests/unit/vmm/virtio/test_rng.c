/* SPDX-License-Identifier: MIT */
/* virtio-rng behind virtio-pci, driven from reset to data; the status machine on the way. */
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../../support/vmachine.h"
#include "virtio/rng.h"

#define SLOT 1
#define WANT (BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) | \
	      BIT64(VIRTIO_RING_F_INDIRECT_DESC))

struct fixture {
	struct vmachine m;
	struct iothread *thread;
	struct virtio_dev *dev;
	struct drv drv;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct iothread_cfg tc = { .name = "io", .poll_us = 20 };
	struct virtio_rng_cfg cfg;
	struct err e = { 0 };

	vm_init(&f->m);
	assert_int_equal(iothread_new(&tc, &f->thread, &e), 0);
	cfg.fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	cfg.thread = f->thread;
	assert_int_equal(virtio_rng_new(&cfg, &f->dev, &e), 0);
	close(cfg.fd);
	assert_int_equal(virtio_pci_add(&f->m.pci, f->dev, &f->m.gmem, &f->m.irq, &e), 0);
	assert_int_equal(iothread_start(f->thread, &e), 0);
	drv_find(&f->drv, &f->m, SLOT);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_bus_quiesce(&f->m.pci);
	iothread_stop(f->thread);
	vm_fini(&f->m);
	iothread_free(f->thread);
	free(f);
	return 0;
}

static void fills_buffers_and_interrupts(void **state)
{
	struct fixture *f = *state;
	uint64_t gpa = vm_alloc(&f->m, 256, 16);
	struct vring_used_elem u;
	static const uint8_t zero[64];

	drv_start(&f->drv, WANT, 1, 8);
	for (unsigned i = 0; i < 20; i++) {
		struct drv_buf b[] = { { gpa, 3, true }, { gpa + 16, 61, true } };
		uint16_t head;

		memset(vm_ptr(&f->m, gpa), 0, 256);
		head = drv_add(&f->drv, 0, b, 2);
		drv_publish(&f->drv, 0);
		assert_true(drv_wait(&f->drv, 0, &u));
		assert_int_equal(u.id, head);
		assert_int_equal(u.len, 64);
		assert_memory_not_equal(vm_ptr(&f->m, gpa + 16), zero, 61);
	}
	/* The last interrupt may come after the used entry is seen. */
	for (unsigned i = 0; i < 1000; i++) {
		if (vm_irq_take(&f->m, 100))
			return;
		usleep(1000);
	}
	fail();
}

static void kick_through_mmio_exit_works_too(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b = { vm_alloc(&f->m, 64, 16), 64, true };
	struct vring_used_elem u;

	drv_start(&f->drv, WANT, 1, 8);
	f->drv.q[0].kick_fd = -1;
	drv_add(&f->drv, 0, &b, 1);
	drv_publish(&f->drv, 0);
	assert_true(drv_wait(&f->drv, 0, &u));
}

static void broken_ring_needs_reset_and_recovers(void **state)
{
	struct fixture *f = *state;
	struct drv_buf bad = { GIB(100), 64, true };
	struct drv_buf good = { vm_alloc(&f->m, 64, 16), 64, true };
	struct vring_used_elem u;

	drv_start(&f->drv, WANT, 1, 8);
	drv_add(&f->drv, 0, &bad, 1);
	drv_publish(&f->drv, 0);
	for (unsigned i = 0; i < 5000; i++) {
		if (drv_status(&f->drv) & VIRTIO_CONFIG_S_NEEDS_RESET)
			break;
		usleep(1000);
	}
	assert_true(drv_status(&f->drv) & VIRTIO_CONFIG_S_NEEDS_RESET);
	for (unsigned i = 0; i < 1000 && !vm_irq_take(&f->m, 99); i++)
		usleep(1000);
	assert_true(drv_reset(&f->drv));
	drv_start(&f->drv, WANT, 1, 8);
	drv_add(&f->drv, 0, &good, 1);
	drv_publish(&f->drv, 0);
	assert_true(drv_wait(&f->drv, 0, &u));
}

static void rings_outside_memory_need_reset(void **state)
{
	struct fixture *f = *state;

	assert_true(drv_negotiate(&f->drv, WANT));
	drv_setup_queues(&f->drv, 1, 8);
	vm_mmio_write(&f->m, f->drv.common + VIRTIO_PCI_COMMON_Q_DESCHI, 0xff, 4);
	drv_ok(&f->drv);
	for (unsigned i = 0; i < 5000; i++) {
		if (drv_status(&f->drv) & VIRTIO_CONFIG_S_NEEDS_RESET)
			break;
		usleep(1000);
	}
	assert_true(drv_status(&f->drv) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_true(drv_reset(&f->drv));
}

static void features_without_version_1_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_false(drv_negotiate(&f->drv, BIT64(VIRTIO_RING_F_EVENT_IDX)));
	assert_true(drv_negotiate(&f->drv, WANT));
}

static void features_not_offered_are_refused(void **state)
{
	struct fixture *f = *state;
	struct drv *d = &f->drv;

	assert_true(drv_reset(d));
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_STATUS, 3, 1);
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_GF, 1 | 1 << 2, 4);	/* packed ring */
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_STATUS, 11, 1);
	assert_int_equal(drv_status(d), 3);
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_STATUS, 15, 1);	/* no DRIVER_OK then */
	assert_int_equal(drv_status(d), 3);
}

static void features_are_frozen_by_features_ok(void **state)
{
	struct fixture *f = *state;
	struct drv *d = &f->drv;

	assert_true(drv_negotiate(d, WANT));
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_GF, 0, 4);
	assert_int_equal(vm_mmio_read(&f->m, d->common + VIRTIO_PCI_COMMON_GF, 4),
			 (uint32_t)WANT);
}

static void status_bits_are_never_taken_back(void **state)
{
	struct fixture *f = *state;

	assert_true(drv_negotiate(&f->drv, WANT));
	vm_mmio_write(&f->m, f->drv.common + VIRTIO_PCI_COMMON_STATUS, 1, 1);
	assert_int_equal(drv_status(&f->drv), 11);
}

static void queue_registers_are_frozen_by_driver_ok(void **state)
{
	struct fixture *f = *state;
	struct drv *d = &f->drv;

	drv_start(d, WANT, 1, 8);
	vm_mmio_write(&f->m, d->common + VIRTIO_PCI_COMMON_Q_SIZE, 16, 2);
	assert_int_equal(vm_mmio_read(&f->m, d->common + VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
}

static void bad_queue_sizes_are_ignored(void **state)
{
	struct fixture *f = *state;
	uint64_t reg = f->drv.common + VIRTIO_PCI_COMMON_Q_SIZE;

	assert_true(drv_negotiate(&f->drv, WANT));
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), 64);
	vm_mmio_write(&f->m, reg, 0, 2);
	vm_mmio_write(&f->m, reg, 48, 2);
	vm_mmio_write(&f->m, reg, 128, 2);
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), 64);
	vm_mmio_write(&f->m, reg, 16, 2);
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), 16);
}

static void absent_queue_has_size_0(void **state)
{
	struct fixture *f = *state;

	vm_mmio_write(&f->m, f->drv.common + VIRTIO_PCI_COMMON_Q_SELECT, 7, 2);
	assert_int_equal(vm_mmio_read(&f->m, f->drv.common + VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	vm_mmio_write(&f->m, f->drv.common + VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
}

static void absent_vector_reads_back_as_none(void **state)
{
	struct fixture *f = *state;
	uint64_t reg = f->drv.common + VIRTIO_PCI_COMMON_MSIX;

	vm_mmio_write(&f->m, reg, 1, 2);
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), 1);
	vm_mmio_write(&f->m, reg, 2, 2);	/* two vectors: 0 and 1 */
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), VIRTIO_MSI_NO_VECTOR);
}

static void without_msix_the_isr_tells(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b = { vm_alloc(&f->m, 64, 16), 64, true };
	struct vring_used_elem u;
	uint64_t isr = f->drv.common + 0x1000;

	drv_start(&f->drv, WANT & ~BIT64(VIRTIO_RING_F_EVENT_IDX), 1, 8);
	vm_cfg_write(&f->m, SLOT, f->drv.msix_cap + 2, 0, 2);
	drv_add(&f->drv, 0, &b, 1);
	drv_publish(&f->drv, 0);
	assert_true(drv_wait(&f->drv, 0, &u));
	for (unsigned i = 0; i < 1000; i++) {
		if (vm_mmio_read(&f->m, isr, 1) == 1) {
			assert_int_equal(vm_mmio_read(&f->m, isr, 1), 0);	/* read clears */
			return;
		}
		usleep(1000);
	}
	fail();
}

static void config_window_reaches_the_bar(void **state)
{
	struct fixture *f = *state;
	unsigned cap = (unsigned)vm_cfg_read(&f->m, SLOT, 0x34, 1);

	while (vm_cfg_read(&f->m, SLOT, cap, 1) != 9 ||
	       vm_cfg_read(&f->m, SLOT, cap + 3, 1) != VIRTIO_PCI_CAP_PCI_CFG)
		cap = (unsigned)vm_cfg_read(&f->m, SLOT, cap + 1, 1);
	assert_true(drv_negotiate(&f->drv, WANT));
	vm_cfg_write(&f->m, SLOT, cap + 4, 0, 1);	/* bar */
	vm_cfg_write(&f->m, SLOT, cap + 8, VIRTIO_PCI_COMMON_STATUS, 4);
	vm_cfg_write(&f->m, SLOT, cap + 12, 1, 4);
	assert_int_equal(vm_cfg_read(&f->m, SLOT, cap + 16, 1), 11);
	vm_cfg_write(&f->m, SLOT, cap + 16, 0, 1);
	assert_int_equal(drv_status(&f->drv), 0);
	vm_cfg_write(&f->m, SLOT, cap + 8, 0x7fffffff, 4);	/* out of the BAR: nothing happens */
	vm_cfg_read(&f->m, SLOT, cap + 16, 4);
	vm_cfg_write(&f->m, SLOT, cap + 8, 0x5000, 4);
	vm_cfg_write(&f->m, SLOT, cap + 16, 1, 4);
}

static void odd_accesses_to_registers_do_nothing(void **state)
{
	struct fixture *f = *state;

	assert_true(drv_negotiate(&f->drv, WANT));
	for (unsigned off = 0; off < 80; off++) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			uint64_t v = vm_mmio_read(&f->m, f->drv.common + off, len);

			if (off != VIRTIO_PCI_COMMON_STATUS)
				vm_mmio_write(&f->m, f->drv.common + off, v, len);
		}
	}
	assert_int_equal(drv_status(&f->drv), 11);
}

/* Reset and start over while the I/O thread works: what TSan is for. */
static void resets_in_the_middle_of_work(void **state)
{
	struct fixture *f = *state;
	uint64_t gpa = vm_alloc(&f->m, 4096, 16), mark = f->m.ram_next;
	struct vring_used_elem u;

	for (unsigned i = 0; i < 100; i++) {
		f->m.ram_next = mark;
		drv_start(&f->drv, WANT, 1, 16);
		for (unsigned n = 0; n < 16; n++) {
			struct drv_buf b = { gpa, 4096, true };

			drv_add(&f->drv, 0, &b, 1);
		}
		drv_publish(&f->drv, 0);
		if (i % 3 == 0)
			assert_true(drv_wait(&f->drv, 0, &u));
		assert_true(drv_reset(&f->drv));
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fills_buffers_and_interrupts),
		TEST(kick_through_mmio_exit_works_too),
		TEST(broken_ring_needs_reset_and_recovers),
		TEST(rings_outside_memory_need_reset),
		TEST(features_without_version_1_are_refused),
		TEST(features_not_offered_are_refused),
		TEST(features_are_frozen_by_features_ok),
		TEST(status_bits_are_never_taken_back),
		TEST(queue_registers_are_frozen_by_driver_ok),
		TEST(bad_queue_sizes_are_ignored),
		TEST(absent_queue_has_size_0),
		TEST(absent_vector_reads_back_as_none),
		TEST(without_msix_the_isr_tells),
		TEST(config_window_reaches_the_bar),
		TEST(odd_accesses_to_registers_do_nothing),
		TEST(resets_in_the_middle_of_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
