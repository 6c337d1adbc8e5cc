/* SPDX-License-Identifier: MIT */
/* What a command line can ask of the network. The host's side is in tests/integ/vm-net.sh. */
#include "net.h"

#define PORT_HERE 4001
#define PORT_HOST 4000

static uint8_t frame_out[NET_FRAME_MAX];

static void payload(uint8_t *p, uint32_t len, uint64_t n)
{
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)(n + i * 3);
}

/* net-send=N:LEN:GSO - datagrams to the host's port 4000, round the queues. */
static const char *word_send(const char *arg)
{
	uint64_t n = next_number(&arg, 1);
	uint16_t len = (uint16_t)next_number(&arg, 100), gso = (uint16_t)next_number(&arg, 0);
	const char *bad = net_arp();

	for (uint64_t i = 0; i < n && !bad; i++) {
		uint32_t all = net_udp(frame_out, PORT_HERE, PORT_HOST, len, gso);

		payload(frame_out + all - len, len, i);
		net_csum_out(frame_out);
		bad = net_transmit((unsigned)(i % net.pairs), frame_out, all);
	}
	return bad;
}
WORD("net-send", word_send);

/* Send what came back where it came from. */
static const char *echo(uint8_t *frame, uint32_t n)
{
	uint8_t *e = frame_out + NET_HDR, *ip = e + ETH_LEN, *udp = ip + IP_LEN;
	const uint8_t *from = frame + ETH_LEN + IP_LEN;

	memset(frame_out, 0, NET_HDR);
	memcpy(e, frame, n);
	memcpy(e, frame + 6, 6);
	memcpy(e + 6, net.mac, 6);
	memcpy(ip + 12, frame + ETH_LEN + 16, 4);
	memcpy(ip + 16, frame + ETH_LEN + 12, 4);
	set_be16(udp, be16(from + 2));
	set_be16(udp + 2, be16(from));
	net_csum_out(frame_out);
	return net_transmit(0, frame_out, NET_HDR + n);
}

/* net-echo=N - answer N datagrams. */
static const char *word_echo(const char *arg)
{
	uint64_t n = parse_size(&arg);
	const char *bad = net_arp();

	say("READY\n");
	for (uint64_t i = 0; i < n && !bad; i++) {
		struct virtio_net_hdr_v1 h;
		uint8_t *frame;
		uint32_t len = net_receive(&h, &frame, PATIENCE_MS);

		if (!len)
			return why("%lu datagrams only", i);
		bad = echo(frame, len);
	}
	say("ECHOED %lu needs_csum=%u merged=%u", n, net.needs_csum, net.merged);
	for (unsigned i = 0; i < net.pairs; i++)
		say(" rx%u=%u", i, net.rx_count[i]);
	say("\n");
	return bad;
}
WORD("net-echo", word_echo);

/* net-quiet=MS - no datagram comes. */
static const char *word_quiet(const char *arg)
{
	struct virtio_net_hdr_v1 h;
	const char *bad = net_arp();
	uint8_t *frame;

	if (bad)
		return bad;
	say("READY\n");
	return net_receive(&h, &frame, parse_size(&arg)) ? "one came" : NULL;
}
WORD("net-quiet", word_quiet);

/* net-mac=HEX, net-mtu=N - the configuration. */
static const char *word_mac(const char *arg)
{
	const char *bad = net_need();
	static char text[13];

	if (bad)
		return bad;
	for (unsigned i = 0; i < 12; i++)
		text[i] = "0123456789abcdef"[net.mac[i / 2] >> (i & 1 ? 0 : 4) & 0xf];
	return strcmp(text, arg) ? why("it is %s", text) : NULL;
}
WORD("net-mac", word_mac);

static const char *word_mtu(const char *arg)
{
	const char *bad = net_need();
	uint16_t mtu;

	if (bad)
		return bad;
	if (!virtio_has(&net.v, VIRTIO_NET_F_MTU))
		return "not offered";
	mtu = ((const volatile struct virtio_net_config *)net.v.config)->mtu;
	return mtu == parse_size(&arg) ? NULL : why("it is %u", mtu);
}
WORD("net-mtu", word_mtu);

