/* SPDX-License-Identifier: MIT */
/* virtio-blk on a raw file: kick in, data, used ring out. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../../support/vmachine.h"
#include "virtio/blk.h"

#define DISK_LEN MIB(8)
#define SLOT 1
#define ALL (~BIT64(VIRTIO_F_RING_PACKED) & ~BIT64(VIRTIO_BLK_F_CONFIG_WCE))
#define T_IN VIRTIO_BLK_T_IN
#define T_OUT VIRTIO_BLK_T_OUT

struct options {
	bool no_uring, readonly, probed;
	unsigned queues, threads;
};
struct fixture {
	struct vmachine m;
	struct iothread *thread[2];
	struct blk *blk;
	struct virtio_dev *dev;
	struct drv d;
	char path[64];
	int fd;			/* the test's own view of the file */
	uint64_t hdr, data, status;
};

static void open_disk(struct fixture *f, const struct options *o)
{
	struct blk_open bo = { .path = f->path, .readonly = o->readonly,
			       .format = BLK_FORMAT_RAW };
	struct err e = { 0 };

	strcpy(f->path, "/var/tmp/hv-blk-XXXXXX");
	f->fd = mkstemp(f->path);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, DISK_LEN), 0);
	bo.fd = open(f->path, (o->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	unlink(f->path);
	if (blk_open(&bo, &f->blk, &e))
		fail_msg("%s", e.msg);
}

static struct fixture *fixture_new(const struct options *o)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct iothread_cfg tc = { .name = "io", .poll_us = 20, .no_uring = o->no_uring };
	struct virtio_blk_cfg cfg = { .queues = o->queues, .threads = f->thread,
				      .n_threads = o->threads ? o->threads : 1,
				      .serial = "disk-1", .discard = true };
	struct err e = { 0 };

	vm_init(&f->m);
	open_disk(f, o);
	for (unsigned i = 0; i < cfg.n_threads; i++)
		assert_int_equal(iothread_new(&tc, &f->thread[i], &e), 0);
	cfg.blk = f->blk;
	if (virtio_blk_new(&cfg, &f->dev, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(virtio_pci_add(&f->m.pci, f->dev, &f->m.gmem, &f->m.irq, &e), 0);
	for (unsigned i = 0; i < cfg.n_threads; i++)
		assert_int_equal(iothread_start(f->thread[i], &e), 0);
	drv_find(&f->d, &f->m, SLOT);
	f->hdr = vm_alloc(&f->m, 16, 16);
	f->status = vm_alloc(&f->m, 1, 16);
	f->data = vm_alloc(&f->m, MIB(2), 4096);
	return f;
}

static void fixture_free(struct fixture *f)
{
	pci_bus_quiesce(&f->m.pci);
	vm_fini(&f->m);
	iothread_free(f->thread[0]);
	iothread_free(f->thread[1]);
	assert_int_equal(blk_close(f->blk), 0);
	close(f->fd);
	free(f);
}

static int setup(void **state)
{
	*state = fixture_new(&(struct options){ 0 });
	return 0;
}

static int setup_no_uring(void **state)
{
	*state = fixture_new(&(struct options){ .no_uring = true });
	return 0;
}

static int setup_readonly(void **state)
{
	*state = fixture_new(&(struct options){ .readonly = true });
	return 0;
}

static int setup_mq(void **state)
{
	*state = fixture_new(&(struct options){ .queues = 4, .threads = 2 });
	return 0;
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

static void start(struct fixture *f, uint64_t features)
{
	drv_start(&f->d, features, 1, 64);
}

static void put_header(struct fixture *f, uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr *h = vm_ptr(&f->m, gpa);

	*h = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
}

static uint8_t status(struct fixture *f)
{
	return *(uint8_t *)vm_ptr(&f->m, f->status);
}

/* One request with the usual three buffers; returns the status, *@used the used length. */
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len,
		       uint32_t *used)
{
	bool in = type == T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct drv_buf b[] = { { f->hdr, 16, false }, { f->data, len, in }, { f->status, 1, true } };
	struct vring_used_elem u = { 0 };

	put_header(f, f->hdr, type, sector);
	*(uint8_t *)vm_ptr(&f->m, f->status) = 0xee;
	if (!len)
		b[1] = b[2];
	drv_add(&f->d, 0, b, len ? 3 : 2);
	drv_publish(&f->d, 0);
	assert_true(drv_wait(&f->d, 0, &u));
	if (used)
		*used = u.len;
	return status(f);
}

static void fill(void *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)p)[i] = (uint8_t)(seed + i * 7 + i / 256);
}

static void file_fill(struct fixture *f, uint64_t off, size_t len, unsigned seed)
{
	uint8_t *b = malloc(len);

	fill(b, len, seed);
	assert_int_equal(pwrite(f->fd, b, len, (off_t)off), len);
	free(b);
}

