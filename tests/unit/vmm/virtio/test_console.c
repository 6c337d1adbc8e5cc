/* SPDX-License-Identifier: MIT */
/* virtio-console on pipes. */
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../../support/vmachine.h"
#include "virtio/console.h"

#define RX 0
#define TX 1
#define WANT (BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(0))

struct fixture {
	struct vmachine m;
	struct iothread *thread;
	struct virtio_dev *dev;
	struct drv d;
	int in[2], out[2];
	uint64_t buf;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct iothread_cfg tc = { .name = "io", .poll_us = 20 };
	struct virtio_console_cfg cfg = { .cols = 80, .rows = 25 };
	struct err e = { 0 };

	vm_init(&f->m);
	assert_int_equal(pipe2(f->in, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(f->out, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(iothread_new(&tc, &f->thread, &e), 0);
	cfg.in_fd = f->in[0];
	cfg.out_fd = f->out[1];
	cfg.thread = f->thread;
	assert_int_equal(virtio_console_new(&cfg, &f->dev, &e), 0);
	assert_int_equal(virtio_pci_add(&f->m.pci, f->dev, &f->m.gmem, &f->m.irq, &e), 0);
	assert_int_equal(iothread_start(f->thread, &e), 0);
	drv_find(&f->d, &f->m, 1);
	f->buf = vm_alloc(&f->m, 256 * 1024, 4096);
	drv_start(&f->d, WANT, 2, 16);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_bus_quiesce(&f->m.pci);
	vm_fini(&f->m);
	iothread_free(f->thread);
	for (unsigned i = 0; i < 2; i++) {
		close(f->in[i]);
		close(f->out[i]);
	}
	free(f);
	return 0;
}

static void output_arrives_in_order(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b[] = { { f->buf, 6, false }, { f->buf + 100, 6, false } };
	struct vring_used_elem u;
	char got[20] = { 0 };

	memcpy(vm_ptr(&f->m, f->buf), "hello ", 6);
	memcpy(vm_ptr(&f->m, f->buf + 100), "world\n", 6);
	drv_add(&f->d, TX, b, 2);
	drv_publish(&f->d, TX);
	assert_true(drv_wait(&f->d, TX, &u));
	assert_int_equal(read(f->out[0], got, sizeof(got)), 12);
	assert_string_equal(got, "hello world\n");
}

static void output_waits_for_a_full_pipe(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b = { f->buf, 200 * 1024, false };
	struct vring_used_elem u;
	static char got[200 * 1024];
	size_t n = 0;

	for (unsigned i = 0; i < 200 * 1024; i++)
		((char *)vm_ptr(&f->m, f->buf))[i] = (char)(i * 13 + i / 256);
	drv_add(&f->d, TX, &b, 1);
	drv_publish(&f->d, TX);
	usleep(10000);
	assert_false(drv_poll(&f->d, TX, &u));
	while (n < sizeof(got)) {
		struct pollfd p = { .fd = f->out[0], .events = POLLIN };
		ssize_t r;

		assert_int_equal(poll(&p, 1, 5000), 1);
		r = read(f->out[0], got + n, sizeof(got) - n);
		assert_true(r > 0);
		n += (size_t)r;
	}
	assert_true(drv_wait(&f->d, TX, &u));
	assert_memory_equal(got, vm_ptr(&f->m, f->buf), sizeof(got));
}

static void input_waits_for_buffers(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b = { f->buf, 4, true };
	struct vring_used_elem u;

	assert_int_equal(write(f->in[1], "abcdef", 6), 6);
	usleep(5000);
	drv_add(&f->d, RX, &b, 1);
	drv_publish(&f->d, RX);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_int_equal(u.len, 4);
	assert_memory_equal(vm_ptr(&f->m, f->buf), "abcd", 4);
	drv_add(&f->d, RX, &b, 1);
	drv_publish(&f->d, RX);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_int_equal(u.len, 2);
	assert_memory_equal(vm_ptr(&f->m, f->buf), "ef", 2);
}

static void end_of_input_does_not_spin_and_output_goes_on(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b = { f->buf, 4, true };
	struct timespec before, after;

	drv_add(&f->d, RX, &b, 1);
	drv_publish(&f->d, RX);
	close(f->in[1]);
	f->in[1] = dup(0);
	usleep(20000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	usleep(100000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec <
		    30000000);
	output_arrives_in_order(state);
}

static void size_is_configuration(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vm_mmio_read(&f->m, f->d.device, 4), 25 << 16 | 80);
	virtio_console_resize(f->dev, 132, 50);
	assert_int_equal(vm_mmio_read(&f->m, f->d.device, 4), 50 << 16 | 132);
	assert_int_equal(vm_irq_take(&f->m, 99), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(output_arrives_in_order),
		TEST(output_waits_for_a_full_pipe),
		TEST(input_waits_for_buffers),
		TEST(end_of_input_does_not_spin_and_output_goes_on),
		TEST(size_is_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
