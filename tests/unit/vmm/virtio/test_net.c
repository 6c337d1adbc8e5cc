/* SPDX-License-Identifier: MIT */
/* virtio-net on a datagram socket pair, which keeps frames apart as a TAP does. */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../../support/vmachine.h"
#include "virtio/net.h"

#define SLOT 1
#define HDR 12
#define RX 0
#define TX 1
#define CTRL 2
#define BASE (BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) | \
	      BIT64(VIRTIO_NET_F_CTRL_VQ) | BIT64(VIRTIO_NET_F_CTRL_RX) | \
	      BIT64(VIRTIO_NET_F_CTRL_MAC_ADDR))
#define MERGE BIT64(VIRTIO_NET_F_MRG_RXBUF)
#define OFFLOADS (BIT64(VIRTIO_NET_F_CSUM) | BIT64(VIRTIO_NET_F_GUEST_CSUM) | \
		  BIT64(VIRTIO_NET_F_HOST_TSO4) | BIT64(VIRTIO_NET_F_GUEST_TSO4))

struct fixture {
	struct vmachine m;
	struct iothread *thread[2];
	struct virtio_dev *dev;
	struct drv d;
	int peer[2];		/* what the network sees, a pair each */
	uint64_t buf;		/* 512 KiB for the test */
};

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };

static struct fixture *fixture_new(unsigned pairs)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct iothread_cfg tc = { .name = "io", .poll_us = 20 };
	struct virtio_net_cfg cfg = { .pairs = pairs, .mtu = 1500, .threads = f->thread,
				      .n_threads = pairs,
				      .offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 };
	struct err e = { 0 };
	int tap[2];

	vm_init(&f->m);
	for (unsigned i = 0; i < pairs; i++) {
		int sv[2], size = 400000;

		assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
					    sv), 0);
		setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		tap[i] = sv[0];
		f->peer[i] = sv[1];
		assert_int_equal(iothread_new(&tc, &f->thread[i], &e), 0);
	}
	cfg.tap_fds = tap;
	memcpy(cfg.mac, mac, 6);
	assert_int_equal(virtio_net_new(&cfg, &f->dev, &e), 0);
	assert_int_equal(virtio_pci_add(&f->m.pci, f->dev, &f->m.gmem, &f->m.irq, &e), 0);
	for (unsigned i = 0; i < pairs; i++)
		assert_int_equal(iothread_start(f->thread[i], &e), 0);
	drv_find(&f->d, &f->m, SLOT);
	f->buf = vm_alloc(&f->m, 512 * 1024, 4096);
	return f;
}

static int setup(void **state)
{
	*state = fixture_new(1);
	return 0;
}

static int setup_mq(void **state)
{
	*state = fixture_new(2);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_bus_quiesce(&f->m.pci);
	vm_fini(&f->m);
	for (unsigned i = 0; i < 2; i++) {
		iothread_free(f->thread[i]);
		if (f->thread[i])
			close(f->peer[i]);
	}
	free(f);
	return 0;
}

static void frame(uint8_t *b, const uint8_t dst[6], size_t len, unsigned seed)
{
	memset(b, 0, HDR);
	for (size_t i = 0; i < len; i++)
		b[HDR + i] = (uint8_t)(seed + i);
	memcpy(b + HDR, dst, 6);
	memset(b + HDR + 6, 0x22, 6);
	b[HDR + 12] = 8;
	b[HDR + 13] = 0;
}

static void net_send(struct fixture *f, unsigned pair, const uint8_t dst[6], size_t len,
		     unsigned seed)
{
	uint8_t *b = malloc(HDR + len);

	frame(b, dst, len, seed);
	assert_int_equal(send(f->peer[pair], b, HDR + len, 0), HDR + len);
	free(b);
}

static ssize_t net_recv(struct fixture *f, unsigned pair, uint8_t *b, size_t len, int timeout_ms)
{
	struct pollfd p = { .fd = f->peer[pair], .events = POLLIN };

	if (poll(&p, 1, timeout_ms) != 1)
		return -1;
	return recv(f->peer[pair], b, len, 0);
}

static void give_buffers(struct fixture *f, unsigned qi, unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++) {
		struct drv_buf b = { f->buf + (uint64_t)i * len, len, true };

		drv_add(&f->d, qi, &b, 1);
	}
	drv_publish(&f->d, qi);
}

static void start(struct fixture *f, uint64_t features)
{
	drv_start(&f->d, BASE | features, 3, 64);
}

