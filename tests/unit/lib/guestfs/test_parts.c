/* SPDX-License-Identifier: MIT */
/* Partition tables: both copies of GPT, both sector sizes, MBR's chains, and lies in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "../../../../lib/guestfs/gfs_priv.h"
#include "../../../support/gfs_support.h"
#include "hv/bytes.h"

#define DISK MIB(1)

struct disk {
	struct mem_disk mem;
	struct gfs_source src;
};

static int setup(void **state)
{
	struct disk *d = calloc(1, sizeof(*d));

	d->mem = (struct mem_disk){ calloc(1, DISK), DISK };
	d->src = mem_source(&d->mem);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	struct disk *d = *state;

	free(d->mem.data);
	free(d);
	return 0;
}

static void put_mbr(uint8_t *s, unsigned slot, uint8_t type, uint32_t start, uint32_t len)
{
	uint8_t *ent = s + 446 + 16 * slot;

	store_le16(s + 510, 0xaa55);
	ent[4] = type;
	store_le32(ent + 8, start);
	store_le32(ent + 12, len);
}

static void seal_header(uint8_t *h)
{
	store_le32(h + 16, 0);
	store_le32(h + 16, (uint32_t)crc32(0, h, 92));
}

/* A GPT of 4 entries whose header is at @lba and its table behind (or before) it. */
static void put_gpt(struct disk *d, uint32_t sector, uint64_t lba, uint64_t table_lba)
{
	uint8_t *h = d->mem.data + lba * sector, *t = d->mem.data + table_lba * sector;

	put_mbr(d->mem.data, 0, 0xee, 1, 100);
	memset(t + 128, 0x28, 1); /* entry 2; its type starts like the ESP's */
	memcpy(t + 128, "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b", 16);
	for (unsigned i = 0; i < 16; i++)
		t[128 + 16 + i] = (uint8_t)i;
	store_le64(t + 128 + 32, 20);
	store_le64(t + 128 + 40, 29);
	store_le16(t + 128 + 56, 'E');
	store_le16(t + 128 + 58, 0xe9);
	memcpy(h, "EFI PART", 8);
	store_le32(h + 12, 92);
	store_le64(h + 24, lba);
	store_le64(h + 72, table_lba);
	store_le32(h + 80, 4);
	store_le32(h + 84, 128);
	store_le32(h + 88, (uint32_t)crc32(0, t, 512));
	seal_header(h);
}

static struct gfs_part *scan(struct disk *d, size_t *n)
{
	struct gfs_part *p;

	assert_int_equal(parts_scan(&d->src, &p, n), 0);
	return p;
}

