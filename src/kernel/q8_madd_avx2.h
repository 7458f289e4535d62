/* SPDX-License-Identifier: Apache-2.0 */
/* q8_madd_avx2.h: sums of four products of codes and signed bytes. */
#ifndef LB_KERNEL_Q8_MADD_AVX2_H
#define LB_KERNEL_Q8_MADD_AVX2_H

#if defined(__AVX2__)

#include "base/base.h"
#include <immintrin.h>

/* Codes as quads() takes them: wide ones with the sign's bit turned. */
__attribute__((always_inline)) static inline __m256i narrow(const bool wide, __m256i w) {
    return wide ? _mm256_xor_si256(w, _mm256_set1_epi8(-128)) : w;
}

__attribute__((always_inline)) static inline __m256i quads(const bool wide, __m256i w, __m256i a) {
    if (wide) {
        a = _mm256_sign_epi8(a, w);
        w = _mm256_abs_epi8(w);
    }
    return _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1));
}

#endif
#endif
