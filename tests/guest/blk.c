/* SPDX-License-Identifier: MIT */
/* Requests; what they are used for is in blk_words.c and blk_bench.c. */
#include "blk.h"

#define QUEUE_SIZE 256
#define PIECES_MAX 12

struct blk blk;
static bool is_open;
static uint64_t unwanted;	/* features not to be taken */
static unsigned want_queues = 1, want_depth = 16, want_pieces = 1;
static uint32_t want_chunk = 128u << 10;

static bool takes_data(uint32_t type)
{
	return type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_DISCARD ||
	       type == VIRTIO_BLK_T_WRITE_ZEROES;
}

/* The data, cut in blk.pieces parts at odd places. */
static unsigned cut(const struct blk_slot *s, struct vq_buf *b)
{
	unsigned n = s->len >= 64 ? MIN(blk.pieces, PIECES_MAX) : 1;
	uint32_t at = 0;

	if (!s->len)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		uint32_t part = i + 1 == n ? s->len - at : s->len / n - i % 3;

		b[i] = (struct vq_buf){ s->data + at, part };
		at += part;
	}
	return n;
}

void blk_submit(struct blk_slot *s, unsigned queue)
{
	struct vq_buf b[PIECES_MAX + 2] = { { &s->head, sizeof(s->head) } };
	unsigned data = cut(s, b + 1), out = 1 + (takes_data(s->type) ? data : 0);

	s->head = (struct virtio_blk_outhdr){ .type = s->type, .sector = s->off / SECTOR };
	s->status = 0xff;
	s->busy = true;
	s->queue = queue;
	b[1 + data] = (struct vq_buf){ &s->status, 1 };
	if (!vq_add(&blk.v.q[queue], b, out, 2 + data - out, s)) {
		say("FAIL: queue %u is full\n", queue);
		power_off();
	}
	vq_kick(&blk.v.q[queue]);
}

struct blk_slot *blk_reap(void)
{
	for (unsigned q = 0; q < blk.queues; q++) {
		struct blk_slot *s = vq_take(&blk.v.q[q], NULL);

		if (s) {
			s->busy = false;
			return s;
		}
	}
	return NULL;
}

struct blk_slot *blk_free_slot(void)
{
	for (unsigned i = 0; i < blk.depth; i++)
		if (!blk.slot[i].busy)
			return &blk.slot[i];
	return NULL;
}

unsigned blk_one(uint32_t type, uint64_t off, void *data, uint32_t len)
{
	uint64_t end = deadline_ms(PATIENCE_MS);
	struct blk_slot s = { .off = off, .len = len, .type = type, .data = data };

	blk_submit(&s, 0);
	while (!blk_reap())
		if (expired(end))
			return 256;
	return s.status;
}

static const char *open_queues(void)
{
	const char *bad = NULL;

	for (unsigned i = 0; i < blk.queues && !bad; i++)
		bad = virtio_queue(&blk.v, i, QUEUE_SIZE, VIRTIO_MSI_NO_VECTOR);
	return bad;
}

const char *blk_open(unsigned nth)
{
	const volatile struct virtio_blk_config *c;
	const char *bad = virtio_find(&blk.v, VIRTIO_ID_BLOCK, nth);

	if (bad)
		return bad;
	bad = virtio_negotiate(&blk.v, ~(unwanted | BIT64(VIRTIO_F_RING_PACKED) |
					 BIT64(VIRTIO_F_ACCESS_PLATFORM)));
	if (bad)
		return bad;
	c = (const volatile void *)blk.v.config;
	blk.bytes = c->capacity * SECTOR;
	blk.queues = virtio_has(&blk.v, VIRTIO_BLK_F_MQ) ? MIN(want_queues, c->num_queues) : 1;
	if (blk.queues != want_queues)
		return why("%u queues instead of %u", blk.queues, want_queues);
	bad = open_queues();
	if (bad)
		return bad;
	virtio_ready(&blk.v);
	blk.depth = want_depth;
	blk.chunk = want_chunk;
	blk.pieces = want_pieces;
	for (unsigned i = 0; i < blk.depth; i++)
		blk.slot[i] = (struct blk_slot){ .data = heap_alloc(blk.chunk, 4096) };
	is_open = true;
	return NULL;
}

const char *blk_need(void)
{
	return is_open ? NULL : blk_open(0);
}

/* ---- options: before disk=N ----------------------------------------------------------------------- */

static const char *set_queues(const char *arg)
{
	want_queues = (unsigned)MIN(parse_size(&arg), VIRTIO_QUEUES);
	return NULL;
}
WORD("queues", set_queues);

static const char *set_depth(const char *arg)
{
	want_depth = (unsigned)MIN(parse_size(&arg), BLK_SLOTS_MAX);
	return NULL;
}
WORD("depth", set_depth);

static const char *set_chunk(const char *arg)
{
	want_chunk = (uint32_t)MIN(parse_size(&arg), BLK_DATA_MAX);
	return NULL;
}
WORD("chunk", set_chunk);

static const char *set_pieces(const char *arg)
{
	want_pieces = (unsigned)parse_size(&arg);
	return NULL;
}
WORD("pieces", set_pieces);

/* without=BIT - do not accept this feature. */
static const char *set_without(const char *arg)
{
	unwanted |= BIT64(parse_size(&arg) % 64);
	return NULL;
}
WORD("without", set_without);

/* disk=N - work on disk N from here on, with the options given before. */
static const char *word_disk(const char *arg)
{
	if (is_open && virtio_reset(&blk.v))
		return "the disk before does not finish its reset";
	is_open = false;
	return blk_open((unsigned)parse_size(&arg));
}
WORD("disk", word_disk);
