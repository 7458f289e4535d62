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

#endif
#endif
