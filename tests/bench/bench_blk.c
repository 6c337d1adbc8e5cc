/* SPDX-License-Identifier: MIT */
/*
 * bench_blk - virtio-blk end to end without a guest: this thread plays a polling driver
 * against a page-cached file; one JSON line a case.
 *
 * usage: bench_blk [FILE [SECONDS]]     FILE: raw or qcow2, 256 MiB or more; default: a temporary
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../support/vmachine.h"
#include "virtio/blk.h"

#define AREA_LEN MIB(256)
#define DEPTH_MAX 64
#define QUEUE_SIZE 256

struct bench_case {
	const char *name;
	uint32_t type;
	uint32_t block;		/* bytes */
	unsigned depth;
	bool sequential;
};
struct bench {
	struct vmachine m;
	struct iothread *thread;
	struct blk *blk;
	struct drv d;
	uint64_t slot_gpa[DEPTH_MAX];	/* header, status, indirect table */
	uint64_t data_gpa[DEPTH_MAX];
	uint16_t slot_of_head[QUEUE_SIZE];
	uint64_t seq;
	uint64_t rnd;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what, const struct err *e)
{
	fprintf(stderr, "bench_blk: %s: %s\n", what, e->msg);
	exit(1);
}

static int temporary(char *path)
{
	static uint8_t block[MIB(1)];
	int fd = mkstemp(path);

	memset(block, 0x5a, sizeof(block));
	for (unsigned i = 0; i < AREA_LEN / sizeof(block); i++)
		if (write(fd, block, sizeof(block)) != sizeof(block))
			exit(1);
	fdatasync(fd);
	unlink(path);
	return fd;
}

static void bench_init(struct bench *b, const char *file)
{
	char path[] = "/var/tmp/hv-bench-XXXXXX";
	struct blk_open bo = { .path = file ? file : path };
	struct iothread_cfg tc = { .name = "io", .poll_us = IOTHREAD_POLL_US,
				   .no_uring = getenv("NO_URING") != NULL };
	struct virtio_blk_cfg cfg = { .threads = &b->thread, .n_threads = 1 };
	struct virtio_dev *dev;
	struct err e = { 0 };

	bo.fd = file ? open(file, O_RDWR | O_CLOEXEC) : temporary(path);
	if (blk_open(&bo, &b->blk, &e))
		die("open", &e);
	if (blk_size(b->blk) < AREA_LEN)
		exit(2);
	vm_init(&b->m);
	if (iothread_new(&tc, &b->thread, &e))
		die("thread", &e);
	cfg.blk = b->blk;
	if (virtio_blk_new(&cfg, &dev, &e) ||
	    virtio_pci_add(&b->m.pci, dev, &b->m.gmem, &b->m.irq, &e) ||
	    iothread_start(b->thread, &e))
		die("device", &e);
	drv_find(&b->d, &b->m, 1);
}

static void submit(struct bench *b, const struct bench_case *c, unsigned slot)
{
	uint64_t blocks = AREA_LEN / c->block;
	uint64_t at = (c->sequential ? b->seq++ : (b->rnd = b->rnd * 6364136223846793005u + 1) >> 33) %
		      blocks;
	uint64_t gpa = b->slot_gpa[slot];
	struct virtio_blk_outhdr *h = vm_ptr(&b->m, gpa);
	struct drv_buf buf[] = { { gpa, 16, false },
				 { b->data_gpa[slot], c->block, c->type == VIRTIO_BLK_T_IN },
				 { gpa + 16, 1, true } };

	*h = (struct virtio_blk_outhdr){ .type = c->type, .sector = at * (c->block / 512) };
	b->slot_of_head[drv_add_indirect(&b->d, 0, gpa + 64, buf, 3)] = (uint16_t)slot;
}

static void run_case(struct bench *b, const struct bench_case *c, double seconds)
{
	struct drv_queue *q = &b->d.q[0];
	uint64_t done = 0, mark = b->m.ram_next;
	double start, took;

	for (unsigned i = 0; i < c->depth; i++) {
		b->slot_gpa[i] = vm_alloc(&b->m, 128, 64);
		b->data_gpa[i] = vm_alloc(&b->m, c->block > MIB(1) / 2 ? c->block / 2 : c->block,
					  4096);
	}
	drv_start(&b->d, ~BIT64(VIRTIO_F_RING_PACKED), 1, QUEUE_SIZE);
	q->avail->ring[QUEUE_SIZE] = 0x8000;	/* polls: no interrupts */
	q->event_idx = true;
	b->seq = 0;
	for (unsigned i = 0; i < c->depth; i++)
		submit(b, c, i);
	drv_publish(&b->d, 0);
	start = now();
	do {
		for (unsigned n = 0; n < 1000;) {
			unsigned got = 0;

			while (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) != q->used_seen) {
				uint32_t head = q->used->ring[q->used_seen++ % QUEUE_SIZE].id;

				submit(b, c, b->slot_of_head[head]);
				got++;
			}
			if (got) {
				q->avail->ring[QUEUE_SIZE] = (uint16_t)(q->used_seen + 0x8000);
				drv_publish(&b->d, 0);
				n += got;
				done += got;
			} else {
				__builtin_ia32_pause();
			}
			if (!got && now() - start > seconds)
				break;
		}
		took = now() - start;
	} while (took < seconds);
	printf("{\"bench\":\"blk\",\"format\":\"%s\",\"case\":\"%s\",\"depth\":%u,\"block\":%u,"
	       "\"iops\":%.0f,\"mib_s\":%.0f}\n",
	       blk_format_name(b->blk), c->name, c->depth, c->block, (double)done / took,
	       (double)done * c->block / took / MIB(1));
	fflush(stdout);
	drv_reset(&b->d);
	b->m.ram_next = mark;
}

int main(int argc, char **argv)
{
	static const struct bench_case cases[] = {
		{ "randread", VIRTIO_BLK_T_IN, 4096, 32, false },
		{ "randread", VIRTIO_BLK_T_IN, 4096, 1, false },
		{ "seqread", VIRTIO_BLK_T_IN, MIB(1) / 2, 8, true },
		{ "randwrite", VIRTIO_BLK_T_OUT, 4096, 32, false },
		{ "randwrite", VIRTIO_BLK_T_OUT, 4096, 1, false },
	};
	static struct bench b = { .rnd = 42 };
	double seconds = argc > 2 ? atof(argv[2]) : 2;

	bench_init(&b, argc > 1 && *argv[1] ? argv[1] : NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		run_case(&b, &cases[i], seconds);
	pci_bus_quiesce(&b.m.pci);
	vm_fini(&b.m);
	iothread_free(b.thread);
	return blk_close(b.blk) ? 1 : 0;
}
