/* SPDX-License-Identifier: Apache-2.0 */
/* spread_avx2.h: 32 codes in bytes to 32 f32 in order, the step all block decoders share.
 *
 *   bytes  0-3 4-7 8-11 12-15 | 16-19 20-23 24-27 28-31
 *   dealt  0-3 8-11 16-19 24-27 | 4-7 12-15 20-23 28-31        one vpermd (lb_deal)
 *   spread k: 8k .. 8k+3 | 8k+4 .. 8k+7, one byte a dword       one vpshufb each (lb_low8,
 * lb_high8) Bytewise operations may stand between the two. Signed codes go to the top byte of their
 * dword, so the scale they are multiplied with must have 2^-24 in it. */
#ifndef LB_KERNEL_SPREAD_AVX2_H
#define LB_KERNEL_SPREAD_AVX2_H
#ifdef __AVX2__

#include "base/base.h"
#include <immintrin.h>

static inline __m256i lb_load32(const u8 *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline __m128i lb_load16(const u8 *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline __m128i lb_load8(const u8 *p) {
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

static inline __m256i lb_deal(__m256i bytes) {
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
}

/* Bytes 8k .. 8k+7 of dealt bytes, unsigned. */
static inline __m256 lb_low8(__m256i dealt, u32 k) {
    const u32 z = 0x80808000u + 4 * k; /* an index with bit 7 set gives zero */
    const __m128i at = _mm_setr_epi32((int)z, (int)(z + 1), (int)(z + 2), (int)(z + 3));
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(dealt, _mm256_broadcastsi128_si256(at)));
}

/* Bytes 8k .. 8k+7 of dealt bytes, signed, times 2^24. */
static inline __m256 lb_high8(__m256i dealt, u32 k) {
    const u32 z = 0x00808080u + (k << 26), one = 1u << 24;
    const __m128i at =
        _mm_setr_epi32((int)z, (int)(z + one), (int)(z + 2 * one), (int)(z + 3 * one));
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(dealt, _mm256_broadcastsi128_si256(at)));
}

/* out[0..16) = d[0] q, out[16..32) = d[next] q; q dealt, signed; d with 2^-24 in it. */
static inline void lb_put_scaled(float *out, __m256i q, const float *d, size_t next) {
    const __m256 a = _mm256_broadcast_ss(d), b = _mm256_broadcast_ss(d + next);
    _mm256_storeu_ps(out, _mm256_mul_ps(a, lb_high8(q, 0)));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(a, lb_high8(q, 1)));
    _mm256_storeu_ps(out + 16, _mm256_mul_ps(b, lb_high8(q, 2)));
    _mm256_storeu_ps(out + 24, _mm256_mul_ps(b, lb_high8(q, 3)));
}

#endif
#endif
