/* SPDX-License-Identifier: MIT */
/* Requests through queues: several threads on one image, in any order, against a shadow. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../../lib/block/block_int.h"
#include "../../../support/pool_io.h"

#define QUEUES 3
#define DEPTH 8
#define SECTOR 512u
#define DISK MIB(6)

struct slot {
	struct blk_req req;
	struct worker *w;
	bool busy;
	uint8_t *mem, *buf;
	struct iovec iov[40];
};

struct worker {
	struct blk *b;
	unsigned id, seed, ops, left, cluster;
	uint64_t disk;
	uint64_t run;	 /* bytes: every QUEUES-th run of the disk is this one's */
	uint8_t *shadow; /* of the whole disk; each looks at its own part */
	struct pool_io io;
	struct slot slot[DEPTH];
	pthread_t thread;
	unsigned errors, running;
};

static bool overlaps(const struct worker *w, uint64_t off, uint64_t len)
{
	for (int i = 0; i < DEPTH; i++) {
		const struct blk_req *r = &w->slot[i].req;

		if (w->slot[i].busy && off < r->off + r->len && r->off < off + len)
			return true;
	}
	return false;
}

static void slot_done(struct blk_req *r)
{
	struct slot *s = container_of(r, struct slot, req);
	struct worker *w = s->w;

	s->busy = false;
	w->running--;
	if (r->result)
		print_message("op %d of [%#lx, +%#lx): %s\n", r->op, r->off, r->len,
			      strerror(-r->result));
	else if (r->op == BLK_OP_READ && memcmp(s->buf, w->shadow + r->off, r->len))
		print_message("read of [%#lx, +%#lx) differs\n", r->off, r->len);
	else
		return;
	w->errors++;
}

/* Cut the buffer into a random number of pieces. */
static void slot_iov(struct slot *s, unsigned *seed)
{
	uint64_t at = 0;
	unsigned n = 0, max = rand_r(seed) % 3 ? 2 : ARRAY_SIZE(s->iov);

	for (; at < s->req.len; n++) {
		uint64_t left = s->req.len - at;
		uint64_t len =
			n + 1 == max ? left : MIN(left, SECTOR * (1 + (uint64_t)rand_r(seed) % 9));

		s->iov[n] = (struct iovec){ s->buf + at, len };
		at += len;
	}
	s->req.iov = s->iov;
	s->req.iovcnt = n;
}

static void shadow_discard(struct worker *w, uint64_t off, uint64_t len)
{
	uint64_t start = DIV_ROUND_UP(off, w->cluster) * w->cluster;
	uint64_t end = ALIGN_DOWN(off + len, (uint64_t)w->cluster);

	if (start < end)
		memset(w->shadow + start, 0, end - start);
}

static void slot_start(struct worker *w, struct slot *s)
{
	uint64_t runs = w->disk / w->run, run, off, len;
	unsigned kind = (unsigned)rand_r(&w->seed) % 16;

	run = (uint64_t)rand_r(&w->seed) % (runs / QUEUES) * QUEUES + w->id;
	off = (uint64_t)rand_r(&w->seed) % (w->run / SECTOR) * SECTOR;
	len = (1 + (uint64_t)rand_r(&w->seed) % ((w->run - off) / SECTOR)) * SECTOR;
	off += run * w->run;
	if (overlaps(w, off, len))
		return; /* another time, when that one is done */
	s->req = (struct blk_req){ .off = off, .len = len, .done = slot_done };
	if (kind < 5) {
		s->req.op = BLK_OP_READ;
	} else if (kind < 12) {
		s->req.op = BLK_OP_WRITE;
		memset(s->buf, rand_r(&w->seed), len);
		memcpy(s->buf, &off, sizeof(off));
		memcpy(w->shadow + off, s->buf, len);
	} else if (kind == 12) {
		s->req.op = BLK_OP_DISCARD;
		shadow_discard(w, off, len);
	} else if (kind < 15) {
		s->req.op = BLK_OP_WRITE_ZEROES;
		s->req.unmap = kind == 13;
		memset(w->shadow + off, 0, len);
	} else {
		s->req = (struct blk_req){ .op = BLK_OP_FLUSH, .done = slot_done };
	}
	slot_iov(s, &w->seed);
	s->busy = true;
	w->running++;
	w->left--;
	blk_submit(w->io.q, &s->req);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	w->left = w->ops;
	while (w->left || w->running) {
		for (int i = 0; i < DEPTH && w->left; i++)
			if (!w->slot[i].busy)
				slot_start(w, &w->slot[i]);
		pool_io_poll(&w->io, w->running > 0);
	}
	return NULL;
}

