/* SPDX-License-Identifier: MIT */
/* net.h - virtio-net (VIRTIO 1.2, 5.1), and enough of Ethernet, ARP, IPv4 and UDP. */
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include <linux/virtio_net.h>

#include "virtio.h"

#define NET_PAIRS_MAX 8
#define NET_FRAME_MAX 70000
#define NET_HDR sizeof(struct virtio_net_hdr_v1)
#define ETH_LEN 14
#define IP_LEN 20
#define UDP_LEN 8

struct net {
	struct virtio v;
	unsigned pairs;
	unsigned ctrl;		/* index of the control queue */
	uint8_t mac[6], host_mac[6];
	unsigned rx_count[NET_PAIRS_MAX];
	unsigned merged, needs_csum;	/* frames that came in several buffers, without checksum */
};
extern struct net net;

/** net_need - the device is open; opens it with one pair. */
const char *net_need(void);
/** net_arp - learn the host's address. */
const char *net_arp(void);
/** net_receive - the next UDP frame to us, behind its header at *@h; bytes, 0 after @ms. */
uint32_t net_receive(struct virtio_net_hdr_v1 *h, uint8_t **frame, uint64_t ms);
/** net_transmit - header and @len bytes of frame from @buf on pair @pair, and wait for its end. */
const char *net_transmit(unsigned pair, void *buf, uint32_t len);
/** net_udp - make a frame with @len bytes of payload at @buf (header first); bytes of it all. */
uint32_t net_udp(uint8_t *buf, uint16_t from, uint16_t to, uint16_t len, uint16_t gso);
/** net_csum_out - leave the UDP checksum of the frame at @buf to the device, or compute it. */
void net_csum_out(uint8_t *buf);

static inline uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline void set_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

#endif
