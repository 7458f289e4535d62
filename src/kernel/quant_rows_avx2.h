/* SPDX-License-Identifier: Apache-2.0 */
/* quant_rows_avx2.h: the words of quant_legacy_tmpl.h beside quant_pack_avx2.h's: the largest lanes
 * of several vectors, and 64 codes as two blocks of 32. */
#ifndef LB_KERNEL_QUANT_ROWS_AVX2_H
#define LB_KERNEL_QUANT_ROWS_AVX2_H
#ifdef __AVX2__
#include "kernel/quant_pack_avx2.h"

/* Lane i: the largest lane of r[i]; no NaN. */
static inline vec v_max_rows(const vec r[8]) {
    vec t[4], u[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        t[i] = _mm256_max_ps(_mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]),
                             _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        u[i] = _mm256_max_ps(_mm256_shuffle_ps(t[2 * i], t[2 * i + 1], 0x44),
                             _mm256_shuffle_ps(t[2 * i], t[2 * i + 1], 0xee));
    return _mm256_max_ps(_mm256_permute2f128_ps(u[0], u[1], 0x20),
                         _mm256_permute2f128_ps(u[0], u[1], 0x31));
}
static inline vint vi_max_rows(const vint r[8]) {
    vint t[4], u[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        t[i] = _mm256_max_epi32(_mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]),
                                _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        u[i] = _mm256_max_epi32(_mm256_unpacklo_epi64(t[2 * i], t[2 * i + 1]),
                                _mm256_unpackhi_epi64(t[2 * i], t[2 * i + 1]));
    return _mm256_max_epi32(_mm256_permute2x128_si256(u[0], u[1], 0x20),
                            _mm256_permute2x128_si256(u[0], u[1], 0x31));
}

/* x with the sign of s; x is not negative. */
static inline vec v_copy_sign(vec x, vec s) {
    return _mm256_or_ps(x, _mm256_and_ps(s, v_set(-0.0f)));
}

static inline bytes64 b_min(bytes64 c, u8 most) {
    const __m256i m = _mm256_set1_epi8((char)most);
    return (bytes64){_mm256_min_epu8(c.a, m), _mm256_min_epu8(c.b, m)};
}
/* The upper four bits of each byte. */
static inline bytes64 b_upper(bytes64 c) {
    const __m256i m = _mm256_set1_epi8(15);
    return (bytes64){_mm256_and_si256(_mm256_srli_epi16(c.a, 4), m),
                     _mm256_and_si256(_mm256_srli_epi16(c.b, 4), m)};
}
static inline void store_nibbles(u8 *p, __m256i c) {
    c = _mm256_and_si256(c, _mm256_set1_epi8(15));
    store16(p, _mm_or_si128(_mm256_castsi256_si128(c),
                            _mm_slli_epi16(_mm256_extracti128_si256(c, 1), 4)));
}
/* 32 codes to p, 32 to q: each as 32 bytes, or as 16 of their lower four bits, the i-th beside the
 * i + 16th. */
static inline void b_put_bytes(u8 *p, u8 *q, bytes64 c) {
    store32(p, c.a);
    store32(q, c.b);
}
static inline void b_put_nibbles(u8 *p, u8 *q, bytes64 c) {
    store_nibbles(p, c.a);
    store_nibbles(q, c.b);
}

/* Each 16 codes in 8 bytes, the i-th beside the i + 8th. */
static inline __m256i nibbles_16(__m256i c) {
    return _mm256_or_si256(c, _mm256_slli_epi16(_mm256_srli_si256(c, 8), 4));
}
static inline void b_put_nibbles_16(u8 *p, bytes64 c) {
    store32(
        p, _mm256_permute4x64_epi64(_mm256_unpacklo_epi64(nibbles_16(c.a), nibbles_16(c.b)), 0xd8));
}
/* n + 1 where m. */
static inline vint vi_count(vint n, vmask m) {
    return _mm256_sub_epi32(n, m);
}

static inline bytes64 b_load(const u8 *p) {
    return (bytes64){_mm256_loadu_si256((const __m256i *)(const void *)p),
                     _mm256_loadu_si256((const __m256i *)(const void *)(p + 32))};
}
/* base * q + c in bytes, base 3 or 4. */
static inline __m256i horner(__m256i q, int base, __m256i c) {
    const __m256i two = _mm256_add_epi8(q, q);
    return _mm256_add_epi8(_mm256_add_epi8(c, two), base == 3 ? q : two);
}
static inline bytes64 b_horner(bytes64 q, int base, bytes64 c) {
    return (bytes64){horner(q.a, base, c.a), horner(q.b, base, c.b)};
}

#endif
#endif