static struct worker *worker_new(struct blk *b, unsigned id, uint8_t *shadow, uint64_t run,
				 unsigned ops)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct err e;

	assert_non_null(w);
	w->b = b;
	w->id = id;
	w->seed = id * 77 + (unsigned)run;
	w->ops = ops;
	w->run = run;
	w->disk = DISK;
	w->shadow = shadow;
	w->cluster = blk_cluster_size(b);
	for (int i = 0; i < DEPTH; i++) {
		w->slot[i].w = w;
		w->slot[i].mem = aligned_alloc(4096, ALIGN_UP(run + 4096, 4096));
		assert_non_null(w->slot[i].mem);
		w->slot[i].buf = w->slot[i].mem + (i & 1 ? 24 : 0);
	}
	assert_int_equal(pool_io_start(&w->io, 2), 0);
	w->io.delay_us = 30;
	assert_int_equal(blk_queue_open(b, &pool_io_ops, &w->io, &w->io.q, &e), 0);
	return w;
}

static unsigned worker_end(struct worker *w)
{
	unsigned errors = w->errors;

	blk_queue_close(w->io.q);
	pool_io_stop(&w->io);
	for (int i = 0; i < DEPTH; i++)
		free(w->slot[i].mem);
	free(w);
	return errors;
}

static void verify_all(struct blk *b, const uint8_t *shadow)
{
	static uint8_t buf[MIB(1)];

	for (uint64_t off = 0; off < DISK; off += sizeof(buf)) {
		assert_int_equal(blk_pread(b, off, buf, sizeof(buf)), 0);
		assert_memory_equal(buf, shadow + off, sizeof(buf));
	}
}

static void hammer(struct blk *b, uint8_t *shadow, uint64_t run, unsigned ops)
{
	struct worker *w[QUEUES];
	unsigned errors = 0;

	for (unsigned i = 0; i < QUEUES; i++)
		w[i] = worker_new(b, i, shadow, run, ops);
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(pthread_create(&w[i]->thread, NULL, worker_main, w[i]), 0);
	for (unsigned i = 0; i < QUEUES; i++)
		pthread_join(w[i]->thread, NULL);
	for (unsigned i = 0; i < QUEUES; i++)
		errors += worker_end(w[i]);
	assert_int_equal(errors, 0);
	verify_all(b, shadow);
}

static int base_gate(void *ctx, const char *parent, const char *name, int *fd,
		     char path[BLK_PATH_MAX], struct err *e)
{
	*fd = dup(*(int *)ctx);
	strcpy(path, name);
	return *fd < 0 ? -errno : 0;
}

/* A raw base file filled with a pattern, which becomes the shadow's start. */
static int base_new(uint8_t *shadow)
{
	int fd = memfd_create("base", MFD_CLOEXEC);

	for (uint64_t i = 0; i < DISK; i++)
		shadow[i] = (uint8_t)(i / SECTOR * 7 + 3);
	assert_int_equal(pwrite(fd, shadow, DISK, 0), DISK);
	return fd;
}

static void stress_qcow2(uint32_t bits, bool backed, uint64_t run, uint64_t budget, unsigned ops)
{
	uint8_t *shadow = calloc(1, DISK);
	int base = backed ? base_new(shadow) : -1, fd = memfd_create("image", MFD_CLOEXEC);
	struct blk_create c = { .size = DISK,
				.cluster_bits = bits,
				.backing = backed ? "base" : NULL,
				.backing_format = BLK_FORMAT_RAW };
	struct blk_open o = { .path = "image",
			      .fd = fd,
			      .format = BLK_FORMAT_QCOW2,
			      .gate = base_gate,
			      .gate_ctx = &base,
			      .no_lock = true };
	struct blk_check chk;
	struct err e = { 0 };
	struct blk *b;

	assert_int_equal(blk_create_qcow2(fd, &c, &e), 0);
	assert_int_equal(blk_open(&o, &b, &e), 0);
	if (budget)
		b->tables.budget = budget;
	hammer(b, shadow, run, ops);
	assert_int_equal(blk_check(b, &chk, &e), 0);
	assert_int_equal(chk.corruptions + chk.leaks + chk.copied_errors, 0);
	o.fd = dup(fd);
	assert_int_equal(blk_close(b), 0);
	assert_int_equal(blk_open(&o, &b, &e), 0);
	assert_int_equal(blk_check(b, &chk, &e), 0);
	assert_int_equal(chk.corruptions + chk.leaks + chk.copied_errors, 0);
	verify_all(b, shadow);
	assert_int_equal(blk_close(b), 0);
	free(shadow);
	if (base >= 0)
		close(base);
}

