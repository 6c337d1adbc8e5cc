/* SPDX-License-Identifier: MIT */
/* virtio-rng (VIRTIO 1.2, 5.4) and virtio-console (5.3). */
#include "virtio.h"

#include <linux/virtio_console.h>

static struct virtio dev;

static const char *open_device(unsigned type, unsigned queues)
{
	const char *bad = virtio_find(&dev, type, 0);

	if (!bad)
		bad = virtio_negotiate(&dev, 0);
	for (unsigned i = 0; i < queues && !bad; i++)
		bad = virtio_queue(&dev, i, 64, VIRTIO_MSI_NO_VECTOR);
	if (!bad)
		virtio_ready(&dev);
	return bad;
}

static const char *draw(uint8_t *p, uint32_t n)
{
	uint32_t len = 0;

	for (uint32_t at = 0; at < n; at += len) {
		struct vq_buf b = { p + at, n - at };

		vq_add(&dev.q[0], &b, 0, 1, p);
		vq_kick(&dev.q[0]);
		if (!vq_wait(&dev.q[0], &len))
			return "no answer";
		if (!len || len > n - at)
			return why("%u bytes", len);
	}
	return NULL;
}

/* rng - 64 KiB, twice: full, not the same, and about half of the bits are set. */
static const char *word_rng(const char *arg)
{
	const char *bad = open_device(VIRTIO_ID_RNG, 1);
	uint8_t *a = heap_alloc(65536, 4096), *b = heap_alloc(65536, 4096);
	unsigned ones = 0;

	(void)arg;
	if (!bad)
		bad = draw(a, 65536);
	if (!bad)
		bad = draw(b, 65536);
	if (bad)
		return bad;
	if (!memcmp(a, b, 65536))
		return "the same bytes twice";
	for (unsigned i = 0; i < 65536; i++)
		for (unsigned bit = 0; bit < 8; bit++)
			ones += a[i] >> bit & 1;
	return ones > 260000 && ones < 264300 ? NULL : why("%u of 524288 bits are set", ones);
}
WORD("rng", word_rng);

/* hvc-say=TEXT - through port 0's transmit queue. */
static const char *word_hvc_say(const char *arg)
{
	static char text[256];
	const char *bad = open_device(VIRTIO_ID_CONSOLE, 2);
	uint32_t n = (uint32_t)MIN(strlen(arg), sizeof(text) - 1);
	struct vq_buf b = { text, n + 1 };

	if (bad)
		return bad;
	memcpy(text, arg, n);
	text[n] = '\n';
	vq_add(&dev.q[1], &b, 1, 0, text);
	vq_kick(&dev.q[1]);
	if (!vq_wait(&dev.q[1], NULL))
		return "not taken";
	for (uint64_t end = deadline_ms(100); !expired(end);)
		pause_cpu();	/* it may share a terminal with what we say next */
	return NULL;
}
WORD("hvc-say", word_hvc_say);

/* hvc-echo=N - read N bytes from port 0's receive queue and say them. */
static const char *word_hvc_echo(const char *arg)
{
	const char *bad = open_device(VIRTIO_ID_CONSOLE, 2);
	uint64_t n = MIN(parse_size(&arg), 255), have = 0;
	static char got[256], part[64];
	struct vq_buf b = { part, sizeof(part) };
	uint32_t len;

	if (bad)
		return bad;
	say("READY\n");
	while (have < n) {
		vq_add(&dev.q[0], &b, 0, 1, part);
		vq_kick(&dev.q[0]);
		if (!vq_wait(&dev.q[0], &len))
			return why("%lu bytes only", have);
		len = (uint32_t)MIN(len, n - have);
		memcpy(got + have, part, len);
		have += len;
	}
	say("GOT [%s]\n", got);
	return NULL;
}
WORD("hvc-echo", word_hvc_echo);