/* Send one frame from the guest; true if the network got it. */
static bool transmit(struct fixture *f, const struct virtio_net_hdr_v1 *h, uint32_t len)
{
	uint64_t at = f->buf + 256 * 1024;
	struct drv_buf b[] = { { at, HDR, false }, { at + HDR, 20, false },
			       { at + HDR + 20, len - 20, false } };
	uint8_t *p = vm_ptr(&f->m, at), got[70000];
	struct vring_used_elem u;
	ssize_t n;

	frame(p, mac, len, 5);
	memcpy(p, h, HDR);
	drv_add(&f->d, TX, b, 3);
	drv_publish(&f->d, TX);
	assert_true(drv_wait(&f->d, TX, &u));
	n = net_recv(f, 0, got, sizeof(got), 0);
	if (n < 0)
		return false;
	assert_int_equal(n, HDR + len);
	assert_memory_equal(got + HDR, p + HDR, len);
	return true;
}

static void frames_go_out(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 h = { 0 };

	start(f, 0);
	for (unsigned i = 0; i < 200; i++)
		assert_true(transmit(f, &h, 60 + i));
}

static void header_and_data_may_share_a_buffer(void **state)
{
	struct fixture *f = *state;
	struct drv_buf b[] = { { f->buf, 5, false }, { f->buf + 5, HDR - 5 + 60, false } };
	struct vring_used_elem u;
	uint8_t got[100];

	start(f, 0);
	frame(vm_ptr(&f->m, f->buf), mac, 60, 1);
	drv_add(&f->d, TX, b, 2);
	drv_publish(&f->d, TX);
	assert_true(drv_wait(&f->d, TX, &u));
	assert_int_equal(net_recv(f, 0, got, sizeof(got), 1000), HDR + 60);
	assert_memory_equal(got + HDR, (uint8_t *)vm_ptr(&f->m, f->buf) + HDR, 60);
}

static void hostile_headers_are_dropped(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 far = { .flags = 1, .csum_start = 60, .csum_offset = 16 },
				 good = { .flags = 1, .csum_start = 34, .csum_offset = 16 },
				 tso = { .flags = 1, .gso_type = 1, .gso_size = 1000, .hdr_len = 54,
					 .csum_start = 34, .csum_offset = 16 },
				 tso6 = tso, no_size = tso, no_csum = tso, long_hdr = tso;
	struct virtio_net_stats st;

	tso6.gso_type = 4;
	no_size.gso_size = 0;
	no_csum.flags = 0;
	long_hdr.hdr_len = 3000;
	start(f, OFFLOADS);
	assert_false(transmit(f, &far, 60));
	assert_false(transmit(f, &tso6, 2000));	/* not negotiated */
	assert_false(transmit(f, &no_size, 2000));
	assert_false(transmit(f, &no_csum, 2000));
	assert_false(transmit(f, &long_hdr, 2000));
	assert_true(transmit(f, &good, 60));
	assert_true(transmit(f, &tso, 30000));
	virtio_net_get_stats(f->dev, &st);
	assert_int_equal(st.tx_dropped, 5);
	assert_int_equal(st.tx_packets, 2);
	assert_int_equal(st.tx_bytes, 30060);
}

static void offloads_need_negotiation(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 csum = { .flags = 1, .csum_start = 34, .csum_offset = 16 };

	start(f, 0);
	assert_false(transmit(f, &csum, 60));
}

static void full_tap_holds_frames_back(void **state)
{
	struct fixture *f = *state;
	struct vring_used_elem u;
	uint8_t got[2000];
	unsigned n = 0;

	start(f, 0);
	frame(vm_ptr(&f->m, f->buf), mac, 1400, 1);
	/* More than a datagram socket queues (10 by default). */
	for (unsigned i = 0; i < 60; i++) {
		struct drv_buf b = { f->buf, HDR + 1400, false };

		drv_add(&f->d, TX, &b, 1);
	}
	drv_publish(&f->d, TX);
	usleep(20000);
	while (n < 60 && net_recv(f, 0, got, sizeof(got), 5000) == HDR + 1400)
		n++;
	assert_int_equal(n, 60);
	for (unsigned i = 0; i < 60; i++)
		assert_true(drv_wait(&f->d, TX, &u));
}

static void frames_come_in(void **state)
{
	struct fixture *f = *state;
	struct vring_used_elem u;

	start(f, 0);
	give_buffers(f, RX, 32, 2048);
	for (unsigned i = 0; i < 32; i++) {
		const struct virtio_net_hdr_v1 *h;

		net_send(f, 0, mac, 60 + i, i);
		assert_true(drv_wait(&f->d, RX, &u));
		assert_int_equal(u.len, HDR + 60 + i);
		h = vm_ptr(&f->m, f->buf + i * 2048);
		assert_int_equal(h->num_buffers, 1);
		assert_memory_equal((const uint8_t *)h + HDR, mac, 6);
		assert_int_equal(((const uint8_t *)h)[HDR + 59], (uint8_t)(i + 59));
	}
}