static void assert_pattern(const void *p, size_t len, unsigned seed)
{
	uint8_t *b = malloc(len);

	fill(b, len, seed);
	assert_memory_equal(p, b, len);
	free(b);
}

static void reads_what_the_file_holds(void **state)
{
	struct fixture *f = *state;
	uint32_t used;

	file_fill(f, 4096, 8192, 3);
	start(f, ALL);
	assert_int_equal(request(f, T_IN, 8, 8192, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 8193);
	assert_pattern(vm_ptr(&f->m, f->data), 8192, 3);
}

static void writes_reach_the_file(void **state)
{
	struct fixture *f = *state;
	uint8_t back[4096];
	uint32_t used;

	start(f, ALL);
	fill(vm_ptr(&f->m, f->data), 4096, 9);
	assert_int_equal(request(f, T_OUT, 100, 4096, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 1);
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd, back, 4096, 100 * 512), 4096);
	assert_pattern(back, 4096, 9);
}

static void reads_uncached_data(void **state)
{
	struct fixture *f = *state;

	file_fill(f, MIB(1), MIB(1), 5);
	assert_int_equal(fdatasync(f->fd), 0);
	start(f, ALL);
	/* Part of it cached, part not: the transfer goes on in the ring. */
	assert_int_equal(posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(request(f, T_IN, 2048, 4096, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(f, T_IN, 2048, MIB(1), NULL), VIRTIO_BLK_S_OK);
	assert_pattern(vm_ptr(&f->m, f->data), MIB(1), 5);
}

static void any_layout_is_taken(void **state)
{
	struct fixture *f = *state;
	/* Header in three pieces, the last together with data; status at the end of data. */
	struct drv_buf out[] = { { f->hdr, 1, false }, { f->hdr + 1, 9, false },
				 { f->data, 6 + 100, false }, { f->data + 106, 412, false },
				 { f->status, 1, true } };
	struct drv_buf in[] = { { f->hdr, 16, false }, { f->data, 300, true },
				{ f->data + 300, 213, true } };
	struct vring_used_elem u;
	uint8_t hdr[16], back[512];

	start(f, ALL);
	put_header(f, f->hdr, T_OUT, 7);
	memcpy(hdr, vm_ptr(&f->m, f->hdr), 16);
	memcpy(vm_ptr(&f->m, f->data), hdr + 10, 6);
	fill((char *)vm_ptr(&f->m, f->data) + 6, 512, 77);
	drv_add(&f->d, 0, out, 5);
	drv_publish(&f->d, 0);
	assert_true(drv_wait(&f->d, 0, &u));
	assert_int_equal(status(f), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd, back, 512, 7 * 512), 512);
	assert_pattern(back, 512, 77);

	put_header(f, f->hdr, T_IN, 7);
	memset(vm_ptr(&f->m, f->data), 0xee, 513);
	drv_add(&f->d, 0, in, 3);
	drv_publish(&f->d, 0);
	assert_true(drv_wait(&f->d, 0, &u));
	assert_int_equal(u.len, 513);
	assert_pattern(vm_ptr(&f->m, f->data), 512, 77);
	assert_int_equal(((uint8_t *)vm_ptr(&f->m, f->data))[512], VIRTIO_BLK_S_OK);
}

static void indirect_requests_work(void **state)
{
	struct fixture *f = *state;
	uint64_t table = vm_alloc(&f->m, 64 * 16, 16);
	struct drv_buf b[34] = { { f->hdr, 16, false } };
	struct vring_used_elem u;

	file_fill(f, 0, 32 * 512, 1);
	start(f, ALL);
	put_header(f, f->hdr, T_IN, 0);
	for (unsigned i = 0; i < 32; i++)
		b[i + 1] = (struct drv_buf){ f->data + 512 * i, 512, true };
	b[33] = (struct drv_buf){ f->status, 1, true };
	drv_add_indirect(&f->d, 0, table, b, 34);
	drv_publish(&f->d, 0);
	assert_true(drv_wait(&f->d, 0, &u));
	assert_int_equal(u.len, 32 * 512 + 1);
	assert_pattern(vm_ptr(&f->m, f->data), 32 * 512, 1);
}

static void bad_requests_fail_alone(void **state)
{
	struct fixture *f = *state;
	uint64_t last = DISK_LEN / 512;

	start(f, ALL);
	assert_int_equal(request(f, T_IN, last, 512, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, T_IN, last - 1, 1024, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, T_IN, UINT64_MAX, 512, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, T_IN, UINT64_MAX / 512, 512, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, T_IN, 0, 100, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, T_IN, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, T_OUT, last, 512, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, 0x1234, 0, 512, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(f, T_IN, last - 1, 512, NULL), VIRTIO_BLK_S_OK);
}

static void chain_that_is_no_request_breaks_the_queue(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b = { f->hdr, 16, false };

	start(f, ALL);
	drv_add(&f->d, 0, &b, 1);
	drv_publish(&f->d, 0);
	for (unsigned i = 0; i < 5000 && !(drv_status(&f->d) & VIRTIO_CONFIG_S_NEEDS_RESET); i++)
		usleep(1000);
	assert_true(drv_status(&f->d) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_true(drv_reset(&f->d));
	start(f, ALL);
	assert_int_equal(request(f, T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}

static void identifies_itself(void **state)
{
	struct fixture *f = *state;
	uint32_t used;

	start(f, ALL);
	memset(vm_ptr(&f->m, f->data), 0xee, 20);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, 20, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 21);
	assert_memory_equal(vm_ptr(&f->m, f->data), "disk-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
}

static uint8_t ranges(struct fixture *f, uint32_t type, unsigned n,
		      const struct virtio_blk_discard_write_zeroes *r)
{
	memcpy(vm_ptr(&f->m, f->data), r, n * sizeof(*r));
	return request(f, type, 0, n * (uint32_t)sizeof(*r), NULL);
}

static void write_zeroes_zeroes(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk_discard_write_zeroes r[] = { { 8, 8, 0 }, { 32, 16, 1 } };
	static const uint8_t zero[8192];
	uint8_t back[8192];

	file_fill(f, 0, 64 * 512, 1);
	start(f, ALL);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 2, r), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd, back, 4096, 4096), 4096);
	assert_memory_equal(back, zero, 4096);
	assert_int_equal(pread(f->fd, back, 8192, 32 * 512), 8192);
	assert_memory_equal(back, zero, 8192);
	assert_int_equal(pread(f->fd, back, 1, 4095), 1);
	assert_int_not_equal(back[0], 0);
}

static void discard_takes_good_ranges_only(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk_discard_write_zeroes good = { 0, 64, 0 }, unmap = { 0, 8, 1 },
					       far = { DISK_LEN / 512 - 4, 8, 0 },
					       wrap = { UINT64_MAX - 2, 8, 0 }, odd = { 0, 8, 4 },
					       none = { 0, 0, 0 };
	struct virtio_blk_discard_write_zeroes many[17] = { { 0 } };

	start(f, ALL);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1, &good), VIRTIO_BLK_S_OK);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1, &unmap), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1, &odd), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1, &far), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1, &wrap), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1, &none), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 17, many), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 8, NULL), VIRTIO_BLK_S_IOERR);
}

