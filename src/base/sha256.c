/* SPDX-License-Identifier: Apache-2.0 */
/* sha256.c: SHA-256 (FIPS 180-4, sections 4.1.2, 5 and 6.2): scalar, and the instructions of x86
 * and Arm.
 *
 * Only for sums that other people check (--sha256); content checks use XXH3, ten times faster. */
#include "base/hash.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__) && (defined(__ARM_FEATURE_SHA2) || !defined(__clang__))
/* clang declares the instructions only where they are switched on for the whole file. */
#define ARM_SHA2 1
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

/* First 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const alignas(16) u32 K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline u32 rotr(u32 x, int n) {
    return x >> n | x << (32 - n);
}

static void blocks_scalar(u32 state[8], const u8 *p, size_t n_blocks) {
    for (; n_blocks; n_blocks--, p += 64) {
        u32 w[64];
        for (int t = 0; t < 16; t++)
            w[t] = __builtin_bswap32(lb_load_u32(p + 4 * t));
        for (int t = 16; t < 64; t++) {
            u32 x = w[t - 15], y = w[t - 2];
            u32 s0 = rotr(x, 7) ^ rotr(x, 18) ^ x >> 3, s1 = rotr(y, 17) ^ rotr(y, 19) ^ y >> 10;
            w[t] = s1 + w[t - 7] + s0 + w[t - 16];
        }
        u32 a = state[0], b = state[1], c = state[2], d = state[3];
        u32 e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; t++) {
            u32 t1 =
                h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + K[t] + w[t];
            u32 t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1;
            d = c, c = b, b = a, a = t1 + t2;
        }
        const u32 s[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; i++)
            state[i] += s[i];
    }
}

#if defined(__x86_64__)
static bool has_hw(void) {
    u32 a, b, c, d;
    /* SSSE3 (leaf 1 ECX 9), SSE4.1 (19); SHA (leaf 7 EBX 29). */
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 9 & 1) || !(c >> 19 & 1))
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}

/* sha256rnds2 keeps the state as (A,B,E,F) and (C,D,G,H), highest lane first, and does two
 * rounds. */
__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_hw(u32 state[8], const u8 *p,
                                                                  size_t n_blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i lo = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i hi =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(lo, hi, 8), cdgh = _mm_blend_epi16(hi, lo, 0xf0);
    for (; n_blocks; n_blocks--, p += 64) {
        __m128i abef0 = abef, cdgh0 = cdgh, w[4];
        for (int t = 0; t < 16; t++) {
            if (t < 4) {
                __m128i m = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * t));
                w[t] = _mm_shuffle_epi8(m, swap);
            } else {
                /* w[t&3] holds W of four rounds ago: add sigma0 and W[t-7], then sigma1. */
                __m128i x = _mm_sha256msg1_epu32(w[t & 3], w[(t + 1) & 3]);
                x = _mm_add_epi32(x, _mm_alignr_epi8(w[(t + 3) & 3], w[(t + 2) & 3], 4));
                w[t & 3] = _mm_sha256msg2_epu32(x, w[(t + 3) & 3]);
            }
            __m128i k = _mm_load_si128((const __m128i *)(const void *)(K + 4 * t));
            __m128i wk = _mm_add_epi32(w[t & 3], k);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    lo = _mm_shuffle_epi32(abef, 0x1b); /* F,E,B,A from the top: A,B,E,F in memory order */
    hi = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(lo, hi, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(hi, lo, 8));
}
#elif defined(ARM_SHA2)
static bool has_hw(void) {
#if defined(__APPLE__)
    return true; /* every 64-bit Apple processor since the A7 */
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) >> 6 & 1) != 0; /* HWCAP_SHA2 */
#else
    return false;
#endif
}

#if defined(__ARM_FEATURE_SHA2)
#define TARGET_SHA2
#else
#define TARGET_SHA2 __attribute__((target("+crypto")))
#endif
TARGET_SHA2 static void blocks_hw(u32 state[8], const u8 *p, size_t n_blocks) {
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; n_blocks; n_blocks--, p += 64) {
        uint32x4_t abcd0 = abcd, efgh0 = efgh, w[4];
        for (int t = 0; t < 16; t++) {
            if (t < 4)
                w[t] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * t)));
            else
                w[t & 3] = vsha256su1q_u32(vsha256su0q_u32(w[t & 3], w[(t + 1) & 3]),
                                           w[(t + 2) & 3], w[(t + 3) & 3]);
            uint32x4_t wk = vaddq_u32(w[t & 3], vld1q_u32(K + 4 * t)), old = abcd;
            abcd = vsha256hq_u32(abcd, efgh, wk);
            efgh = vsha256h2q_u32(efgh, old, wk);
        }
        abcd = vaddq_u32(abcd, abcd0);
        efgh = vaddq_u32(efgh, efgh0);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}
#else
static bool has_hw(void) {
    return false;
}
static void blocks_hw(u32 state[8], const u8 *p, size_t n_blocks) {
    blocks_scalar(state, p, n_blocks);
}
#endif

static void blocks(lb_sha256 *s, const u8 *p, size_t n_blocks) {
    if (s->hw)
        blocks_hw(s->state, p, n_blocks);
    else
        blocks_scalar(s->state, p, n_blocks);
}

void lb_sha256_init(lb_sha256 *s) {
    /* First 32 bits of the fractional parts of the square roots of the first 8 primes. */
    static const u32 start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(s, 0, sizeof *s);
    memcpy(s->state, start, sizeof start);
    s->hw = has_hw();
}

void lb_sha256_update(lb_sha256 *s, const void *ptr, size_t len) {
    const u8 *p = ptr;
    size_t held = (size_t)(s->len & 63);
    if (len == 0)
        return;
    s->len += len;
    if (held) {
        size_t n = LB_MIN(len, 64 - held);
        memcpy(s->block + held, p, n);
        if (held + n < 64)
            return;
        blocks(s, s->block, 1);
        p += n;
        len -= n;
    }
    blocks(s, p, len / 64);
    if (len & 63)
        memcpy(s->block, p + (len & ~(size_t)63), len & 63);
}

void lb_sha256_digest(lb_sha256 *s, u8 out[32]) {
    u64 n_bits = __builtin_bswap64(s->len << 3);
    size_t held = (size_t)(s->len & 63);
    s->block[held++] = 0x80;
    if (held > 56) {
        memset(s->block + held, 0, 64 - held);
        blocks(s, s->block, 1);
        held = 0;
    }
    memset(s->block + held, 0, 56 - held);
    memcpy(s->block + 56, &n_bits, 8);
    blocks(s, s->block, 1);
    for (int i = 0; i < 8; i++)
        lb_store_u32(out + 4 * i, __builtin_bswap32(s->state[i]));
}

void lb_sha256_hex(lb_sha256 *s, char out[65]) {
    static const char digits[] = "0123456789abcdef";
    u8 sum[32];
    lb_sha256_digest(s, sum);
    for (int i = 0; i < 32; i++) {
        out[2 * i] = digits[sum[i] >> 4];
        out[2 * i + 1] = digits[sum[i] & 15];
    }
    out[64] = 0;
}
