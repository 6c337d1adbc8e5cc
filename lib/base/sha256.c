/* SPDX-License-Identifier: MIT */
/* SHA-256 as FIPS 180-4 has it: section numbers are that document's. */
#include "hv/checksum.h"

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "hv/bytes.h"

#define SHA_BLOCK 64

typedef void (*sha_blocks_fn)(uint32_t h[8], const uint8_t *p, size_t blocks);

/* 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t sha_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static uint32_t ror32(uint32_t v, unsigned n)
{
	return v >> n | v << (32 - n);
}

/* 6.2.2, step 1: the word of round @t >= 16; @w keeps the last 16. */
static inline uint32_t sha_schedule(const uint32_t w[16], unsigned t)
{
	uint32_t w2 = w[(t - 2) % 16], w15 = w[(t - 15) % 16];

	return (ror32(w2, 17) ^ ror32(w2, 19) ^ w2 >> 10) + w[(t - 7) % 16] +
	       (ror32(w15, 7) ^ ror32(w15, 18) ^ w15 >> 3) + w[t % 16];
}

/* 6.2.2. Instead of moving a..h down each round, letter number i is s[(i - t) % 8]. */
static void sha_blocks_portable(uint32_t h[8], const uint8_t *p, size_t blocks)
{
	for (; blocks; blocks--, p += SHA_BLOCK) {
		uint32_t w[16], s[8];

		memcpy(s, h, sizeof(s));
#pragma GCC unroll 64
		for (unsigned t = 0; t < 64; t++) {
			uint32_t a = s[(0 - t) % 8], b = s[(1 - t) % 8], c = s[(2 - t) % 8];
			uint32_t e = s[(4 - t) % 8], f = s[(5 - t) % 8], g = s[(6 - t) % 8];
			uint32_t *last = &s[(7 - t) % 8], t1;

			w[t % 16] = t < 16 ? load_be32(p + 4 * t) : sha_schedule(w, t);
			t1 = *last + (ror32(e, 6) ^ ror32(e, 11) ^ ror32(e, 25)) +
			     ((e & f) ^ (~e & g)) + sha_k[t] + w[t % 16];
			s[(3 - t) % 8] += t1;
			*last = t1 + (ror32(a, 2) ^ ror32(a, 13) ^ ror32(a, 22)) +
				((a & b) ^ (a & c) ^ (b & c));
		}
		for (unsigned i = 0; i < 8; i++)
			h[i] += s[i];
	}
}

/* Intel's SHA extensions: four rounds a step; the registers hold ABEF and CDGH, A and C on top. */
__attribute__((target("sha,sse4.1,ssse3"))) static void sha_blocks_ni(uint32_t h[8],
								      const uint8_t *p,
								      size_t blocks)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i abef = _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]);
	__m128i cdgh = _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]);
	uint32_t out[8];

	for (; blocks; blocks--, p += SHA_BLOCK) {
		const __m128i abef0 = abef, cdgh0 = cdgh;
		__m128i m[4];

		for (unsigned i = 0; i < 4; i++)
			m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)),
						swap);
#pragma GCC unroll 16
		for (unsigned i = 0; i < 16; i++) {
			__m128i *next = &m[i % 4], last = m[(i + 3) % 4];
			__m128i w = _mm_add_epi32(*next,
						  _mm_loadu_si128((const __m128i *)&sha_k[4 * i]));

			cdgh = _mm_sha256rnds2_epu32(cdgh, abef, w);
			abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(w, 0x0e));
			*next = _mm_sha256msg1_epu32(*next, m[(i + 1) % 4]);
			*next = _mm_add_epi32(*next, _mm_alignr_epi8(last, m[(i + 2) % 4], 4));
			*next = _mm_sha256msg2_epu32(*next, last);
		}
		abef = _mm_add_epi32(abef, abef0);
		cdgh = _mm_add_epi32(cdgh, cdgh0);
	}
	_mm_storeu_si128((__m128i *)out, abef);
	_mm_storeu_si128((__m128i *)(out + 4), cdgh);
	memcpy(h,
	       (const uint32_t[8]){ out[3], out[2], out[7], out[6], out[1], out[0], out[5],
				    out[4] },
	       sizeof(out));
}

static bool sha_ni_there(void)
{
	unsigned a, b, c, d;

	return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") &&
	       __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
}

/* 5.1.1: a one bit, zeros, the length in bits as a big-endian number at a block's end. */
static void sha_run(sha_blocks_fn fn, const uint8_t *p, size_t len, uint8_t out[SHA256_BYTES])
{
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }; /* 5.3.3 */
	uint8_t tail[2 * SHA_BLOCK] = { 0 };
	size_t rest = len % SHA_BLOCK, blocks = rest + 9 > SHA_BLOCK ? 2 : 1;

	fn(h, p, len / SHA_BLOCK);
	if (rest)
		memcpy(tail, p + len - rest, rest);
	tail[rest] = 0x80;
	store_be64(tail + blocks * SHA_BLOCK - 8, (uint64_t)len * 8);
	fn(h, tail, blocks);
	for (unsigned i = 0; i < 8; i++)
		store_be32(out + 4 * i, h[i]);
}

void sha256_portable(const void *data, size_t len, uint8_t out[SHA256_BYTES])
{
	sha_run(sha_blocks_portable, data, len, out);
}

void sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES])
{
	sha_run(sha_ni_there() ? sha_blocks_ni : sha_blocks_portable, data, len, out);
}