static void readonly_disk_refuses_writes(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk_discard_write_zeroes r = { 0, 8, 0 };

	start(f, ALL);
	assert_true(f->d.features & BIT64(VIRTIO_BLK_F_RO));
	assert_int_equal(request(f, T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1, &r), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(f, T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}

static void configuration_describes_the_disk(void **state)
{
	struct fixture *f = *state;
	uint64_t c = f->d.device;

	assert_int_equal(vm_mmio_read(&f->m, c, 4), DISK_LEN / 512);
	assert_int_equal(vm_mmio_read(&f->m, c + 4, 4), 0);
	assert_int_equal(vm_mmio_read(&f->m, c + offsetof(struct virtio_blk_config, seg_max), 4),
			 254);
	assert_int_equal(vm_mmio_read(&f->m, c + offsetof(struct virtio_blk_config, blk_size), 4),
			 512);
	assert_int_equal(vm_mmio_read(&f->m, c + 0x800, 4), 0);
}

static void write_cache_is_switched_by_configuration(void **state)
{
	struct fixture *f = *state;
	uint64_t wce = f->d.device + offsetof(struct virtio_blk_config, wce);

	start(f, ALL | BIT64(VIRTIO_BLK_F_CONFIG_WCE));
	assert_int_equal(vm_mmio_read(&f->m, wce, 1), 1);
	vm_mmio_write(&f->m, wce, 0, 1);
	assert_int_equal(vm_mmio_read(&f->m, wce, 1), 0);
	assert_int_equal(request(f, T_OUT, 0, 4096, NULL), VIRTIO_BLK_S_OK);
	assert_true(drv_reset(&f->d));
	assert_int_equal(vm_mmio_read(&f->m, wce, 1), 1);
}

/* Many requests at once on each queue; every answer is checked against its sector's pattern. */
static void queue_storm(struct fixture *f, unsigned qi, unsigned rounds)
{
	const unsigned depth = 16;
	uint64_t base = vm_alloc(&f->m, depth * 1024, 4096);

	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < depth; i++) {
			uint64_t at = base + i * 1024;
			uint64_t sector = (round * 31 + i * 7 + qi * 3) % 256;
			struct drv_buf b[] = { { at, 16, false }, { at + 64, 512, true },
					       { at + 600, 1, true } };

			put_header(f, at, T_IN, sector);
			*(uint8_t *)vm_ptr(&f->m, at + 600) = 0xee;
			drv_add(&f->d, qi, b, 3);
			if (i % 5 == 0)
				drv_publish(&f->d, qi);
		}
		drv_publish(&f->d, qi);
		for (unsigned i = 0; i < depth; i++) {
			struct vring_used_elem u;

			assert_true(drv_wait(&f->d, qi, &u));
			assert_int_equal(u.len, 513);
		}
		for (unsigned i = 0; i < depth; i++) {
			struct virtio_blk_outhdr *h = vm_ptr(&f->m, base + i * 1024);

			assert_int_equal(((uint8_t *)h)[600], VIRTIO_BLK_S_OK);
			assert_pattern((uint8_t *)h + 64, 512, (unsigned)h->sector);
		}
	}
}

