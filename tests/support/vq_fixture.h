/* SPDX-License-Identifier: MIT */
/* vq_fixture.h - a split virtqueue in plain memory, driver's side by hand. */
#ifndef HV_TESTS_VQ_FIXTURE_H
#define HV_TESTS_VQ_FIXTURE_H

#include <linux/virtio_ring.h>

#include "virtio/virtqueue.h"

#define VQF_BASE UINT64_C(0x100000)	/* GPA of the one region */
#define VQF_MEM_LEN 0x20000
#define VQF_SIZE 8
#define VQF_DESC_GPA VQF_BASE
#define VQF_AVAIL_GPA (VQF_BASE + 0x1000)
#define VQF_USED_GPA (VQF_BASE + 0x2000)
#define VQF_DATA_GPA (VQF_BASE + 0x4000)
#define VQF_TABLE_GPA (VQF_BASE + 0x3000)	/* for indirect tables */

struct vq_fixture {
	uint8_t *mem;
	struct gmem gmem;
	struct virtqueue vq;
	uint16_t avail_idx;
	struct iovec iov[64];
	struct vq_chain chain;	/* iov set, for vq_pop() */
};

void vqf_init(struct vq_fixture *f, uint64_t features);
void vqf_fini(struct vq_fixture *f);
void *vqf_ptr(struct vq_fixture *f, uint64_t gpa);
void vqf_set_desc(struct vq_fixture *f, uint64_t table, unsigned i, struct vring_desc d);
/* vqf_desc(f, 0, .len = 8, …): descriptor @i; without .addr its data are at VQF_DATA_GPA + 256 i. */
#define vqf_desc(f, i, ...) \
	vqf_set_desc(f, VQF_DESC_GPA, i, (struct vring_desc){ __VA_ARGS__ })
#define vqf_indirect(f, i, ...) \
	vqf_set_desc(f, VQF_TABLE_GPA, i, (struct vring_desc){ __VA_ARGS__ })
/** vqf_avail - make chain @head available. */
void vqf_avail(struct vq_fixture *f, uint16_t head);
struct vring_avail *vqf_avail_ring(struct vq_fixture *f);
struct vring_used *vqf_used_ring(struct vq_fixture *f);

#endif
