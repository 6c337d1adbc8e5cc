/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/virtio_config.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "../../../support/vq_fixture.h"

#define FEATURES (BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC))
#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

static int setup(void **state)
{
	static struct vq_fixture f;

	vqf_init(&f, FEATURES);
	*state = &f;
	return 0;
}

static int setup_event_idx(void **state)
{
	static struct vq_fixture f;

	vqf_init(&f, FEATURES | BIT64(VIRTIO_RING_F_EVENT_IDX));
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	vqf_fini(*state);
	return 0;
}

static void pop_expect(struct vq_fixture *f, int r)
{
	assert_int_equal(vq_pop(&f->vq, &f->chain), r);
	if (r && r != -EAGAIN) {
		assert_true(f->vq.broken);
		assert_int_equal(f->vq.used_idx, 0);
		assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);	/* and stays so */
	}
}

static void start_rejects_bad_sizes_and_alignment(void **state)
{
	struct vq_fixture *f = *state;
	struct virtqueue vq;
	uint64_t d = VQF_DESC_GPA, a = VQF_AVAIL_GPA, u = VQF_USED_GPA;

	assert_int_equal(vq_start(&vq, &f->gmem, 0, d, a, u, 0), -EINVAL);
	assert_int_equal(vq_start(&vq, &f->gmem, 6, d, a, u, 0), -EINVAL);
	assert_int_equal(vq_start(&vq, &f->gmem, 2048, d, a, u, 0), -EINVAL);
	assert_int_equal(vq_start(&vq, &f->gmem, 8, d + 8, a, u, 0), -EINVAL);
	assert_int_equal(vq_start(&vq, &f->gmem, 8, d, a + 1, u, 0), -EINVAL);
	assert_int_equal(vq_start(&vq, &f->gmem, 8, d, a, u + 2, 0), -EINVAL);
	assert_int_equal(vq_start(&vq, &f->gmem, 8, 0, a, u, 0), -EFAULT);
	assert_int_equal(vq_start(&vq, &f->gmem, 8, d, VQF_BASE + VQF_MEM_LEN - 4, u, 0), -EFAULT);
	assert_int_equal(vq_start(&vq, &f->gmem, 8, d, a, UINT64_MAX - 3, 0), -EFAULT);
}

static void pop_finds_nothing_in_an_empty_ring(void **state)
{
	pop_expect(*state, -EAGAIN);
}

static void pop_gives_readable_then_writable_pieces(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 3, .len = 16, .flags = NEXT, .next = 1);
	vqf_desc(f, 1, .len = 100, .flags = NEXT | WRITE, .next = 7);
	vqf_desc(f, 7, .len = 1, .flags = WRITE);
	vqf_avail(f, 3);
	pop_expect(f, 0);
	assert_int_equal(f->chain.head, 3);
	assert_int_equal(f->chain.n_out, 1);
	assert_int_equal(f->chain.n_in, 2);
	assert_int_equal(f->chain.bytes_out, 16);
	assert_int_equal(f->chain.bytes_in, 101);
	assert_ptr_equal(f->iov[0].iov_base, vqf_ptr(f, VQF_DATA_GPA + 256 * 3));
	assert_ptr_equal(f->iov[2].iov_base, vqf_ptr(f, VQF_DATA_GPA + 256 * 7));
	pop_expect(f, -EAGAIN);
}

static void pop_rejects_looping_chain(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 0, .len = 8, .flags = NEXT, .next = 1);
	vqf_desc(f, 1, .len = 8, .flags = NEXT, .next = 0);
	vqf_avail(f, 0);
	pop_expect(f, -EPROTO);
}

static void pop_rejects_loop_of_empty_descriptors(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 0, .len = 0, .flags = NEXT, .next = 0);
	vqf_avail(f, 0);
	pop_expect(f, -EPROTO);
}

