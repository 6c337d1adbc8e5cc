/* SPDX-License-Identifier: MIT */
/*
 * tap_frames - virtio-net on a real TAP, inside a network namespace of its own.
 *
 * The test plays the guest (10.9.0.2) with frames made by hand; the kernel's own IP stack
 * (10.9.0.1) is on the other side. Prints "ok NAME" a step; exits 0 if all held.
 * usage: tap_frames [seconds]   with an argument, measures frames a second as well
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../support/vmachine.h"
#include "hv/bytes.h"
#include "virtio/net.h"
#include "virtio/tap.h"

#define HDR 12
#define ETH 14
#define IPUDP 28
#define PORT 4000
#define N_BUFS 64
#define BUF_LEN 4096u
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static const uint8_t guest_mac[6] = { 2, 0, 0, 0, 0, 2 };
static uint8_t host_mac[6];
static struct vmachine m;
static struct drv d;
static struct virtio_dev *dev;
static struct iothread *thread;
static uint64_t rx_buf, tx_buf;
static int udp;

static void check(bool ok, const char *what)
{
	printf("%s %s%s%s\n", ok ? "ok" : "FAILED", what, ok ? "" : ": ", ok ? "" : strerror(errno));
	if (!ok)
		exit(1);
}

static struct sockaddr_in inet(const char *addr, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, addr, &a.sin_addr);
	return a;
}

static void host_setup(const char *name)
{
	struct sockaddr_in a = inet("10.9.0.1", PORT), mask = inet("255.255.255.0", 0),
			   peer = inet("10.9.0.2", 0);
	struct ifreq ifr = { 0 };
	struct arpreq arp = { .arp_flags = ATF_PERM | ATF_COM };
	int size = 4 << 20;

	udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	strcpy(ifr.ifr_name, name);
	memcpy(&ifr.ifr_addr, &a, sizeof(a));
	check(ioctl(udp, SIOCSIFADDR, &ifr) == 0, "address");
	memcpy(&ifr.ifr_netmask, &mask, sizeof(mask));
	check(ioctl(udp, SIOCSIFNETMASK, &ifr) == 0, "netmask");
	check(ioctl(udp, SIOCGIFHWADDR, &ifr) == 0, "hardware address");
	memcpy(host_mac, ifr.ifr_hwaddr.sa_data, 6);
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	check(ioctl(udp, SIOCSIFFLAGS, &ifr) == 0, "up");
	memcpy(&arp.arp_pa, &peer, sizeof(peer));
	arp.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(arp.arp_ha.sa_data, guest_mac, 6);
	strcpy(arp.arp_dev, name);
	check(ioctl(udp, SIOCSARP, &arp) == 0, "neighbour");
	setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	check(bind(udp, (struct sockaddr *)&a, sizeof(a)) == 0, "bind");
}

static uint16_t ip_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += load_be16(p + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Header, Ethernet, IP, UDP and @len bytes from 10.9.0.2 to 10.9.0.1 at @p; checksum left to the host. */
static uint32_t make_frame(uint8_t *p, uint16_t len, uint16_t gso)
{
	struct virtio_net_hdr_v1 h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = ETH + 20,
				       .csum_offset = 6, .gso_type = gso ? 5 : 0, .gso_size = gso,
				       .hdr_len = gso ? ETH + IPUDP : 0 };
	uint8_t *eth = p + HDR, *ip = eth + ETH, *u = ip + 20;

	memset(p, 0, HDR + ETH + IPUDP);
	memcpy(p, &h, HDR);
	memcpy(eth, host_mac, 6);
	memcpy(eth + 6, guest_mac, 6);
	store_be16(eth + 12, 0x0800);
	ip[0] = 0x45;
	store_be16(ip + 2, (uint16_t)(len + IPUDP));
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	inet_pton(AF_INET, "10.9.0.2", ip + 12);
	inet_pton(AF_INET, "10.9.0.1", ip + 16);
	store_be16(ip + 10, (uint16_t)~ip_sum(ip, 20, 0));
	store_be16(u, PORT + 1);
	store_be16(u + 2, PORT);
	store_be16(u + 4, (uint16_t)(len + 8));
	store_be16(u + 6, ip_sum(ip + 12, 8, IPPROTO_UDP + len + 8u));	/* pseudo header */
	for (unsigned i = 0; i < len; i++)
		u[8 + i] = (uint8_t)(i * 3);
	return HDR + ETH + IPUDP + len;
}

static void guest_send(uint32_t len)
{
	struct drv_buf b = { tx_buf, len, false };

	drv_add(&d, 1, &b, 1);
	drv_publish(&d, 1);
}

static ssize_t host_recv(uint8_t *b, size_t len)
{
	struct pollfd p = { .fd = udp, .events = POLLIN };

	return poll(&p, 1, 2000) == 1 ? recv(udp, b, len, 0) : -1;
}

static void test_transmit(void)
{
	struct vring_used_elem u;
	uint8_t got[2048];

	guest_send(make_frame(vm_ptr(&m, tx_buf), 1000, 0));
	check(drv_wait(&d, 1, &u), "frame taken");
	check(host_recv(got, sizeof(got)) == 1000 && got[999] == (uint8_t)(999 * 3),
	      "frame with partial checksum arrives");
	if (!(d.features & BIT64(56)))
		return;
	guest_send(make_frame(vm_ptr(&m, tx_buf), 30000, 1000));
	for (unsigned i = 0; i < 30; i++)
		if (host_recv(got, sizeof(got)) != 1000)
			check(false, "segment of a USO frame arrives");
	check(drv_wait(&d, 1, &u), "USO frame taken");
}

