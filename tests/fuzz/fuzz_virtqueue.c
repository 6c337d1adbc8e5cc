/* SPDX-License-Identifier: MIT */
/*
 * Rings, descriptor tables and virtio-blk requests from a hostile driver.
 *
 * Input: a byte of flags, then guest memory from GPA 0 on: descriptor table, available
 * ring, used ring, and behind them whatever descriptors point to.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk_req.h"
#include "virtio/virtqueue.h"

#define MEM_LEN 4096
#define SPLIT 2048	/* the memory is two regions side by side */
#define DESC 0
#define AVAIL 256
#define USED 320
#define QUEUE_SIZE 16
#define DISK_LEN MIB(1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const struct vq_chain *c)
{
	for (unsigned i = 0; i < c->n_out + c->n_in; i++) {
		const struct iovec *v = &c->iov[i];

		assert(v->iov_len);
		if (i < c->n_out)
			(void)*(volatile uint8_t *)v->iov_base;
		else
			memset(v->iov_base, 0xa5, v->iov_len);
	}
}

static void one_request(struct vq_chain *c)
{
	struct vblk_header h;
	struct vblk_range r;
	struct iovec *iov;
	uint8_t *status;
	uint64_t len, off;
	unsigned n;

	if (vblk_parse(c, &h, &iov, &n, &len, &status))
		return;
	assert(iov_total(iov, n) == len);
	*status = 0;
	if (vblk_io_range(&h, len, DISK_LEN, &off))
		assert(off + len <= DISK_LEN && off % SECTOR_LEN == 0);
	if (h.type == VIRTIO_BLK_T_DISCARD || h.type == VIRTIO_BLK_T_WRITE_ZEROES) {
		struct iov_cursor at = iov_begin(iov, n);

		while (vblk_next_range(&at, h.type, DISK_LEN, DISK_LEN / 2, &r) == 0)
			assert(r.off + r.len <= DISK_LEN && r.len <= DISK_LEN / 2);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(4096) uint8_t mem[MEM_LEN];
	struct gmem_table t = { .n = 2,
				.region = { { .gpa = 0, .size = SPLIT, .hva = mem },
					    { .gpa = SPLIT, .size = MEM_LEN - SPLIT,
					      .hva = mem + SPLIT } } };
	struct gmem g = { .total_bytes = MEM_LEN };
	struct iovec iov[64];
	struct vq_chain c = { .iov = iov, .iov_max = ARRAY_SIZE(iov) };
	struct virtqueue vq;
	uint64_t features = 0;

	if (!size)
		return 0;
	if (data[0] & 1)
		features |= BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	if (data[0] & 2)
		features |= BIT64(VIRTIO_RING_F_EVENT_IDX);
	memset(mem, 0, sizeof(mem));
	memcpy(mem, data + 1, MIN(size - 1, sizeof(mem)));
	atomic_store(&g.table, &t);
	if (vq_start(&vq, &g, QUEUE_SIZE, DESC, AVAIL, USED, features))
		abort();
	for (unsigned i = 0; i < 64; i++) {
		if (vq_pop(&vq, &c))
			break;
		assert(c.n_out + c.n_in <= ARRAY_SIZE(iov));
		if (data[0] & 4)
			touch(&c);	/* may overwrite the rings: the driver asked for it */
		one_request(&c);
		vq_push(&vq, c.head, (uint32_t)c.bytes_in);
		vq_publish(&vq);
		(void)vq_need_irq(&vq);
		(void)vq_kicks_on(&vq);
		vq_kicks_off(&vq);
	}
	return 0;
}
