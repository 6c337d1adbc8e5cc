/* SPDX-License-Identifier: MIT */
/* Published vectors, and both ways of computing agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hv/checksum.h"

static void hex(const uint8_t *d, char out[65])
{
	for (unsigned i = 0; i < SHA256_BYTES; i++)
		sprintf(out + 2 * i, "%02x", d[i]);
}

static void expect_sha(const char *text, size_t len, const char *want)
{
	uint8_t d[SHA256_BYTES];
	char h[65];

	sha256(text, len, d);
	hex(d, h);
	assert_string_equal(h, want);
	sha256_portable(text, len, d);
	hex(d, h);
	assert_string_equal(h, want);
}

static void sha256_matches_the_standards_examples(void **state)
{
	static char million[1000000];

	memset(million, 'a', sizeof(million));
	expect_sha("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	expect_sha("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	expect_sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		   "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	expect_sha(million, sizeof(million),
		   "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void crc32c_matches_rfc3720(void **state)
{
	uint8_t zero[32] = { 0 };

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, zero, sizeof(zero)), 0x8a9136aa);
}

static void both_ways_agree_at_every_length(void **state)
{
	uint8_t data[300], a[SHA256_BYTES], b[SHA256_BYTES];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 37 + 11);
	for (size_t n = 0; n <= sizeof(data); n++) {
		sha256(data, n, a);
		sha256_portable(data, n, b);
		assert_memory_equal(a, b, sizeof(a));
		assert_int_equal(crc32c(0, data, n), crc32c_portable(0, data, n));
		assert_int_equal(crc32c(crc32c(0, data, n / 2), data + n / 2, n - n / 2),
				 crc32c_portable(0, data, n));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_matches_the_standards_examples),
		cmocka_unit_test(crc32c_matches_rfc3720),
		cmocka_unit_test(both_ways_agree_at_every_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