static void pop_rejects_head_out_of_range(void **state)
{
	vqf_avail(*state, VQF_SIZE);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_next_out_of_range(void **state)
{
	vqf_desc(*state, 0, .len = 8, .flags = NEXT, .next = VQF_SIZE);
	vqf_avail(*state, 0);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_available_index_too_far_ahead(void **state)
{
	struct vq_fixture *f = *state;

	vqf_avail_ring(f)->idx = VQF_SIZE + 1;
	pop_expect(f, -EPROTO);
}

static void pop_rejects_memory_that_is_not_there(void **state)
{
	vqf_desc(*state, 0, .addr = VQF_BASE + VQF_MEM_LEN - 4, .len = 8);
	vqf_avail(*state, 0);
	pop_expect(*state, -EFAULT);
}

static void pop_rejects_address_wrap(void **state)
{
	vqf_desc(*state, 0, .addr = UINT64_MAX - 3, .len = 8);
	vqf_avail(*state, 0);
	pop_expect(*state, -EFAULT);
}

static void pop_rejects_readable_after_writable(void **state)
{
	vqf_desc(*state, 0, .len = 8, .flags = WRITE | NEXT, .next = 1);
	vqf_desc(*state, 1, .len = 8);
	vqf_avail(*state, 0);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_more_pieces_than_there_is_room(void **state)
{
	struct vq_fixture *f = *state;

	f->chain.iov_max = 1;
	vqf_desc(f, 0, .len = 8, .flags = NEXT, .next = 1);
	vqf_desc(f, 1, .len = 8);
	vqf_avail(f, 0);
	pop_expect(f, -E2BIG);
	f->chain.iov_max = 64;
}

static void pop_rejects_more_in_flight_than_descriptors(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 0, .len = 8);
	for (unsigned i = 0; i < VQF_SIZE; i++) {
		vqf_avail(f, 0);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
	}
	vqf_avail(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	assert_true(f->vq.broken);
}

static void pop_follows_indirect_table(void **state)
{
	struct vq_fixture *f = *state;

	vqf_indirect(f, 0, .len = 16, .flags = NEXT, .next = 1);
	vqf_indirect(f, 1, .len = 32, .flags = WRITE);
	vqf_desc(f, 5, .addr = VQF_TABLE_GPA, .len = 32, .flags = INDIRECT | WRITE);
	vqf_avail(f, 5);
	pop_expect(f, 0);
	assert_int_equal(f->chain.head, 5);
	assert_int_equal(f->chain.bytes_out, 16);
	assert_int_equal(f->chain.bytes_in, 32);
}

static void pop_follows_indirect_table_behind_direct_descriptors(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 0, .len = 16, .flags = NEXT, .next = 1);
	vqf_desc(f, 1, .addr = VQF_TABLE_GPA, .len = 16, .flags = INDIRECT);
	vqf_indirect(f, 0, .len = 64, .flags = WRITE);
	vqf_avail(f, 0);
	pop_expect(f, 0);
	assert_int_equal(f->chain.bytes_in, 64);
}

static void pop_rejects_indirect_that_was_not_negotiated(void **state)
{
	struct vq_fixture *f = *state;

	f->vq.indirect = false;
	vqf_desc(f, 0, .addr = VQF_TABLE_GPA, .len = 16, .flags = INDIRECT);
	vqf_avail(f, 0);
	pop_expect(f, -EPROTO);
}

static void pop_rejects_indirect_in_indirect(void **state)
{
	vqf_indirect(*state, 0, .addr = VQF_TABLE_GPA, .len = 16, .flags = INDIRECT);
	vqf_desc(*state, 0, .addr = VQF_TABLE_GPA, .len = 16, .flags = INDIRECT);
	vqf_avail(*state, 0);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_indirect_with_next(void **state)
{
	vqf_desc(*state, 0, .addr = VQF_TABLE_GPA, .len = 16, .flags = INDIRECT | NEXT, .next = 1);
	vqf_avail(*state, 0);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_odd_indirect_length(void **state)
{
	vqf_desc(*state, 0, .addr = VQF_TABLE_GPA, .len = 24, .flags = INDIRECT);
	vqf_avail(*state, 0);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_empty_indirect_table(void **state)
{
	vqf_desc(*state, 0, .addr = VQF_TABLE_GPA, .len = 0, .flags = INDIRECT);
	vqf_avail(*state, 0);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_indirect_table_larger_than_queue(void **state)
{
	vqf_desc(*state, 0, .addr = VQF_TABLE_GPA, .len = 16 * (VQF_SIZE + 1), .flags = INDIRECT);
	vqf_avail(*state, 0);
	pop_expect(*state, -EPROTO);
}

static void pop_rejects_indirect_table_outside_memory(void **state)
{
	vqf_desc(*state, 0, .addr = 0x10, .len = 16, .flags = INDIRECT);
	vqf_avail(*state, 0);
	pop_expect(*state, -EFAULT);
}

static void pop_takes_misaligned_indirect_table(void **state)
{
	struct vq_fixture *f = *state;
	struct vring_desc d = { .addr = VQF_DATA_GPA, .len = 9, .flags = WRITE };

	memcpy(vqf_ptr(f, VQF_TABLE_GPA + 3), &d, sizeof(d));
	vqf_desc(f, 0, .addr = VQF_TABLE_GPA + 3, .len = 16, .flags = INDIRECT);
	vqf_avail(f, 0);
	pop_expect(f, 0);
	assert_int_equal(f->chain.bytes_in, 9);
}

static void pop_rejects_chain_of_four_gigabytes(void **state)
{
	static struct gmem_table big = { .n = 1 };
	struct vq_fixture *f = *state;
	struct gmem_table *old = atomic_load(&f->gmem.table);

	/* Only addresses are computed: nothing touches what is not mapped. */
	big.region[0] = (struct gmem_region){ .gpa = VQF_BASE, .size = GIB(8), .hva = f->mem };
	vqf_desc(f, 0, .len = UINT32_MAX, .flags = NEXT, .next = 1);
	vqf_desc(f, 1, .len = UINT32_MAX);
	vqf_avail(f, 0);
	atomic_store(&f->gmem.table, &big);
	pop_expect(f, -EPROTO);
	atomic_store(&f->gmem.table, old);
}

static void pop_splits_buffer_across_regions(void **state)
{
	struct vq_fixture *f = *state;
	struct gmem_table *old = atomic_load(&f->gmem.table);
	struct gmem_table two = { .n = 2 };

	/* The same memory as two regions that lie side by side. */
	two.region[0] = (struct gmem_region){ .gpa = VQF_BASE, .size = 0x8000, .hva = f->mem };
	two.region[1] = (struct gmem_region){ .gpa = VQF_BASE + 0x8000, .size = VQF_MEM_LEN - 0x8000,
					      .hva = f->mem + 0x8000 };
	vqf_desc(f, 0, .addr = VQF_BASE + 0x7ff0, .len = 0x30, .flags = WRITE);
	vqf_avail(f, 0);
	atomic_store(&f->gmem.table, &two);
	pop_expect(f, 0);
	assert_int_equal(f->chain.n_in, 2);
	assert_int_equal(f->iov[0].iov_len, 0x10);
	assert_int_equal(f->iov[1].iov_len, 0x20);
	atomic_store(&f->gmem.table, old);
}

static void unpop_gives_the_same_chain_again(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 2, .len = 8);
	vqf_avail(f, 2);
	pop_expect(f, 0);
	vq_unpop(&f->vq);
	pop_expect(f, 0);
	assert_int_equal(f->chain.head, 2);
}

static void used_entries_appear_on_publish_only(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 2, .len = 8, .flags = WRITE);
	vqf_avail(f, 2);
	pop_expect(f, 0);
	vq_push(&f->vq, 2, 8);
	assert_int_equal(vqf_used_ring(f)->idx, 0);
	vq_publish(&f->vq);
	assert_int_equal(vqf_used_ring(f)->idx, 1);
	assert_int_equal(vqf_used_ring(f)->ring[0].id, 2);
	assert_int_equal(vqf_used_ring(f)->ring[0].len, 8);
	assert_true(vq_need_irq(&f->vq));
	assert_false(vq_need_irq(&f->vq));	/* nothing new since */
}

static void broken_queue_publishes_nothing(void **state)
{
	struct vq_fixture *f = *state;

	vqf_desc(f, 2, .len = 8);
	vqf_avail(f, 2);
	vqf_avail(f, 200);
	pop_expect(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	vq_push(&f->vq, 2, 0);
	vq_publish(&f->vq);
	assert_int_equal(vqf_used_ring(f)->idx, 0);
	assert_false(vq_need_irq(&f->vq));
}

static void complete(struct vq_fixture *f)
{
	vqf_desc(f, 0, .len = 8);
	vqf_avail(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
	vq_push(&f->vq, 0, 0);
}

static void no_interrupt_flag_is_honoured(void **state)
{
	struct vq_fixture *f = *state;

	vqf_avail_ring(f)->flags = VRING_AVAIL_F_NO_INTERRUPT;
	complete(f);
	vq_publish(&f->vq);
	assert_false(vq_need_irq(&f->vq));
}

static void used_event_chooses_the_interrupt(void **state)
{
	struct vq_fixture *f = *state;
	uint16_t *used_event = &vqf_avail_ring(f)->ring[VQF_SIZE];

	*used_event = 2;	/* "interrupt me for the third" */
	for (unsigned i = 0; i < 5; i++) {
		complete(f);
		vq_publish(&f->vq);
		assert_int_equal(vq_need_irq(&f->vq), i == 2);
	}
	*used_event = 7;
	for (unsigned i = 0; i < 5; i++)	/* a batch that passes it */
		complete(f);
	vq_publish(&f->vq);
	assert_true(vq_need_irq(&f->vq));
}

static void kicks_are_switched_by_flag(void **state)
{
	struct vq_fixture *f = *state;

	vq_kicks_off(&f->vq);
	assert_int_equal(vqf_used_ring(f)->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(vq_kicks_on(&f->vq));
	assert_int_equal(vqf_used_ring(f)->flags, 0);
	vqf_desc(f, 0, .len = 8);
	vqf_avail(f, 0);
	assert_true(vq_kicks_on(&f->vq));
}

static void kicks_are_switched_by_avail_event(void **state)
{
	struct vq_fixture *f = *state;
	const uint16_t *avail_event = (const uint16_t *)&vqf_used_ring(f)->ring[VQF_SIZE];

	for (unsigned i = 0; i < 3; i++)
		complete(f);
	vq_kicks_off(&f->vq);
	assert_int_equal(*avail_event, 0);
	assert_int_equal(vqf_used_ring(f)->flags, 0);
	assert_false(vq_kicks_on(&f->vq));
	assert_int_equal(*avail_event, 3);
}

static void writes_are_logged_dirty(void **state)
{
	struct vq_fixture *f = *state;
	uint64_t map[(VQF_BASE + VQF_MEM_LEN) / 4096 / 64 + 1] = { 0 };
	uint64_t page = VQF_DATA_GPA / 4096;

	atomic_store(&f->gmem.dirty, map);
	vqf_desc(f, 0, .len = 8192, .flags = WRITE);
	vqf_avail(f, 0);
	pop_expect(f, 0);
	vq_done_write(&f->vq, f->iov, 1, 4097);
	vq_push(&f->vq, 0, 4097);
	vq_publish(&f->vq);
	atomic_store(&f->gmem.dirty, NULL);
	assert_true(map[page / 64] >> page % 64 & 1);
	assert_true(map[(page + 1) / 64] >> (page + 1) % 64 & 1);
	page = VQF_USED_GPA / 4096;
	assert_true(map[page / 64] >> page % 64 & 1);
	page = VQF_DESC_GPA / 4096;
	assert_false(map[page / 64] >> page % 64 & 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_EVENT_IDX(name) cmocka_unit_test_setup_teardown(name, setup_event_idx, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(start_rejects_bad_sizes_and_alignment),
		TEST(pop_finds_nothing_in_an_empty_ring),
		TEST(pop_gives_readable_then_writable_pieces),
		TEST(pop_rejects_looping_chain),
		TEST(pop_rejects_loop_of_empty_descriptors),
		TEST(pop_rejects_head_out_of_range),
		TEST(pop_rejects_next_out_of_range),
		TEST(pop_rejects_available_index_too_far_ahead),
		TEST(pop_rejects_memory_that_is_not_there),
		TEST(pop_rejects_address_wrap),
		TEST(pop_rejects_readable_after_writable),
		TEST(pop_rejects_more_pieces_than_there_is_room),
		TEST(pop_rejects_more_in_flight_than_descriptors),
		TEST(pop_follows_indirect_table),
		TEST(pop_follows_indirect_table_behind_direct_descriptors),
		TEST(pop_rejects_indirect_that_was_not_negotiated),
		TEST(pop_rejects_indirect_in_indirect),
		TEST(pop_rejects_indirect_with_next),
		TEST(pop_rejects_odd_indirect_length),
		TEST(pop_rejects_empty_indirect_table),
		TEST(pop_rejects_indirect_table_larger_than_queue),
		TEST(pop_rejects_indirect_table_outside_memory),
		TEST(pop_takes_misaligned_indirect_table),
		TEST(pop_rejects_chain_of_four_gigabytes),
		TEST(pop_splits_buffer_across_regions),
		TEST(unpop_gives_the_same_chain_again),
		TEST(used_entries_appear_on_publish_only),
		TEST(broken_queue_publishes_nothing),
		TEST(no_interrupt_flag_is_honoured),
		TEST_EVENT_IDX(used_event_chooses_the_interrupt),
		TEST(kicks_are_switched_by_flag),
		TEST_EVENT_IDX(kicks_are_switched_by_avail_event),
		TEST(writes_are_logged_dirty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
