/* SPDX-License-Identifier: MIT */
/* Payloads of the four compressions: whole, cut, lying about their size. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../support/mini_kernel.h"
#include "boot/unpack.h"
#include "hv/bytes.h"
#include "hv/fd.h"

static uint8_t elf[MINI_MAX];
static size_t elf_len;

static int setup(void **state)
{
	elf_len = mini_vmlinux(elf, 3);
	return 0;
}

static int unpack_to(const uint8_t *in, size_t n, size_t out_len, uint8_t *out)
{
	struct err e = { 0 };
	int r = unpack_payload(in, n, out, out_len, &e);

	assert_true(!r == !*e.msg);
	return r;
}

static void every_codec_gives_the_kernel_back(void **state)
{
	for (enum mini_codec c = 0; c < MINI_CODECS; c++) {
		size_t n;
		CLEANUP_FREE uint8_t *in = mini_pack(c, elf, elf_len, &n);
		CLEANUP_FREE uint8_t *out = malloc(elf_len);

		assert_int_equal(unpack_claimed_bytes(in, n), elf_len);
		assert_int_equal(unpack_to(in, n, elf_len, out), 0);
		assert_memory_equal(out, elf, elf_len);
	}
}

static void a_payload_cut_anywhere_is_refused(void **state)
{
	for (enum mini_codec c = 0; c < MINI_CODECS; c++) {
		size_t n;
		CLEANUP_FREE uint8_t *in = mini_pack(c, elf, elf_len, &n);
		CLEANUP_FREE uint8_t *out = malloc(elf_len);

		for (size_t cut = 0; cut + 8 < n; cut += cut < 64 ? 1 : 97) {
			CLEANUP_FREE uint8_t *part = malloc(cut + 1);

			memcpy(part, in, cut);
			assert_true(unpack_to(part, cut, elf_len, out) < 0);
		}
	}
}

static void a_wrong_size_is_refused_both_ways(void **state)
{
	for (enum mini_codec c = 0; c < MINI_CODECS; c++) {
		size_t n;
		CLEANUP_FREE uint8_t *in = mini_pack(c, elf, elf_len, &n);
		CLEANUP_FREE uint8_t *less = malloc(elf_len - 1);
		CLEANUP_FREE uint8_t *more = malloc(elf_len + 1);

		assert_int_equal(unpack_to(in, n, elf_len - 1, less), -EBADMSG);
		assert_int_equal(unpack_to(in, n, elf_len + 1, more), -EBADMSG);
	}
}

static void other_compressions_are_named_unsupported(void **state)
{
	const uint8_t bzip2[32] = "BZh91AY&SY";
	uint8_t out[16];

	assert_int_equal(unpack_to(bzip2, sizeof(bzip2), sizeof(out), out), -ENOTSUP);
	assert_int_equal(unpack_to(bzip2, 0, sizeof(out), out), -ENOTSUP);
}

static void lz4_takes_many_blocks_and_a_repeated_magic(void **state)
{
	const size_t len = MIB(17);
	CLEANUP_FREE uint8_t *data = malloc(len);
	CLEANUP_FREE uint8_t *out = malloc(len);
	size_t n;

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i >> 12 ^ i);
	CLEANUP_FREE uint8_t *in = mini_pack(MINI_LZ4, data, len, &n);
	CLEANUP_FREE uint8_t *twice = malloc(n + 4);

	assert_int_equal(unpack_to(in, n, len, out), 0);
	assert_memory_equal(out, data, len);
	memcpy(twice, in, 4);
	memcpy(twice + 4, in, n);
	assert_int_equal(unpack_to(twice, n + 4, len, out), 0);
	store_le32(in + 4, 0);
	assert_int_equal(unpack_to(in, n, len, out), -EBADMSG);
	store_le32(in + 4, UINT32_MAX);
	assert_int_equal(unpack_to(in, n, len, out), -EBADMSG);
}

static void sizes_beyond_the_limits_are_refused_first(void **state)
{
	uint8_t b[16] = { 0x1f, 0x8b, 8 };

	assert_int_equal(unpack_to(b, UNPACK_IN_MAX + 1, sizeof(b), b), -E2BIG);
	assert_int_equal(unpack_to(b, sizeof(b), UNPACK_OUT_MAX + 1, b), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_codec_gives_the_kernel_back),
		cmocka_unit_test(a_payload_cut_anywhere_is_refused),
		cmocka_unit_test(a_wrong_size_is_refused_both_ways),
		cmocka_unit_test(other_compressions_are_named_unsupported),
		cmocka_unit_test(lz4_takes_many_blocks_and_a_repeated_magic),
		cmocka_unit_test(sizes_beyond_the_limits_are_refused_first),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
