/* SPDX-License-Identifier: Apache-2.0 */
/* e4m3_avx512.h: 32 bytes of an 8-bit float with four exponent bits to f32; see e4m3_avx2.h. */
#ifndef LB_KERNEL_E4M3_AVX512_H
#define LB_KERNEL_E4M3_AVX512_H
#ifdef __AVX512BW__

#include "kernel/half.h"
#include <immintrin.h>

static inline __m512i lb_e4m3_as_f16_32(__m256i bytes) {
    const __m512i w = _mm512_cvtepu8_epi16(bytes);
    return _mm512_slli_epi16(_mm512_add_epi16(w, _mm512_and_si512(w, _mm512_set1_epi16(0x80))), 7);
}

/* 32 f16 times a power of two. */
static inline void lb_f16_32(__m512i h, float power, __m512 *a, __m512 *b) {
    const __m512 f = _mm512_set1_ps(power);
    *a = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(h)), f);
    *b = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(h, 1)), f);
}

/* OFP8 E4M3: bias 7, S.1111.111 is NaN; its f16 0x3f80 becomes 0x7e00, which becomes LB_NAN_BITS.
 */
static inline void lb_e4m3_32(__m256i bytes, __m512 *a, __m512 *b) {
    const __m512i h = lb_e4m3_as_f16_32(bytes);
    const __m512i mag = _mm512_and_si512(h, _mm512_set1_epi16(0x7fff));
    const __mmask32 nan = _mm512_cmpeq_epi16_mask(mag, _mm512_set1_epi16(0x3f80));
    const __m512i x = _mm512_xor_si512(h, _mm512_maskz_set1_epi16(nan, 0x3f80 ^ 0x7e00));
    lb_f16_32(x, 0x1p8f, a, b);
}

#endif
#endif
