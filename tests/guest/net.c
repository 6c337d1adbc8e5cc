/* SPDX-License-Identifier: MIT */
/* Frames in and out. We are 10.9.0.2, the host is 10.9.0.1. */
#include "net.h"

#define RX_BUFS 128
#define RX_LEN 2048
#define QUEUE_SIZE 256
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IP 0x0800
#define IP_UDP 17
#define MERGE_MAX 64

struct net net;
static bool is_open;
static uint64_t unwanted;
static const uint8_t our_ip[4] = { 10, 9, 0, 2 }, host_ip[4] = { 10, 9, 0, 1 };
static uint8_t frame_in[NET_FRAME_MAX];

/* ---- queues ------------------------------------------------------------------------------------ */

static void rx_give(struct vq *q, uint8_t *p)
{
	struct vq_buf b = { p, RX_LEN };

	vq_add(q, &b, 0, 1, p);
}

static void rx_fill(struct vq *q)
{
	for (unsigned i = 0; i < RX_BUFS; i++)
		rx_give(q, heap_alloc(RX_LEN, 64));
	vq_kick(q);
}

const char *net_transmit(unsigned pair, void *buf, uint32_t len)
{
	struct vq *q = &net.v.q[2 * pair + 1];
	struct vq_buf b = { buf, len };

	if (!vq_add(q, &b, 1, 0, buf))
		return "the transmit queue is full";
	vq_kick(q);
	return vq_wait(q, NULL) ? NULL : "a frame is not taken";
}

/* One frame of queue @q, whole, into frame_in; bytes behind the header, or 0. */
static uint32_t rx_take(struct vq *q, struct virtio_net_hdr_v1 *h)
{
	uint32_t len, have = 0;
	uint8_t *p = vq_take(q, &len);

	if (!p)
		return 0;
	memcpy(h, p, sizeof(*h));
	if (h->num_buffers < 1 || h->num_buffers > MERGE_MAX) {
		say("FAIL: a frame of %u buffers\n", h->num_buffers);
		power_off();
	}
	net.merged += h->num_buffers > 1;
	for (unsigned left = h->num_buffers;;) {
		uint32_t skip = have ? 0 : NET_HDR;

		memcpy(frame_in + have, p + skip, len - skip);
		have += len - skip;
		rx_give(q, p);
		if (!--left)
			break;
		p = vq_wait(q, &len);
		if (!p)
			break;
	}
	vq_kick(q);
	return have;
}

/* ---- ARP ---------------------------------------------------------------------------------------- */

static uint8_t *arp_frame(uint16_t op, const uint8_t *to)
{
	static uint8_t buf[NET_HDR + 60];
	uint8_t *e = buf + NET_HDR, *a = e + ETH_LEN;
	static const uint8_t head[] = { 0, 1, 8, 0, 6, 4 };

	memset(buf, 0, sizeof(buf));
	memcpy(e, to, 6);
	memcpy(e + 6, net.mac, 6);
	set_be16(e + 12, ETHERTYPE_ARP);
	memcpy(a, head, sizeof(head));
	set_be16(a + 6, op);
	memcpy(a + 8, net.mac, 6);
	memcpy(a + 14, our_ip, 4);
	memcpy(a + 18, to, 6);
	memcpy(a + 24, host_ip, 4);
	return buf;
}

static void arp_input(const uint8_t *a)
{
	memcpy(net.host_mac, a + 8, 6);
	if (be16(a + 6) == 1 && !memcmp(a + 24, our_ip, 4))
		net_transmit(0, arp_frame(2, net.host_mac), NET_HDR + 60);
}

const char *net_arp(void)
{
	static const uint8_t everybody[6] = { 255, 255, 255, 255, 255, 255 }, nobody[6];
	uint64_t end = deadline_ms(PATIENCE_MS);
	const char *bad = net_need();

	while (!bad && !memcmp(net.host_mac, nobody, 6)) {
		struct virtio_net_hdr_v1 h;
		uint8_t *frame;

		bad = net_transmit(0, arp_frame(1, everybody), NET_HDR + 60);
		net_receive(&h, &frame, 100);
		if (expired(end))
			return "nobody answers ARP";
	}
	return bad;
}

/* ---- UDP ------------------------------------------------------------------------------------------ */

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint32_t add_up(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i + 1 < len; i += 2)
		sum = fold(sum + be16(p + i));
	return len & 1 ? sum + ((uint32_t)p[len - 1] << 8) : sum;
}

static uint32_t pseudo(const uint8_t *ip, uint16_t udp_len)
{
	return add_up(ip + 12, 8, IP_UDP + udp_len);
}

void net_csum_out(uint8_t *buf)
{
	struct virtio_net_hdr_v1 *h = (void *)buf;
	uint8_t *ip = buf + NET_HDR + ETH_LEN, *udp = ip + IP_LEN;
	uint16_t len = be16(udp + 4);

	set_be16(udp + 6, 0);
	if (!virtio_has(&net.v, VIRTIO_NET_F_CSUM)) {
		set_be16(udp + 6, (uint16_t)~fold(add_up(udp, len, pseudo(ip, len))));
		return;
	}
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->csum_start = ETH_LEN + IP_LEN;
	h->csum_offset = 6;
	set_be16(udp + 6, fold(pseudo(ip, len)));
}

