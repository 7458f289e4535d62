/* SPDX-License-Identifier: Apache-2.0 */
/* quant_rows_avx512.h: the words of quant_legacy_tmpl.h beside quant_pack_avx512.h's
 * (quant_rows_avx2.h says what each does). */
#ifndef LB_KERNEL_QUANT_ROWS_AVX512_H
#define LB_KERNEL_QUANT_ROWS_AVX512_H
#ifdef __AVX512BW__
#include "kernel/quant_pack_avx512.h"

static inline vec v_max_rows(const vec r[16]) {
    vec t[8], u[4], w[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        t[i] = _mm512_max_ps(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]),
                             _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        u[i] = _mm512_max_ps(_mm512_shuffle_ps(t[2 * i], t[2 * i + 1], 0x44),
                             _mm512_shuffle_ps(t[2 * i], t[2 * i + 1], 0xee));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        w[i] = _mm512_max_ps(_mm512_shuffle_f32x4(u[2 * i], u[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(u[2 * i], u[2 * i + 1], 0xdd));
    return _mm512_max_ps(_mm512_shuffle_f32x4(w[0], w[1], 0x88),
                         _mm512_shuffle_f32x4(w[0], w[1], 0xdd));
}
static inline vint vi_max_rows(const vint r[16]) {
    vint t[8], u[4], w[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        t[i] = _mm512_max_epi32(_mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]),
                                _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        u[i] = _mm512_max_epi32(_mm512_unpacklo_epi64(t[2 * i], t[2 * i + 1]),
                                _mm512_unpackhi_epi64(t[2 * i], t[2 * i + 1]));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        w[i] = _mm512_max_epi32(_mm512_shuffle_i32x4(u[2 * i], u[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(u[2 * i], u[2 * i + 1], 0xdd));
    return _mm512_max_epi32(_mm512_shuffle_i32x4(w[0], w[1], 0x88),
                            _mm512_shuffle_i32x4(w[0], w[1], 0xdd));
}

static inline vec v_copy_sign(vec x, vec s) { /* x | (s & sign) */
    return v_floats(_mm512_ternarylogic_epi32(v_bits(x), v_bits(s), vi_set(0x80000000u), 0xf8));
}

static inline bytes64 b_min(bytes64 c, u8 most) {
    return (bytes64){_mm512_min_epu8(c.x, _mm512_set1_epi8((char)most))};
}
static inline bytes64 b_upper(bytes64 c) {
    return (bytes64){_mm512_and_si512(_mm512_srli_epi16(c.x, 4), _mm512_set1_epi8(15))};
}
static inline void b_put_bytes(u8 *p, u8 *q, bytes64 c) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_castsi512_si256(c.x));
    _mm256_storeu_si256((__m256i *)(void *)q, _mm512_extracti64x4_epi64(c.x, 1));
}
static inline void b_put_nibbles(u8 *p, u8 *q, bytes64 c) {
    const __m512i x = _mm512_and_si512(c.x, _mm512_set1_epi8(15));
    const __m512i n = _mm512_or_si512(x, _mm512_slli_epi16(_mm512_shuffle_i32x4(x, x, 0xb1), 4));
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_castsi512_si128(n));
    _mm_storeu_si128((__m128i *)(void *)q, _mm512_extracti32x4_epi32(n, 2));
}

static inline void b_put_nibbles_16(u8 *p, bytes64 c) {
    const __m512i n = _mm512_or_si512(c.x, _mm512_slli_epi16(_mm512_bsrli_epi128(c.x, 8), 4));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_castsi512_si256(_mm512_permutexvar_epi64(
                                                  _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), n)));
}
static inline vint vi_count(vint n, vmask m) {
    return _mm512_mask_add_epi32(n, m, n, vi_set(1));
}

static inline bytes64 b_load(const u8 *p) {
    return (bytes64){_mm512_loadu_si512(p)};
}
static inline bytes64 b_horner(bytes64 q, int base, bytes64 c) {
    const __m512i two = _mm512_add_epi8(q.x, q.x);
    return (bytes64){_mm512_add_epi8(_mm512_add_epi8(c.x, two), base == 3 ? q.x : two)};
}

#endif
#endif
