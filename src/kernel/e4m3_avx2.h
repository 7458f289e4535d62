/* SPDX-License-Identifier: Apache-2.0 */
/* e4m3_avx2.h: eight bytes of an 8-bit float with four exponent bits to f32. */
#ifndef LB_KERNEL_E4M3_AVX2_H
#define LB_KERNEL_E4M3_AVX2_H
#ifdef __AVX2__

#include "kernel/half.h"
#include <immintrin.h>

/* S.EEEE.MMM moved to the f16 S.0EEEE.MMM0000000 is the value times 2^(bias - 15), subnormals
 * included. Adding the sign bit to itself carries it one place up, over the exponent's new top bit.
 */
static inline __m128i lb_e4m3_as_f16(__m128i bytes) {
    const __m128i w = _mm_cvtepu8_epi16(bytes);
    return _mm_slli_epi16(_mm_add_epi16(w, _mm_and_si128(w, _mm_set1_epi16(0x80))), 7);
}

/* OFP8 E4M3: bias 7, S.1111.111 is NaN; its f16 0x3f80 becomes 0x7e00, which becomes LB_NAN_BITS.
 */
static inline __m256 lb_e4m3(__m128i bytes) {
    const __m128i h = lb_e4m3_as_f16(bytes);
    const __m128i mag = _mm_and_si128(h, _mm_set1_epi16(0x7fff));
    const __m128i nan = _mm_cmpeq_epi16(mag, _mm_set1_epi16(0x3f80));
    const __m128i x = _mm_xor_si128(h, _mm_and_si128(nan, _mm_set1_epi16(0x3f80 ^ 0x7e00)));
    return _mm256_mul_ps(_mm256_cvtph_ps(x), _mm256_set1_ps(0x1p8f));
}

#endif
#endif