static void queues_share_64k_clusters(void **state)
{
	stress_qcow2(16, false, 20480, 0, 1500);
}

static void queues_share_an_overlay(void **state)
{
	stress_qcow2(16, true, 20480, 0, 1500);
}

static void queues_cross_small_clusters(void **state)
{
	stress_qcow2(12, true, 61440, 0, 800);
}

static void queues_with_tables_evicted(void **state)
{
	stress_qcow2(9, true, 30720, 8192, 400);
}

static void queues_on_raw(void **state)
{
	uint8_t *shadow = calloc(1, DISK);
	struct blk_open o = { .path = "raw",
			      .fd = memfd_create("raw", MFD_CLOEXEC),
			      .format = BLK_FORMAT_RAW,
			      .no_lock = true };
	struct err e = { 0 };
	struct blk *b;

	assert_int_equal(ftruncate(o.fd, DISK), 0);
	assert_int_equal(blk_open(&o, &b, &e), 0);
	hammer(b, shadow, 20480, 1500);
	assert_int_equal(blk_close(b), 0);
	free(shadow);
}

/* O_DIRECT: half of the buffers aligned, lengths at will; what does not fit takes the detour. */
static void direct(uint32_t bits)
{
	char name[] = "./hv-direct-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC), base = -1;
	struct blk_create c = { .size = DISK, .cluster_bits = bits };
	struct blk_open o = { .path = "direct",
			      .format = BLK_FORMAT_QCOW2,
			      .no_lock = true,
			      .cache = BLK_CACHE_NONE,
			      .gate = base_gate,
			      .gate_ctx = &base };
	uint8_t *shadow = calloc(1, DISK);
	struct blk_check chk;
	struct err e = { 0 };
	struct blk *b;

	assert_int_equal(blk_create_qcow2(fd, &c, &e), 0);
	o.fd = open(name, O_RDWR | O_DIRECT | O_CLOEXEC);
	unlink(name);
	close(fd);
	if (o.fd < 0) {
		print_message("skip: no O_DIRECT on this file system\n");
		free(shadow);
		skip();
	}
	assert_int_equal(blk_open(&o, &b, &e), 0);
	hammer(b, shadow, 20480, 300);
	assert_int_equal(blk_check(b, &chk, &e), 0);
	assert_int_equal(chk.corruptions + chk.leaks + chk.copied_errors, 0);
	assert_int_equal(blk_close(b), 0);
	free(shadow);
}

static void queues_with_o_direct(void **state)
{
	direct(16);
}

static void queues_with_o_direct_and_tiny_clusters(void **state)
{
	direct(9);
}

/* Compressed clusters, a snapshot's: read through a queue, overwritten in part, read again. */
static void queue_on_an_image_of_others(const char *path)
{
	struct blk_open o = { .path = path, .format = BLK_FORMAT_QCOW2, .no_lock = true };
	int src = open(path, O_RDONLY | O_CLOEXEC), fd = memfd_create("copy", MFD_CLOEXEC);
	static uint8_t image[KIB(256)];
	uint8_t *shadow = calloc(1, DISK);
	struct worker *w;
	struct err e = { 0 };
	struct blk *b;
	ssize_t n;

	if (src < 0) {
		print_message("skip: not run from the source tree\n");
		skip();
	}
	n = read(src, image, sizeof(image));
	assert_int_equal(write(fd, image, (size_t)n), n);
	close(src);
	o.fd = fd;
	assert_int_equal(blk_open(&o, &b, &e), 0);
	assert_int_equal(blk_pread(b, 0, shadow, blk_size(b)), 0);
	w = worker_new(b, 0, shadow, 8192, 600);
	w->disk = blk_size(b);
	worker_main(w);
	assert_int_equal(worker_end(w), 0);
	for (uint64_t off = 0; off < blk_size(b); off += 4096) {
		assert_int_equal(blk_pread(b, off, image, 4096), 0);
		assert_memory_equal(image, shadow + off, 4096);
	}
	assert_int_equal(blk_close(b), 0);
	free(shadow);
}

