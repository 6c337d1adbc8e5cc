/* SPDX-License-Identifier: MIT */
/* Requests for a while, as many in flight as depth=N says; tests/bench/guest.py runs it. */
#include "blk.h"

static uint64_t state = 88172645463325252u;

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static uint64_t next_offset(bool random, uint64_t n)
{
	uint64_t places = blk.bytes / blk.chunk;

	return (random ? random64() : n) % places * blk.chunk;
}

static uint64_t run(uint32_t type, bool random, uint64_t end)
{
	uint64_t started = 0, done = 0;

	for (;;) {
		bool more = !expired(end);
		struct blk_slot *s = blk_reap();

		if (s) {
			done++;
			if (s->status)
				return 0;
		} else if (more && started - done < blk.depth) {
			s = blk_free_slot();
		}
		if (s && more) {
			s->type = type;
			s->off = next_offset(random, started);
			s->len = blk.chunk;
			blk_submit(s, (unsigned)(started++ % blk.queues));
		} else if (!more && started == done) {
			return done;
		}
	}
}

/* bench=KIND:MS - KIND r (random read), w (random write), s (sequential read). */
static const char *word_bench(const char *arg)
{
	const char *bad = blk_need();
	char kind = *arg;
	uint64_t ms, start, done;

	arg += arg[0] && arg[1] == ':' ? 2 : 0;
	ms = parse_size(&arg);
	if (bad)
		return bad;
	start = rdtsc();
	done = run(kind == 'w' ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, kind != 's', start + ms * tsc_khz);
	say("BENCH requests=%lu us=%lu\n", done, (rdtsc() - start) * 1000 / tsc_khz);
	return done ? NULL : "a request failed";
}
WORD("bench", word_bench);