static void frames_wait_for_buffers(void **state)
{
	struct fixture *f = *state;
	struct vring_used_elem u;

	start(f, 0);
	for (unsigned i = 0; i < 5; i++)
		net_send(f, 0, mac, 100, i);
	usleep(5000);
	assert_false(drv_poll(&f->d, RX, &u));
	give_buffers(f, RX, 2, 2048);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_true(drv_wait(&f->d, RX, &u));
	usleep(2000);
	assert_false(drv_poll(&f->d, RX, &u));
	give_buffers(f, RX, 3, 2048);
	for (unsigned i = 0; i < 3; i++)
		assert_true(drv_wait(&f->d, RX, &u));
}

static void large_frame_takes_several_buffers(void **state)
{
	struct fixture *f = *state;
	struct vring_used_elem u;
	const unsigned sizes[] = { 60, 9000, 60000, 1500, 64000 };
	unsigned at = 0;

	start(f, MERGE | OFFLOADS);
	give_buffers(f, RX, 60, 4096);
	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
		unsigned n = DIV_ROUND_UP(HDR + sizes[s], 4096);
		const struct virtio_net_hdr_v1 *h = vm_ptr(&f->m, f->buf + at * 4096);
		const uint8_t *p = (const uint8_t *)h;
		unsigned sum = 0;

		net_send(f, 0, mac, sizes[s], s);
		for (unsigned i = 0; i < n; i++) {
			assert_true(drv_wait(&f->d, RX, &u));
			sum += u.len;
		}
		assert_int_equal(sum, HDR + sizes[s]);
		assert_int_equal(h->num_buffers, n);
		for (unsigned i = 14; i < sizes[s]; i += 97)
			assert_int_equal(p[HDR + i], (uint8_t)(s + i));
		at += n;
		if (at + 17 > 60)	/* the largest must fit, or nothing is received */
			break;
	}
}

static void few_buffers_still_receive(void **state)
{
	struct fixture *f = *state;
	struct vring_used_elem u;

	start(f, MERGE | OFFLOADS);
	give_buffers(f, RX, 4, 2048);
	net_send(f, 0, mac, 9000, 1);	/* too long: dropped */
	net_send(f, 0, mac, 3000, 2);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_int_equal(u.len, 2048);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_int_equal(u.len, 3012 - 2048);
}

static uint8_t control(struct fixture *f, unsigned qi, uint8_t class, uint8_t cmd,
		       const void *data, uint32_t len)
{
	uint64_t at = f->buf + 500 * 1024;
	struct drv_buf b[] = { { at, 2, false }, { at + 2, len, false }, { at + 4000, 1, true } };
	struct vring_used_elem u;
	uint8_t *p = vm_ptr(&f->m, at);

	p[0] = class;
	p[1] = cmd;
	if (len)
		memcpy(p + 2, data, len);
	p[4000] = 0xee;
	drv_add(&f->d, qi, b, 3);
	drv_publish(&f->d, qi);
	assert_true(drv_wait(&f->d, qi, &u));
	return p[4000];
}

static void filter_follows_the_driver(void **state)
{
	struct fixture *f = *state;
	const uint8_t other[6] = { 2, 9, 9, 9, 9, 9 }, multi[6] = { 1, 0, 0x5e, 0, 0, 1 },
		      broadcast[6] = { 255, 255, 255, 255, 255, 255 };
	uint8_t table[4 + 4 + 6] = { 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1 };
	struct vring_used_elem u;
	struct virtio_net_stats st;
	uint8_t off = 0;

	start(f, 0);
	give_buffers(f, RX, 32, 2048);
	net_send(f, 0, other, 60, 0);
	assert_true(drv_wait(&f->d, RX, &u));	/* promiscuous at first */
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1), 0);
	net_send(f, 0, other, 60, 0);
	net_send(f, 0, multi, 60, 0);
	net_send(f, 0, broadcast, 61, 0);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_int_equal(u.len, HDR + 61);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table,
				 sizeof(table)), 0);
	net_send(f, 0, multi, 62, 0);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_int_equal(u.len, HDR + 62);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other,
				 6), 0);
	net_send(f, 0, mac, 60, 0);
	net_send(f, 0, other, 63, 0);
	assert_true(drv_wait(&f->d, RX, &u));
	assert_int_equal(u.len, HDR + 63);
	virtio_net_get_stats(f->dev, &st);
	assert_int_equal(st.rx_dropped, 3);
}

