/* SPDX-License-Identifier: MIT */
/*
 * Power cuts. Random operations are recorded; then, for cuts at every point of the log and
 * several choices of which unsynced writes survive, the image must have leaks at worst, and
 * every sector must read as its last flushed contents or as something written later.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../../lib/block/block_int.h"
#include "../../../../lib/block/qcow2.h"
#include "../../../support/crash_file.h"

#define DISK KIB(512)
#define SECTOR 512u
#define SECTORS (DISK / SECTOR)
#define CAP MIB(8)

/* A sector's contents is its stamp in all words; 0 is zeros. */
struct history {
	size_t log_at; /* entries of the log when the operation began */
	uint32_t sector, stamp;
};

struct rig {
	struct crash_file now, base, cut;
	struct blk *b;
	uint64_t disk;		   /* bytes */
	uint32_t first[SECTORS];   /* before anything was recorded */
	uint32_t stamp[SECTORS];   /* now */
	uint32_t flushed[SECTORS]; /* when the last flush before the cut had returned */
	struct history *past;
	size_t npast;
	struct {
		size_t log_at, past_at;
	} flush[512];
	size_t nflush;
	unsigned seed, states;
};

static struct blk *rig_open(struct crash_file *f, struct err *e)
{
	struct blk_open o = {
		.path = "crash", .fd = -1, .format = BLK_FORMAT_QCOW2, .no_lock = true
	};
	struct blk *b = NULL;

	return blk_open_with(&o, &crash_file_ops, f, &b, e) ? NULL : b;
}

static void note(struct rig *g, uint64_t off, uint64_t len, uint32_t stamp)
{
	for (uint64_t s = off / SECTOR; s < (off + len) / SECTOR; s++) {
		g->stamp[s] = stamp;
		g->past[g->npast++] = (struct history){ g->now.ops, (uint32_t)s, stamp };
	}
}

static void rig_write(struct rig *g, uint64_t off, uint64_t len, uint32_t stamp)
{
	static uint32_t buf[KIB(64) / 4];

	for (uint64_t i = 0; i < len / 4; i++)
		buf[i] = stamp;
	note(g, off, len, stamp);
	assert_int_equal(blk_pwrite(g->b, off, buf, len), 0);
}

static void rig_flush(struct rig *g)
{
	assert_int_equal(blk_flush(g->b), 0);
	g->flush[g->nflush].log_at = g->now.ops;
	g->flush[g->nflush++].past_at = g->npast;
}

static void rig_step(struct rig *g, uint32_t i)
{
	uint64_t off = (uint64_t)rand_r(&g->seed) % (g->disk / SECTOR) * SECTOR;
	uint64_t len = MIN((1 + (uint64_t)rand_r(&g->seed) % 24) * SECTOR, g->disk - off);

	switch (rand_r(&g->seed) % 10) {
	case 0:
	case 1: rig_flush(g); break;
	case 2:
	case 3:
		note(g, off, len, 0);
		assert_int_equal(blk_pwrite_zeroes(g->b, off, len, rand_r(&g->seed) % 2), 0);
		break;
	default: rig_write(g, off, len, i + 1);
	}
}

/* What the flush before @cut promised, in g->flushed; returns where later history begins. */
static size_t promised(struct rig *g, size_t cut)
{
	size_t past_at = 0;

	for (size_t i = 0; i < g->nflush && g->flush[i].log_at <= cut; i++)
		past_at = g->flush[i].past_at;
	memcpy(g->flushed, g->first, sizeof(g->flushed));
	for (size_t i = 0; i < past_at; i++)
		g->flushed[g->past[i].sector] = g->past[i].stamp;
	return past_at;
}

static bool stamp_allowed(const struct rig *g, size_t past_at, size_t cut, uint32_t sector,
			  uint32_t stamp)
{
	if (stamp == g->flushed[sector])
		return true;
	for (size_t i = past_at; i < g->npast && g->past[i].log_at <= cut; i++)
		if (g->past[i].sector == sector && g->past[i].stamp == stamp)
			return true;
	return false;
}

static void check_state(struct rig *g, size_t cut, size_t past_at)
{
	static uint32_t disk[DISK / 4];
	struct blk_check chk;
	struct err e = { 0 };
	struct blk *b = rig_open(&g->cut, &e);

	if (!b)
		fail_msg("cut at %zu: %s", cut, e.msg);
	assert_int_equal(blk_check(b, &chk, &e), 0);
	if (chk.corruptions || chk.copied_errors)
		fail_msg("cut at %zu: %s", cut, e.msg);
	assert_int_equal(blk_pread(b, 0, disk, g->disk), 0);
	for (uint32_t s = 0; s < g->disk / SECTOR; s++)
		if (!stamp_allowed(g, past_at, cut, s, disk[s * SECTOR / 4]))
			fail_msg("cut at %zu: sector %u reads as %u, flushed %u", cut, s,
				 disk[s * SECTOR / 4], g->flushed[s]);
	assert_int_equal(blk_close(b), 0);
	g->states++;
}