uint32_t net_udp(uint8_t *buf, uint16_t from, uint16_t to, uint16_t len, uint16_t gso)
{
	struct virtio_net_hdr_v1 *h = (void *)buf;
	uint8_t *e = buf + NET_HDR, *ip = e + ETH_LEN, *udp = ip + IP_LEN;

	memset(buf, 0, NET_HDR + ETH_LEN + IP_LEN + UDP_LEN);
	memcpy(e, net.host_mac, 6);
	memcpy(e + 6, net.mac, 6);
	set_be16(e + 12, ETHERTYPE_IP);
	ip[0] = 0x45;
	set_be16(ip + 2, (uint16_t)(IP_LEN + UDP_LEN + len));
	ip[8] = 64;
	ip[9] = IP_UDP;
	memcpy(ip + 12, our_ip, 4);
	memcpy(ip + 16, host_ip, 4);
	set_be16(ip + 10, (uint16_t)~fold(add_up(ip, IP_LEN, 0)));
	set_be16(udp, from);
	set_be16(udp + 2, to);
	set_be16(udp + 4, (uint16_t)(UDP_LEN + len));
	net_csum_out(buf);
	if (gso) {
		h->gso_type = 5;	/* UDP segmentation, VIRTIO 1.3 */
		h->gso_size = gso;
		h->hdr_len = ETH_LEN + IP_LEN + UDP_LEN;
	}
	return (uint32_t)(NET_HDR + ETH_LEN + IP_LEN + UDP_LEN) + len;
}

/* For us, by UDP, with a right checksum (or none yet)? */
static bool udp_for_us(const struct virtio_net_hdr_v1 *h, uint32_t n)
{
	const uint8_t *ip = frame_in + ETH_LEN, *udp = ip + IP_LEN;
	uint16_t len = be16(udp + 4);

	if (n < ETH_LEN + IP_LEN + UDP_LEN || be16(frame_in + 12) != ETHERTYPE_IP || ip[9] != IP_UDP ||
	    memcmp(ip + 16, our_ip, 4) || n < ETH_LEN + IP_LEN + (uint32_t)len)
		return false;
	if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		net.needs_csum++;
		return true;
	}
	if (be16(udp + 6) && fold(add_up(udp, len, pseudo(ip, len))) != 0xffff) {
		say("FAIL: a frame with a wrong checksum\n");
		return false;
	}
	return true;
}

uint32_t net_receive(struct virtio_net_hdr_v1 *h, uint8_t **frame, uint64_t ms)
{
	uint64_t end = deadline_ms(ms);

	*frame = frame_in;
	for (unsigned i = 0; !expired(end); i = (i + 1) % net.pairs) {
		uint32_t n = rx_take(&net.v.q[2 * i], h);

		if (n && be16(frame_in + 12) == ETHERTYPE_ARP) {
			arp_input(frame_in + ETH_LEN);
		} else if (n && udp_for_us(h, n)) {
			net.rx_count[i]++;
			return n;
		}
	}
	return 0;
}

/* ---- opening -------------------------------------------------------------------------------------- */

static const char *open_queues(void)
{
	unsigned max = virtio_has(&net.v, VIRTIO_NET_F_MQ) ?
			       ((const volatile struct virtio_net_config *)net.v.config)->max_virtqueue_pairs : 1;
	const char *bad = NULL;

	if (net.pairs > max || net.pairs > NET_PAIRS_MAX)
		return why("%u queue pairs at most", max);
	net.ctrl = 2 * max;
	for (unsigned i = 0; i < 2 * net.pairs && !bad; i++)
		bad = virtio_queue(&net.v, i, QUEUE_SIZE, VIRTIO_MSI_NO_VECTOR);
	if (!bad && virtio_has(&net.v, VIRTIO_NET_F_CTRL_VQ))
		bad = virtio_queue(&net.v, net.ctrl, 16, VIRTIO_MSI_NO_VECTOR);
	return bad;
}

static const char *open_net(unsigned pairs)
{
	const uint64_t not_us = BIT64(VIRTIO_F_RING_PACKED) | BIT64(VIRTIO_F_ACCESS_PLATFORM) |
				BIT64(VIRTIO_NET_F_GUEST_ANNOUNCE);
	const char *bad = virtio_find(&net.v, VIRTIO_ID_NET, 0);

	if (!bad)
		bad = virtio_negotiate(&net.v, ~(not_us | unwanted));
	if (bad)
		return bad;
	net.pairs = pairs;
	for (unsigned i = 0; i < 6; i++)
		net.mac[i] = net.v.config[i];
	bad = open_queues();
	if (bad)
		return bad;
	virtio_ready(&net.v);
	for (unsigned i = 0; i < pairs; i++)
		rx_fill(&net.v.q[2 * i]);
	is_open = true;
	return NULL;
}

const char *net_need(void)
{
	return is_open ? NULL : open_net(1);
}

/* net=PAIRS - open the device anew, with the options before. */
static const char *word_net(const char *arg)
{
	if (is_open && virtio_reset(&net.v))
		return "it does not finish its reset";
	is_open = false;
	return open_net((unsigned)parse_size(&arg));
}
WORD("net", word_net);

/* net-without=BIT - a feature not to accept. */
static const char *net_without(const char *arg)
{
	unwanted |= BIT64(parse_size(&arg) % 64);
	return NULL;
}
WORD("net-without", net_without);