static void bad_commands_are_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t table[8] = { 255, 255, 255, 255 }, pairs[2] = { 2, 0 }, vid[2] = { 0, 0x10 };
	uint64_t tso6 = BIT64(VIRTIO_NET_F_GUEST_TSO6), tso4 = BIT64(VIRTIO_NET_F_GUEST_TSO4);

	start(f, OFFLOADS | BIT64(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	assert_int_equal(control(f, CTRL, 77, 0, table, 4), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_RX, 9, table, 1), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_MAC, 0, table, 8), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_MAC, 1, table, 5), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_VLAN, 0, vid, 2), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_MQ, 0, pairs, 2), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &tso6, 8), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &tso4, 8), 0);
}

static void announce_is_asked_for_and_acknowledged(void **state)
{
	struct fixture *f = *state;
	uint64_t reg = f->d.device + offsetof(struct virtio_net_config, status);

	start(f, BIT64(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT64(VIRTIO_NET_F_STATUS));
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), VIRTIO_NET_S_LINK_UP);
	virtio_net_announce(f->dev);
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), 3);
	assert_int_equal(vm_irq_take(&f->m, 99), 1);
	assert_int_equal(control(f, CTRL, VIRTIO_NET_CTRL_ANNOUNCE, 0, NULL, 0), 0);
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), 1);
	virtio_net_set_link(f->dev, false);
	assert_int_equal(vm_mmio_read(&f->m, reg, 2), 0);
}

static void several_pairs_work(void **state)
{
	struct fixture *f = *state;
	uint8_t pairs[2] = { 2, 0 }, bad[2] = { 3, 0 };
	struct vring_used_elem u;

	drv_start(&f->d, BASE | BIT64(VIRTIO_NET_F_MQ), 5, 64);
	give_buffers(f, 0, 8, 2048);
	give_buffers(f, 2, 8, 2048);
	assert_int_equal(control(f, 4, VIRTIO_NET_CTRL_MQ, 0, bad, 2), 1);
	assert_int_equal(control(f, 4, VIRTIO_NET_CTRL_MQ, 0, pairs, 2), 0);
	net_send(f, 0, mac, 60, 0);
	net_send(f, 1, mac, 70, 0);
	assert_true(drv_wait(&f->d, 0, &u));
	assert_int_equal(u.len, HDR + 60);
	assert_true(drv_wait(&f->d, 2, &u));
	assert_int_equal(u.len, HDR + 70);
}

static void without_mq_the_third_queue_is_control(void **state)
{
	struct fixture *f = *state;
	uint8_t on = 1;

	start(f, 0);
	assert_int_equal(control(f, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1), 0);
}

static void resets_under_load(void **state)
{
	struct fixture *f = *state;
	uint64_t mark = f->m.ram_next;

	for (unsigned i = 0; i < 40; i++) {
		struct vring_used_elem u;
		uint8_t got[2000];

		f->m.ram_next = mark;
		start(f, i % 2 ? MERGE | OFFLOADS : 0);
		give_buffers(f, RX, 48, 4096);
		for (unsigned n = 0; n < 5; n++) {
			struct drv_buf b = { f->buf, HDR + 100, false };

			net_send(f, 0, mac, 500, n);
			drv_add(&f->d, TX, &b, 1);
			drv_publish(&f->d, TX);
		}
		if (i % 3 == 0)
			assert_true(drv_wait(&f->d, RX, &u));
		assert_true(drv_reset(&f->d));
		while (net_recv(f, 0, got, sizeof(got), 0) > 0)
			continue;
	}
}

static void closed_peer_does_not_spin(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 h = { 0 };
	struct timespec a, b;

	start(f, 0);
	give_buffers(f, RX, 4, 2048);
	assert_true(transmit(f, &h, 60));
	shutdown(f->peer[0], SHUT_RDWR);
	close(f->peer[0]);
	f->peer[0] = dup(0);
	usleep(20000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	usleep(100000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	assert_true((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec < 30000000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_MQ(name) cmocka_unit_test_setup_teardown(name, setup_mq, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_go_out),
		TEST(header_and_data_may_share_a_buffer),
		TEST(hostile_headers_are_dropped),
		TEST(offloads_need_negotiation),
		TEST(full_tap_holds_frames_back),
		TEST(frames_come_in),
		TEST(frames_wait_for_buffers),
		TEST(large_frame_takes_several_buffers),
		TEST(few_buffers_still_receive),
		TEST(filter_follows_the_driver),
		TEST(bad_commands_are_refused),
		TEST(announce_is_asked_for_and_acknowledged),
		TEST_MQ(several_pairs_work),
		TEST_MQ(without_mq_the_third_queue_is_control),
		TEST(resets_under_load),
		TEST(closed_peer_does_not_spin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