static void sector_patterns(struct fixture *f)
{
	for (unsigned s = 0; s < 256; s++)
		file_fill(f, s * 512, 512, s);
}

static void many_requests_in_flight(void **state)
{
	struct fixture *f = *state;

	sector_patterns(f);
	start(f, ALL);
	queue_storm(f, 0, 50);
	assert_true(drv_reset(&f->d));
	start(f, ALL & ~BIT64(VIRTIO_RING_F_EVENT_IDX));
	queue_storm(f, 0, 50);
}

static void queues_work_on_their_own_threads(void **state)
{
	struct fixture *f = *state;

	sector_patterns(f);
	assert_int_equal(vm_mmio_read(&f->m,
				      f->d.device + offsetof(struct virtio_blk_config, num_queues),
				      2), 4);
	drv_start(&f->d, ALL, 4, 64);
	for (unsigned q = 0; q < 4; q++)
		queue_storm(f, q, 10);
}

/* Requests are left in flight, cached and not, when the driver resets. */
static void reset_with_requests_in_flight(void **state)
{
	struct fixture *f = *state;
	uint64_t mark = f->m.ram_next;

	file_fill(f, 0, MIB(4), 1);
	assert_int_equal(fdatasync(f->fd), 0);
	for (unsigned round = 0; round < 30; round++) {
		f->m.ram_next = mark;
		start(f, ALL);
		if (round % 2)
			posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
		for (unsigned i = 0; i < 16; i++) {
			uint64_t hdr = vm_alloc(&f->m, 32, 16);
			struct drv_buf b[] = { { hdr, 16, false },
					       { f->data + i * 65536, 65536, true },
					       { hdr + 16, 1, true } };

			put_header(f, hdr, T_IN, i * 512);
			drv_add(&f->d, 0, b, 3);
		}
		drv_publish(&f->d, 0);
		if (round % 3 == 0)
			usleep(200);
		if (round < 29)
			assert_true(drv_reset(&f->d));
	}
	/* The last round goes into teardown as it is. */
}

static void reboot_reopens_the_queues(void **state)
{
	struct fixture *f = *state;
	uint8_t b[512];

	file_fill(f, 0, 512, 1);
	start(f, ALL);
	assert_int_equal(request(f, T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
	pci_bus_quiesce(&f->m.pci);
	assert_int_equal(blk_pread(f->blk, 0, b, 512), 0);	/* as boot discovery does */
	assert_pattern(b, 512, 1);
	pci_bus_reset(&f->m.pci);
	start(f, ALL);
	assert_int_equal(request(f, T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_WITH(name, with) cmocka_unit_test_setup_teardown(name, with, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_what_the_file_holds),
		TEST(writes_reach_the_file),
		TEST(reads_uncached_data),
		TEST_WITH(reads_uncached_data, setup_no_uring),
		TEST_WITH(writes_reach_the_file, setup_no_uring),
		TEST_WITH(write_zeroes_zeroes, setup_no_uring),
		TEST(any_layout_is_taken),
		TEST(indirect_requests_work),
		TEST(bad_requests_fail_alone),
		TEST(chain_that_is_no_request_breaks_the_queue),
		TEST(identifies_itself),
		TEST(write_zeroes_zeroes),
		TEST(discard_takes_good_ranges_only),
		TEST_WITH(readonly_disk_refuses_writes, setup_readonly),
		TEST(configuration_describes_the_disk),
		TEST(write_cache_is_switched_by_configuration),
		TEST(many_requests_in_flight),
		TEST_WITH(queues_work_on_their_own_threads, setup_mq),
		TEST(reset_with_requests_in_flight),
		TEST_WITH(reset_with_requests_in_flight, setup_no_uring),
		TEST(reboot_reopens_the_queues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