/* What the disk holds at the start counts as flushed. */
static void rig_first(struct rig *g)
{
	static uint32_t disk[DISK / 4];

	g->disk = blk_size(g->b);
	assert_true(g->disk <= DISK);
	assert_int_equal(blk_pread(g->b, 0, disk, g->disk), 0);
	for (uint32_t s = 0; s < g->disk / SECTOR; s++)
		g->first[s] = disk[s * SECTOR / 4];
}

static void rig_init(struct rig *g, int fd, unsigned seed)
{
	struct err e = { 0 };

	memset(g, 0, sizeof(*g));
	g->seed = seed;
	g->past = calloc(SECTORS * 400, sizeof(*g->past));
	assert_int_equal(crash_file_init(&g->now, fd, CAP), 0);
	assert_int_equal(crash_file_init(&g->base, fd, CAP), 0);
	assert_int_equal(crash_file_init(&g->cut, -1, CAP), 0);
	close(fd);
	g->b = rig_open(&g->now, &e);
	assert_non_null(g->b);
	rig_first(g);
	g->now.recording = true;
}

static void rig_fini(struct rig *g)
{
	crash_file_fini(&g->now);
	crash_file_fini(&g->base);
	crash_file_fini(&g->cut);
	free(g->past);
}

static int fresh_image(uint32_t bits)
{
	struct blk_create c = { .size = DISK, .cluster_bits = bits };
	int fd = memfd_create("crash", MFD_CLOEXEC);
	struct err e = { 0 };

	assert_int_equal(blk_create_qcow2(fd, &c, &e), 0);
	return fd;
}

static void crash_run_on(int fd, unsigned seed, unsigned steps, uint64_t budget)
{
	struct rig *g = calloc(1, sizeof(*g));

	rig_init(g, fd, seed);
	if (budget)
		g->b->tables.budget = budget;
	for (unsigned i = 0; i < steps; i++)
		rig_step(g, i);
	assert_int_equal(blk_close(g->b), 0);
	g->now.recording = false;
	for (size_t cut = 0; cut <= g->now.ops; cut++) {
		size_t past_at = promised(g, cut);

		for (unsigned s = 0; s < 4; s++) {
			crash_file_state(&g->now, &g->base, cut, s < 2 ? s : (unsigned)cut * 8 + s,
					 &g->cut);
			check_state(g, cut, past_at);
		}
	}
	print_message("%u states of %zu operations\n", g->states, g->now.ops);
	rig_fini(g);
	free(g);
}

static void crash_run(uint32_t bits, unsigned seed, unsigned steps, uint64_t budget)
{
	crash_run_on(fresh_image(bits), seed, steps, budget);
}

static void cuts_leave_leaks_only_4k_clusters(void **state)
{
	for (unsigned seed = 1; seed <= 4; seed++)
		crash_run(12, seed, 250, 0);
}

static void cuts_leave_leaks_only_512b_clusters(void **state)
{
	for (unsigned seed = 1; seed <= 2; seed++)
		crash_run(9, seed, 150, 0);
}

static void cuts_leave_leaks_only_64k_clusters(void **state)
{
	crash_run(16, 1, 250, 0);
}

static void cuts_leave_leaks_only_with_tables_evicted(void **state)
{
	crash_run(9, 7, 250, 4096);
}

/* Images of qemu-img's: shared with a snapshot, compressed, version 2, narrow counters. */
static void cuts_leave_leaks_only_in_images_of_others(void **state)
{
	static const char *const names[] = { "snap", "zlib", "zstd", "v2", "rc1", "rc64" };
	unsigned found = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		char path[128];
		int fd;

		snprintf(path, sizeof(path), "tests/fuzz/corpus/qcow2/%s", names[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		found++;
		crash_run_on(fd, i + 1, 120, 0);
	}
	if (!found) {
		print_message("skip: not run from the source tree\n");
		skip();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_leave_leaks_only_4k_clusters),
		cmocka_unit_test(cuts_leave_leaks_only_512b_clusters),
		cmocka_unit_test(cuts_leave_leaks_only_64k_clusters),
		cmocka_unit_test(cuts_leave_leaks_only_with_tables_evicted),
		cmocka_unit_test(cuts_leave_leaks_only_in_images_of_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