static void queue_on_deflate_clusters(void **state)
{
	queue_on_an_image_of_others("tests/fuzz/corpus/qcow2/zlib");
}

static void queue_on_zstd_clusters(void **state)
{
	queue_on_an_image_of_others("tests/fuzz/corpus/qcow2/zstd");
}

static void queue_on_an_image_with_a_snapshot(void **state)
{
	queue_on_an_image_of_others("tests/fuzz/corpus/qcow2/snap");
}

/* ---- single requests -------------------------------------------------------------------- */

struct one {
	struct blk *b;
	struct pool_io io;
	bool done;
};

static struct one *the_one;

static void one_done(struct blk_req *r)
{
	the_one->done = true;
}

static int one_run(struct one *o, struct blk_req *r)
{
	the_one = o;
	o->done = false;
	r->done = one_done;
	blk_submit(o->io.q, r);
	while (!o->done)
		pool_io_poll(&o->io, true);
	return r->result;
}

static void one_open(struct one *o, enum blk_format format, bool readonly)
{
	int fd = memfd_create("one", MFD_CLOEXEC);
	struct blk_create c = { .size = DISK };
	struct blk_open op = {
		.path = "one", .fd = fd, .format = format, .no_lock = true, .readonly = readonly
	};
	struct err e = { 0 };

	memset(o, 0, sizeof(*o));
	if (format == BLK_FORMAT_QCOW2)
		assert_int_equal(blk_create_qcow2(fd, &c, &e), 0);
	else
		assert_int_equal(ftruncate(fd, DISK), 0);
	assert_int_equal(blk_open(&op, &o->b, &e), 0);
	assert_int_equal(pool_io_start(&o->io, 1), 0);
	assert_int_equal(blk_queue_open(o->b, &pool_io_ops, &o->io, &o->io.q, &e), 0);
}

static void one_close(struct one *o)
{
	blk_queue_close(o->io.q);
	pool_io_stop(&o->io);
	assert_int_equal(blk_close(o->b), 0);
}

static void request_past_the_end_is_refused(void **state)
{
	uint8_t buf[512];
	struct iovec iov = { buf, sizeof(buf) };
	struct blk_req r = {
		.op = BLK_OP_READ, .off = DISK - 256, .len = 512, .iov = &iov, .iovcnt = 1
	};
	struct one o;

	one_open(&o, BLK_FORMAT_RAW, false);
	assert_int_equal(one_run(&o, &r), -EINVAL);
	r.off = UINT64_MAX - 100;
	assert_int_equal(one_run(&o, &r), -EINVAL);
	r.off = 0;
	r.len = 1024; /* more than the iovec holds */
	assert_int_equal(one_run(&o, &r), -EINVAL);
	one_close(&o);
}

static void write_to_a_readonly_disk_is_refused(void **state)
{
	uint8_t buf[512] = { 1 };
	struct iovec iov = { buf, sizeof(buf) };
	struct blk_req r = { .op = BLK_OP_WRITE, .len = 512, .iov = &iov, .iovcnt = 1 };
	struct one o;

	one_open(&o, BLK_FORMAT_QCOW2, true);
	assert_int_equal(one_run(&o, &r), -EROFS);
	one_close(&o);
}

static void probed_raw_disk_refuses_an_image_header(void **state)
{
	uint8_t buf[1024] = "QFI\xfb";
	struct iovec iov = { buf, sizeof(buf) };
	struct blk_req r = { .op = BLK_OP_WRITE, .len = 1024, .iov = &iov, .iovcnt = 1 };
	struct blk_stats st;
	struct one o;

	one_open(&o, BLK_FORMAT_PROBE, false);
	assert_int_equal(one_run(&o, &r), -EIO);
	blk_get_stats(o.b, &st);
	assert_int_equal(st.guard_refusals, 1);
	buf[0] = 'X';
	assert_int_equal(one_run(&o, &r), 0);
	buf[0] = 'Q'; /* by a part of the sector, too */
	iov.iov_len = r.len = 1;
	assert_int_equal(one_run(&o, &r), -EIO);
	one_close(&o);
}

