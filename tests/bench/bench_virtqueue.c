/* SPDX-License-Identifier: MIT */
/* bench_virtqueue - chains popped and pushed per second, one thread; one JSON line a case. */
#include <linux/virtio_config.h>
#include <stdio.h>
#include <time.h>

#include "../support/vq_fixture.h"

#define ROUNDS 4000000u

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void run_case(const char *name, bool indirect)
{
	struct vq_fixture f;
	double start;

	vqf_init(&f, BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |
			     BIT64(VIRTIO_RING_F_INDIRECT_DESC));
	for (unsigned i = 0; i < 3; i++) {
		struct vring_desc d = { .addr = VQF_DATA_GPA + 4096 * i, .len = 512,
					.flags = (i < 2 ? VRING_DESC_F_NEXT : 0) |
						 (i ? VRING_DESC_F_WRITE : 0),
					.next = (uint16_t)(i + 1) };

		vqf_set_desc(&f, indirect ? VQF_TABLE_GPA : VQF_DESC_GPA, i, d);
	}
	if (indirect)
		vqf_desc(&f, 0, .addr = VQF_TABLE_GPA, .len = 48, .flags = VRING_DESC_F_INDIRECT);
	start = now();
	for (unsigned i = 0; i < ROUNDS; i++) {
		vqf_avail(&f, 0);
		if (vq_pop(&f.vq, &f.chain))
			return;
		vq_push(&f.vq, f.chain.head, 513);
		vq_publish(&f.vq);
		(void)vq_need_irq(&f.vq);
	}
	printf("{\"bench\":\"virtqueue\",\"case\":\"%s\",\"ns_per_chain\":%.1f}\n", name,
	       (now() - start) * 1e9 / ROUNDS);
	vqf_fini(&f);
}

int main(void)
{
	run_case("direct", false);
	run_case("indirect", true);
	return 0;
}
