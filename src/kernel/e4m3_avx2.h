/* SPDX-License-Identifier: Apache-2.0 */
/* e4m3_avx2.h: sixteen bytes of an 8-bit float with four exponent bits to f32. */
#ifndef LB_KERNEL_E4M3_AVX2_H
#define LB_KERNEL_E4M3_AVX2_H
#ifdef __AVX2__

#include "kernel/half.h"
#include <immintrin.h>

/* S.EEEE.MMM moved to the f16 S.0EEEE.MMM0000000 is the value times 2^(bias - 15), subnormals
 * included. Adding the sign bit to itself carries it one place up, over the exponent's new top bit.
 */
static inline __m256i lb_e4m3_as_f16(__m128i bytes) {
    const __m256i w = _mm256_cvtepu8_epi16(bytes);
    return _mm256_slli_epi16(_mm256_add_epi16(w, _mm256_and_si256(w, _mm256_set1_epi16(0x80))), 7);
}

/* 16 f16 times a power of two. */
static inline void lb_f16_16(__m256i h, float power, __m256 *a, __m256 *b) {
    const __m256 f = _mm256_set1_ps(power);
    *a = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), f);
    *b = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)), f);
}

/* OFP8 E4M3: bias 7, S.1111.111 is NaN; its f16 0x3f80 becomes 0x7e00, which becomes LB_NAN_BITS.
 */
static inline void lb_e4m3(__m128i bytes, __m256 *a, __m256 *b) {
    const __m256i h = lb_e4m3_as_f16(bytes);
    const __m256i mag = _mm256_and_si256(h, _mm256_set1_epi16(0x7fff));
    const __m256i nan = _mm256_cmpeq_epi16(mag, _mm256_set1_epi16(0x3f80));
    const __m256i x =
        _mm256_xor_si256(h, _mm256_and_si256(nan, _mm256_set1_epi16(0x3f80 ^ 0x7e00)));
    lb_f16_16(x, 0x1p8f, a, b);
}

#endif
#endif