static const char *word_net_feature(const char *arg)
{
	const char *bad = net_need();

	return bad ? bad : virtio_features(&net.v) >> parse_size(&arg) & 1 ? NULL : "not offered";
}
WORD("net-feature", word_net_feature);

/* ---- the control queue (5.1.6.5) ------------------------------------------------------------------ */

/* The acknowledgement of a command with @len bytes of data; 0xff: none came. */
static unsigned command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	static uint8_t head[2], body[512], ack;
	struct vq_buf b[] = { { head, 2 }, { body, len }, { &ack, 1 } };

	head[0] = class;
	head[1] = cmd;
	ack = 0xfe;
	memcpy(body, data, len);
	if (!len)
		b[1] = b[2];
	vq_add(&net.v.q[net.ctrl], b, len ? 2 : 1, 1, head);
	vq_kick(&net.v.q[net.ctrl]);
	return vq_wait(&net.v.q[net.ctrl], NULL) ? ack : 0xff;
}

/* net-pairs=N - let the device use N pairs. */
static const char *word_pairs(const char *arg)
{
	const char *bad = net_need();
	uint16_t n = (uint16_t)parse_size(&arg);

	if (bad)
		return bad;
	return command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2) == VIRTIO_NET_OK ?
		       NULL : "refused";
}
WORD("net-pairs", word_pairs);

/* net-promisc=0|1 */
static const char *word_promisc(const char *arg)
{
	const char *bad = net_need();
	uint8_t on = (uint8_t)parse_size(&arg);

	if (bad)
		return bad;
	return command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1) == VIRTIO_NET_OK ?
		       NULL : "refused";
}
WORD("net-promisc", word_promisc);

/* net-new-mac - take another address; the host has to ask for it again. */
static const char *word_new_mac(const char *arg)
{
	const char *bad = net_need();

	(void)arg;
	if (bad)
		return bad;
	net.mac[5] ^= 0x55;
	if (command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, net.mac, 6) != VIRTIO_NET_OK)
		return "refused";
	memset(net.host_mac, 0, 6);
	return net_arp();	/* tells the host, too */
}
WORD("net-new-mac", word_new_mac);

/* net-ctrl-bad - commands that have to be refused, each with an answer. */
static const char *word_ctrl_bad(const char *arg)
{
	const char *bad = net_need();
	uint16_t none = 0, many = 0x8001;
	uint8_t on = 1;

	(void)arg;
	if (bad)
		return bad;
	if (command(77, 0, &on, 1) != VIRTIO_NET_ERR)
		return "an unknown class is not refused";
	if (command(VIRTIO_NET_CTRL_RX, 77, &on, 1) != VIRTIO_NET_ERR)
		return "an unknown command is not refused";
	if (command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 0) != VIRTIO_NET_ERR)
		return "a command without its data is not refused";
	if (command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &none, 2) != VIRTIO_NET_ERR)
		return "no pairs are not refused";
	if (command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &many, 2) != VIRTIO_NET_ERR)
		return "too many pairs are not refused";
	return command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1) == VIRTIO_NET_OK ?
		       NULL : "nothing works any more";
}
WORD("net-ctrl-bad", word_ctrl_bad);

/* net-flood=MS:LEN:GSO - as many frames as go, to a port where nobody listens. */
static const char *word_flood(const char *arg)
{
	uint64_t ms = next_number(&arg, 1000), sent = 0, done = 0, start, end;
	uint16_t len = (uint16_t)next_number(&arg, 18), gso = (uint16_t)next_number(&arg, 0);
	const char *bad = net_arp();
	struct vq *q = &net.v.q[1];
	struct vq_buf b = { frame_out, 0 };

	if (bad)
		return bad;
	b.len = net_udp(frame_out, PORT_HERE, 9, len, gso);
	start = rdtsc();
	end = start + ms * tsc_khz;
	do {
		while (sent - done < 128 && vq_add(q, &b, 1, 0, frame_out))
			sent++;
		vq_kick(q);
		while (vq_take(q, NULL))
			done++;
	} while (!expired(end));
	say("BENCH frames=%lu us=%lu\n", done, (rdtsc() - start) * 1000 / tsc_khz);
	return NULL;
}
WORD("net-flood", word_flood);