static void one_request_covers_the_whole_disk(void **state)
{
	uint8_t *buf = malloc(DISK), *back = malloc(DISK);
	struct iovec iov = { buf, DISK }, in = { back, DISK };
	struct blk_req w = { .op = BLK_OP_WRITE, .len = DISK, .iov = &iov, .iovcnt = 1 };
	struct blk_req rd = { .op = BLK_OP_READ, .len = DISK, .iov = &in, .iovcnt = 1 };
	struct blk_req f = { .op = BLK_OP_FLUSH };
	struct one o;

	memset(buf, 0x5c, DISK);
	one_open(&o, BLK_FORMAT_QCOW2, false);
	assert_int_equal(one_run(&o, &w), 0);
	assert_true(atomic_load(&o.b->meta_dirty));
	assert_int_equal(one_run(&o, &f), 0);
	assert_false(atomic_load(&o.b->meta_dirty));
	assert_int_equal(one_run(&o, &rd), 0);
	assert_memory_equal(buf, back, DISK);
	one_close(&o);
	free(buf);
	free(back);
}

static void an_idle_image_is_published_by_itself(void **state)
{
	uint8_t buf[4096] = { 1 };
	struct iovec iov = { buf, sizeof(buf) };
	struct blk_req w = { .op = BLK_OP_WRITE, .len = 4096, .iov = &iov, .iovcnt = 1 };
	struct one o;

	one_open(&o, BLK_FORMAT_QCOW2, false);
	assert_int_equal(one_run(&o, &w), 0);
	assert_true(atomic_load(&o.b->meta_dirty));
	for (int i = 0; i < 100 && atomic_load(&o.b->meta_dirty); i++)
		usleep(50000);
	assert_false(atomic_load(&o.b->meta_dirty));
	one_close(&o);
}

static void writethrough_writes_are_published_when_done(void **state)
{
	uint8_t buf[4096] = { 1 };
	struct iovec iov = { buf, sizeof(buf) };
	struct blk_req w = { .op = BLK_OP_WRITE, .len = 4096, .iov = &iov, .iovcnt = 1 };
	struct one o;

	one_open(&o, BLK_FORMAT_QCOW2, false);
	o.b->cache = BLK_CACHE_WRITETHROUGH;
	for (w.off = 0; w.off < KIB(512); w.off += KIB(32)) {
		assert_int_equal(one_run(&o, &w), 0);
		assert_false(atomic_load(&o.b->meta_dirty));
	}
	one_close(&o);
}

/* A write that finds the disk full leaves no reservation behind for others to wait on. */
static void a_failed_write_lets_go_of_its_clusters(void **state)
{
	uint8_t buf[4096] = { 1 };
	struct iovec iov = { NULL, sizeof(buf) };
	struct blk_req w = { .op = BLK_OP_WRITE, .len = 4096, .iov = &iov, .iovcnt = 1 };
	struct blk_check chk;
	struct err e = { 0 };
	struct one o;

	one_open(&o, BLK_FORMAT_QCOW2, false);
	assert_int_equal(one_run(&o, &w), -EFAULT);
	iov.iov_base = buf;
	assert_int_equal(one_run(&o, &w), 0);
	blk_queue_close(o.io.q);
	assert_int_equal(blk_check(o.b, &chk, &e), 0);
	assert_int_equal(chk.corruptions + chk.leaks, 0);
	pool_io_stop(&o.io);
	assert_int_equal(blk_close(o.b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_past_the_end_is_refused),
		cmocka_unit_test(write_to_a_readonly_disk_is_refused),
		cmocka_unit_test(probed_raw_disk_refuses_an_image_header),
		cmocka_unit_test(one_request_covers_the_whole_disk),
		cmocka_unit_test(an_idle_image_is_published_by_itself),
		cmocka_unit_test(writethrough_writes_are_published_when_done),
		cmocka_unit_test(a_failed_write_lets_go_of_its_clusters),
		cmocka_unit_test(queues_on_raw),
		cmocka_unit_test(queues_share_64k_clusters),
		cmocka_unit_test(queues_share_an_overlay),
		cmocka_unit_test(queues_cross_small_clusters),
		cmocka_unit_test(queues_with_tables_evicted),
		cmocka_unit_test(queues_with_o_direct),
		cmocka_unit_test(queues_with_o_direct_and_tiny_clusters),
		cmocka_unit_test(queue_on_deflate_clusters),
		cmocka_unit_test(queue_on_zstd_clusters),
		cmocka_unit_test(queue_on_an_image_with_a_snapshot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
