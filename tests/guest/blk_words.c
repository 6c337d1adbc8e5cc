/* SPDX-License-Identifier: MIT */
/*
 * What a command line can ask of a disk. Ranges are OFFSET:LENGTH in bytes (K, M, G).
 *   w=OFF:LEN:BYTE r=OFF:LEN:BYTE        write and read back a constant
 *   W=OFF:LEN:SEED R=OFF:LEN:SEED        the same with data that depends on the place
 *   discard= zero= unmap=OFF:LEN  flush  id=TEXT  size=BYTES  ro  feature=BIT  boots=OFF
 */
#include "blk.h"

/* ---- data ------------------------------------------------------------------------------------- */

struct pattern {
	bool by_place;
	uint64_t seed;	/* or the byte, eight times */
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t pattern_at(const struct pattern *p, uint64_t off)
{
	return p->by_place ? mix(off + p->seed * UINT64_C(0x9e3779b97f4a7c15)) : p->seed;
}

static void pattern_fill(const struct pattern *p, struct blk_slot *s)
{
	for (uint32_t i = 0; i < s->len; i += 8)
		*(uint64_t *)(s->data + i) = pattern_at(p, s->off + i);
}

static const char *pattern_check(const struct pattern *p, const struct blk_slot *s)
{
	for (uint32_t i = 0; i < s->len; i += 8) {
		uint64_t is = *(const uint64_t *)(s->data + i), be = pattern_at(p, s->off + i);

		if (is != be)
			return why("at 0x%lx: 0x%016lx instead of 0x%016lx", s->off + i, is, be);
	}
	return NULL;
}

/* ---- a range, in chunks, as many in flight as there are slots ------------------------------------ */

static const char *finish(const struct blk_slot *s, const struct pattern *p)
{
	if (s->status != VIRTIO_BLK_S_OK)
		return why("request at 0x%lx: status %u", s->off, s->status);
	return s->type == VIRTIO_BLK_T_IN ? pattern_check(p, s) : NULL;
}

static const char *transfer(uint32_t type, uint64_t off, uint64_t len, const struct pattern *p)
{
	uint64_t end = deadline_ms(PATIENCE_MS), at = off;
	unsigned in_flight = 0, turn = 0;
	const char *bad = NULL;

	while ((at < off + len && !bad) || in_flight) {
		struct blk_slot *s = at < off + len && !bad ? blk_free_slot() : NULL;

		if (s) {
			*s = (struct blk_slot){ .type = type, .off = at, .data = s->data,
						.len = (uint32_t)MIN(blk.chunk, off + len - at) };
			if (type == VIRTIO_BLK_T_OUT)
				pattern_fill(p, s);
			else
				memset(s->data, 0xee, s->len);
			blk_submit(s, turn++ % blk.queues);
			at += s->len;
			in_flight++;
		}
		s = blk_reap();
		if (s) {
			in_flight--;
			bad = bad ? bad : finish(s, p);
			end = deadline_ms(PATIENCE_MS);
		} else if (expired(end)) {
			return why("%u requests never end", in_flight);
		}
	}
	return bad;
}

static const char *data_word(uint32_t type, const char *arg, bool by_place)
{
	const char *bad = blk_need();
	uint64_t off = next_number(&arg, 0), len = next_number(&arg, SECTOR);
	struct pattern p = { by_place, next_number(&arg, 0) };

	if (!by_place)
		p.seed *= UINT64_C(0x0101010101010101);
	return bad ? bad : transfer(type, off, len, &p);
}

static const char *write_byte(const char *arg) { return data_word(VIRTIO_BLK_T_OUT, arg, false); }
static const char *read_byte(const char *arg) { return data_word(VIRTIO_BLK_T_IN, arg, false); }
static const char *write_place(const char *arg) { return data_word(VIRTIO_BLK_T_OUT, arg, true); }
static const char *read_place(const char *arg) { return data_word(VIRTIO_BLK_T_IN, arg, true); }
WORD("w", write_byte);
WORD("r", read_byte);
WORD("W", write_place);
WORD("R", read_place);

/* ---- ranges without data, flush ------------------------------------------------------------------- */

static const char *range_word(uint32_t type, const char *arg, uint32_t flags)
{
	const char *bad = blk_need();
	struct virtio_blk_discard_write_zeroes r = {
		.sector = next_number(&arg, 0) / SECTOR,
		.num_sectors = (uint32_t)(next_number(&arg, SECTOR) / SECTOR),
		.flags = flags,
	};
	unsigned status = bad ? 0 : blk_one(type, 0, &r, sizeof(r));

	return bad ? bad : status ? why("status %u", status) : NULL;
}

static const char *word_discard(const char *arg)
{
	return range_word(VIRTIO_BLK_T_DISCARD, arg, 0);
}
static const char *word_zero(const char *arg)
{
	return range_word(VIRTIO_BLK_T_WRITE_ZEROES, arg, 0);
}
static const char *word_unmap(const char *arg)
{
	return range_word(VIRTIO_BLK_T_WRITE_ZEROES, arg, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
}
WORD("discard", word_discard);
WORD("zero", word_zero);
WORD("unmap", word_unmap);

static const char *word_flush(const char *arg)
{
	const char *bad = blk_need();
	unsigned status = bad ? 0 : blk_one(VIRTIO_BLK_T_FLUSH, 0, NULL, 0);

	(void)arg;
	return bad ? bad : status ? why("status %u", status) : NULL;
}
WORD("flush", word_flush);

/* ---- what the disk says of itself ------------------------------------------------------------------ */

static const char *word_id(const char *arg)
{
	char id[VIRTIO_BLK_ID_BYTES + 1] = { 0 };
	const char *bad = blk_need();
	unsigned status = bad ? 0 : blk_one(VIRTIO_BLK_T_GET_ID, 0, id, VIRTIO_BLK_ID_BYTES);

	if (bad || status)
		return bad ? bad : why("status %u", status);
	return strcmp(id, arg) ? why("it is '%s'", id) : NULL;
}
WORD("id", word_id);

static const char *word_size(const char *arg)
{
	const char *bad = blk_need();

	return bad ? bad : blk.bytes != parse_size(&arg) ? why("it is %lu", blk.bytes) : NULL;
}
WORD("size", word_size);

/* ro - the disk says it is read-only, and refuses to be written. */
static const char *word_ro(const char *arg)
{
	uint8_t data[SECTOR] = { 1 };
	const char *bad = blk_need();

	(void)arg;
	if (bad)
		return bad;
	if (!virtio_has(&blk.v, VIRTIO_BLK_F_RO))
		return "it does not say that it is read-only";
	return blk_one(VIRTIO_BLK_T_OUT, 0, data, SECTOR) == VIRTIO_BLK_S_IOERR ?
		       NULL : "a write is not refused";
}
WORD("ro", word_ro);

/* feature=BIT, no-feature=BIT - what the disk offers. */
static const char *word_feature(const char *arg)
{
	const char *bad = blk_need();

	return bad ? bad : virtio_features(&blk.v) >> parse_size(&arg) & 1 ? NULL : "not offered";
}
static const char *word_no_feature(const char *arg)
{
	const char *bad = blk_need();

	return bad ? bad : virtio_features(&blk.v) >> parse_size(&arg) & 1 ? "offered" : NULL;
}
WORD("feature", word_feature);
WORD("no-feature", word_no_feature);

/* cache=0|1 - whether the write cache is on at first. */
static const char *word_cache(const char *arg)
{
	const char *bad = blk_need();
	const volatile struct virtio_blk_config *c = (const volatile void *)blk.v.config;

	if (bad)
		return bad;
	return c->wce == parse_size(&arg) ? NULL : why("it is %u", c->wce);
}
WORD("cache", word_cache);

/* bad-requests - each is refused with a status; none breaks the queue. */
static const char *word_bad_requests(const char *arg)
{
	static uint8_t data[4096];
	const char *bad = blk_need();

	(void)arg;
	if (bad)
		return bad;
	if (blk_one(VIRTIO_BLK_T_IN, blk.bytes, data, SECTOR) != VIRTIO_BLK_S_IOERR)
		return "a read behind the end is not refused";
	if (blk_one(VIRTIO_BLK_T_IN, blk.bytes - SECTOR, data, 2 * SECTOR) != VIRTIO_BLK_S_IOERR)
		return "a read over the end is not refused";
	if (blk_one(VIRTIO_BLK_T_OUT, ~UINT64_C(0) << 9, data, SECTOR) != VIRTIO_BLK_S_IOERR)
		return "a write at the last sector number is not refused";
	if (blk_one(VIRTIO_BLK_T_IN, 0, data, 100) != VIRTIO_BLK_S_IOERR)
		return "part of a sector is not refused";
	if (blk_one(0x7777, 0, NULL, 0) != VIRTIO_BLK_S_UNSUPP)
		return "an unknown request is not refused";
	return blk_one(VIRTIO_BLK_T_IN, 0, data, 4096) ? "the disk does not read any more" : NULL;
}
WORD("bad-requests", word_bad_requests);

/* ---- state that outlives a reset --------------------------------------------------------------------- */

/* boots=OFF - count starts of the guest in the sector at OFF and say "BOOT n". */
static const char *word_boots(const char *arg)
{
	static uint8_t data[SECTOR];
	const char *bad = blk_need();
	uint64_t off = parse_size(&arg);
	uint32_t n;

	if (bad)
		return bad;
	if (blk_one(VIRTIO_BLK_T_IN, off, data, SECTOR))
		return "reading";
	memcpy(&n, data, sizeof(n));
	n++;
	memcpy(data, &n, sizeof(n));
	if (blk_one(VIRTIO_BLK_T_OUT, off, data, SECTOR) ||
	    (virtio_has(&blk.v, VIRTIO_BLK_F_FLUSH) && blk_one(VIRTIO_BLK_T_FLUSH, 0, NULL, 0)))
		return "writing";
	say("BOOT %u\n", n);
	return NULL;
}
WORD("boots", word_boots);

static const char *boot_number(uint64_t off, uint32_t *n)
{
	static uint8_t data[SECTOR];
	const char *bad = blk_need();

	if (!bad && blk_one(VIRTIO_BLK_T_IN, off, data, SECTOR))
		bad = "reading";
	memcpy(n, data, sizeof(*n));
	return bad;
}

/* last-boot=OFF:N - power off if this is start number N. */
static const char *word_last_boot(const char *arg)
{
	uint64_t off = next_number(&arg, 0), last = next_number(&arg, 1);
	uint32_t n;
	const char *bad = boot_number(off, &n);

	if (bad || n < last)
		return bad;
	say("END failures=0\n");
	power_off();
}
WORD("last-boot", word_last_boot);

/* first-boot=OFF - reset if this is the first start. */
static const char *word_first_boot(const char *arg)
{
	uint32_t n;
	const char *bad = boot_number(next_number(&arg, 0), &n);

	if (bad || n != 1)
		return bad;
	out8(0x64, 0xfe);
	for (;;)
		pause_cpu();
}
WORD("first-boot", word_first_boot);

/* stream=SEED - write records for ever: record N at a place of its own, "flushed N" after each flush.
 * A record is 4 KiB of the number SEED << 32 | N. */
static const char *word_stream(const char *arg)
{
	const char *bad = blk_need();
	uint64_t seed = parse_size(&arg), n = 0;
	uint64_t slots = blk.bytes / 4096;
	uint64_t *data = heap_alloc(4096 * 16, 4096);

	if (bad)
		return bad;
	for (;;) {
		for (unsigned left = 1 + n % 7; left; left--, n++) {
			for (unsigned w = 0; w < 512; w++)
				data[w] = seed << 32 | n;
			if (n == slots)
				return NULL;
			if (blk_one(VIRTIO_BLK_T_OUT, (n * 2654435761u + seed * 97) % slots * 4096, data, 4096))
				return why("writing record %lu", n);
		}
		if (blk_one(VIRTIO_BLK_T_FLUSH, 0, NULL, 0))
			return "flush";
		say("flushed %lu\n", n);
	}
}
WORD("stream", word_stream);