static void assert_esp(struct disk *d, uint32_t sector)
{
	size_t n;
	struct gfs_part *p = scan(d, &n);

	assert_int_equal(n, 1);
	assert_int_equal(p[0].number, 2);
	assert_int_equal(p[0].off, 20 * sector);
	assert_int_equal(p[0].len, 10 * sector);
	assert_true(p[0].esp);
	assert_string_equal(p[0].uuid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
	assert_string_equal(p[0].label, "E\xc3\xa9");
	free(p);
}

static void gpt_with_512_byte_sectors(void **state)
{
	put_gpt(*state, 512, 1, 2);
	assert_esp(*state, 512);
}

static void gpt_with_4096_byte_sectors(void **state)
{
	put_gpt(*state, 4096, 1, 2);
	assert_esp(*state, 4096);
}

static void gpt_backup_when_the_primary_is_broken(void **state)
{
	put_gpt(*state, 512, DISK / 512 - 1, DISK / 512 - 3);
	assert_esp(*state, 512);
}

static void gpt_wrong_checksum_is_not_believed(void **state)
{
	struct disk *d = *state;
	size_t n;

	put_gpt(d, 512, 1, 2);
	d->mem.data[1024 + 300] ^= 1;
	free(scan(d, &n));
	assert_int_equal(n, 1); /* the protective entry, as MBR has it */
	d->mem.data[1024 + 300] ^= 1;
	d->mem.data[512 + 40] ^= 1;
	free(scan(d, &n));
	assert_int_equal(n, 1);
}

static void gpt_hostile_counts_are_refused(void **state)
{
	struct disk *d = *state;
	uint8_t *h = d->mem.data + 512;
	const uint32_t lies[][2] = {
		{ UINT32_MAX, 128 }, { 4, UINT32_MAX }, { 4, 0 }, { 0, 128 }, { 4, 129 }
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		size_t n;
		struct gfs_part *p;

		put_gpt(d, 512, 1, 2);
		store_le32(h + 80, lies[i][0]);
		store_le32(h + 84, lies[i][1]);
		seal_header(h);
		p = scan(d, &n);
		assert_false(n && p[0].esp);
		free(p);
	}
}

static void mbr_logical_partitions_count_from_five(void **state)
{
	struct disk *d = *state;
	struct gfs_part *p;
	size_t n;

	put_mbr(d->mem.data, 0, 0x83, 10, 10);
	put_mbr(d->mem.data, 1, 0x05, 100, 200);
	store_le32(d->mem.data + 440, 0x1a2b3c4d);
	put_mbr(d->mem.data + 100 * 512, 0, 0x83, 1, 5);
	put_mbr(d->mem.data + 100 * 512, 1, 0x05, 50, 100);
	put_mbr(d->mem.data + 150 * 512, 0, 0xef, 2, 7);
	p = scan(d, &n);
	assert_int_equal(n, 3);
	assert_string_equal(p[0].uuid, "1a2b3c4d-01");
	assert_int_equal(p[1].number, 5);
	assert_int_equal(p[1].off, 101 * 512);
	assert_int_equal(p[2].number, 6);
	assert_int_equal(p[2].off, 152 * 512);
	assert_true(p[2].esp);
	free(p);
}

static void mbr_loop_of_logical_partitions_ends(void **state)
{
	struct disk *d = *state;
	size_t n;

	put_mbr(d->mem.data, 0, 0x0f, 100, 200);
	put_mbr(d->mem.data + 100 * 512, 0, 0x83, 1, 5);
	put_mbr(d->mem.data + 100 * 512, 1, 0x05, 10, 100);
	put_mbr(d->mem.data + 110 * 512, 0, 0x83, 1, 5);
	put_mbr(d->mem.data + 110 * 512, 1, 0x05, 10, 100); /* itself */
	free(scan(d, &n));
	assert_int_equal(n, 2);
}

static void partitions_are_cut_to_the_disk(void **state)
{
	struct disk *d = *state;
	struct gfs_part *p;
	size_t n;

	put_mbr(d->mem.data, 0, 0x83, 2000, 0xffffffff);
	p = scan(d, &n);
	assert_int_equal(n, 1);
	assert_int_equal(p[0].len, DISK - 2000 * 512);
	free(p);
	put_mbr(d->mem.data, 1, 0x83, 0xfffffff0, 100); /* outside: this is no table at all */
	free(scan(d, &n));
	assert_int_equal(n, 0);
}

static void utf16_names_become_utf8(void **state)
{
	const uint8_t units[] = { 'a', 0, 0x3d, 0xd8, 0x00, 0xde, 0x00, 0xdc, 'b', 0 };
	char out[32];

	gfs_utf16_text(units, 5, out, sizeof(out));
	assert_string_equal(out, "a\xf0\x9f\x98\x80\xef\xbf\xbd"
				 "b");
	gfs_utf16_text(units, 5, out, 5);
	assert_string_equal(out, "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(gpt_with_512_byte_sectors, setup, teardown),
		cmocka_unit_test_setup_teardown(gpt_with_4096_byte_sectors, setup, teardown),
		cmocka_unit_test_setup_teardown(gpt_backup_when_the_primary_is_broken, setup,
						teardown),
		cmocka_unit_test_setup_teardown(gpt_wrong_checksum_is_not_believed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(gpt_hostile_counts_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(mbr_logical_partitions_count_from_five, setup,
						teardown),
		cmocka_unit_test_setup_teardown(mbr_loop_of_logical_partitions_ends, setup,
						teardown),
		cmocka_unit_test_setup_teardown(partitions_are_cut_to_the_disk, setup, teardown),
		cmocka_unit_test(utf16_names_become_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
