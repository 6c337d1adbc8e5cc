/* SPDX-License-Identifier: MIT */
#include "vq_fixture.h"

#include <stdlib.h>
#include <string.h>

void vqf_init(struct vq_fixture *f, uint64_t features)
{
	int r;

	memset(f, 0, sizeof(*f));
	f->mem = aligned_alloc(4096, VQF_MEM_LEN);
	memset(f->mem, 0, VQF_MEM_LEN);
	r = gmem_init_flat(&f->gmem, VQF_BASE, f->mem, VQF_MEM_LEN);
	assert(!r);
	r = vq_start(&f->vq, &f->gmem, VQF_SIZE, VQF_DESC_GPA, VQF_AVAIL_GPA, VQF_USED_GPA,
		     features);
	assert(!r);
	f->chain.iov = f->iov;
	f->chain.iov_max = ARRAY_SIZE(f->iov);
}

void vqf_fini(struct vq_fixture *f)
{
	gmem_fini(&f->gmem);
	free(f->mem);
}

void *vqf_ptr(struct vq_fixture *f, uint64_t gpa)
{
	return f->mem + (gpa - VQF_BASE);
}

void vqf_set_desc(struct vq_fixture *f, uint64_t table, unsigned i, struct vring_desc d)
{
	if (!d.addr)
		d.addr = VQF_DATA_GPA + 256 * i;
	memcpy((char *)vqf_ptr(f, table) + i * sizeof(d), &d, sizeof(d));
}

struct vring_avail *vqf_avail_ring(struct vq_fixture *f)
{
	return vqf_ptr(f, VQF_AVAIL_GPA);
}

struct vring_used *vqf_used_ring(struct vq_fixture *f)
{
	return vqf_ptr(f, VQF_USED_GPA);
}

void vqf_avail(struct vq_fixture *f, uint16_t head)
{
	struct vring_avail *a = vqf_avail_ring(f);

	a->ring[f->avail_idx++ % VQF_SIZE] = head;
	a->idx = f->avail_idx;
}