static unsigned rx_next;

static void give(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct drv_buf b = { rx_buf + rx_next++ % N_BUFS * BUF_LEN, BUF_LEN, true };

		drv_add(&d, 0, &b, 1);
	}
	drv_publish(&d, 0);
}

/* The next UDP frame to the guest: bytes of frame, header into *h, buffers are given back. */
static uint32_t guest_recv(struct virtio_net_hdr_v1 *h)
{
	for (;;) {
		struct vring_used_elem u;
		uint32_t sum = 0;
		unsigned n = 1;
		uint8_t *p;

		if (!drv_wait(&d, 0, &u))
			return 0;
		p = vm_ptr(&m, d.q[0].desc[u.id].addr);
		memcpy(h, p, HDR);
		for (; ; n++) {
			sum += u.len;
			if (n == h->num_buffers || !drv_wait(&d, 0, &u))
				break;
		}
		give(n);
		if (load_be16(p + HDR + 12) == 0x0800 && p[HDR + ETH + 9] == IPPROTO_UDP)
			return sum - HDR;
	}
}

static void test_receive(void)
{
	struct sockaddr_in to = inet("10.9.0.2", PORT + 1);
	struct virtio_net_hdr_v1 h;
	static uint8_t data[30000];
	int gso = 1000;

	give(N_BUFS);
	check(sendto(udp, data, 1000, 0, (struct sockaddr *)&to, sizeof(to)) == 1000, "send");
	check(guest_recv(&h) == ETH + IPUDP + 1000, "frame reaches the guest");
	check(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, "its checksum is left to the guest");
	if (!(d.features & BIT64(54)))
		return;
	check(setsockopt(udp, SOL_UDP, UDP_SEGMENT, &gso, sizeof(gso)) == 0, "UDP_SEGMENT");
	check(sendto(udp, data, 30000, 0, (struct sockaddr *)&to, sizeof(to)) == 30000, "send");
	check(guest_recv(&h) == ETH + IPUDP + 30000 && h.gso_type == 5 && h.gso_size == 1000 &&
	      h.num_buffers == 8, "USO frame reaches the guest whole");
	gso = 0;
	setsockopt(udp, SOL_UDP, UDP_SEGMENT, &gso, sizeof(gso));
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void measure(const char *name, uint16_t len, uint16_t gso, double seconds)
{
	uint32_t n = make_frame(vm_ptr(&m, tx_buf), len, gso);
	uint64_t sent = 0, queued = 0;
	double start = now(), took;

	/* To a closed port: the host drops it after routing. */
	store_be16((uint8_t *)vm_ptr(&m, tx_buf) + HDR + ETH + 22, 9);
	do {
		struct vring_used_elem u;

		while (queued - sent < 128) {
			struct drv_buf b = { tx_buf, n, false };

			drv_add(&d, 1, &b, 1);
			queued++;
		}
		drv_publish(&d, 1);
		while (drv_poll(&d, 1, &u))
			sent++;
		took = now() - start;
	} while (took < seconds);
	for (struct vring_used_elem u; sent < queued && drv_wait(&d, 1, &u);)
		sent++;
	check(sent == queued, "all frames taken");
	printf("{\"bench\":\"net\",\"case\":\"%s\",\"bytes\":%u,\"frames_s\":%.0f,\"gbit_s\":%.2f}\n",
	       name, n - HDR, (double)sent / took, (double)sent * (n - HDR) * 8 / took / 1e9);
}

int main(int argc, char **argv)
{
	struct iothread_cfg tc = { .name = "io", .poll_us = IOTHREAD_POLL_US };
	struct virtio_net_cfg cfg = { .pairs = 1, .threads = &thread, .n_threads = 1 };
	unsigned offloads = 0;
	struct err e = { 0 };
	int fd[2];

	check(tap_open("hvtest0", 2, fd, &e) == 0, "two queues of a TAP");
	close(fd[1]);
	check(tap_adopt(fd[0], &offloads, &e) == 0, "adopt");
	check(tap_adopt(0, &offloads, &e) == -ENOTTY || e.code, "what is no TAP is refused");
	check(offloads & TUN_F_CSUM, "offloads");
	printf("offloads 0x%x\n", offloads);
	vm_init(&m);
	host_setup("hvtest0");
	check(iothread_new(&tc, &thread, &e) == 0, "thread");
	cfg.tap_fds = fd;
	cfg.offloads = offloads;
	memcpy(cfg.mac, guest_mac, 6);
	check(virtio_net_new(&cfg, &dev, &e) == 0 &&
	      virtio_pci_add(&m.pci, dev, &m.gmem, &m.irq, &e) == 0 &&
	      iothread_start(thread, &e) == 0, "device");
	drv_find(&d, &m, 1);
	rx_buf = vm_alloc(&m, N_BUFS * BUF_LEN, 4096);
	tx_buf = vm_alloc(&m, 65536, 4096);
	drv_start(&d, ~BIT64(VIRTIO_F_RING_PACKED), 3, 256);
	test_transmit();
	test_receive();
	if (argc > 1) {
		measure("transmit", 18, 0, atof(argv[1]));
		measure("transmit", 1472, 0, atof(argv[1]));
		if (d.features & BIT64(56))
			measure("transmit-gso", 32000, 1400, atof(argv[1]));
	}
	check(drv_reset(&d), "reset");
	pci_bus_quiesce(&m.pci);
	vm_fini(&m);
	iothread_free(thread);
	return 0;
}
