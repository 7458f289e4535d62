/* SPDX-License-Identifier: Apache-2.0 */
/* q8_madd_avx2.h: sums of four products of codes and signed bytes: by vpdpbusd where a file is
 * compiled for it, else by vpmaddubsw, whose pairs do not saturate while codes are at most 128:
 * wider ones get a sign first, and the activation that of the code.
 *
 * NARROW: 1: wide codes are multiplied with a sign, 128 lower. */
#ifndef LB_KERNEL_Q8_MADD_AVX2_H
#define LB_KERNEL_Q8_MADD_AVX2_H

#if defined(__AVX2__)

#include "base/base.h"
#include <immintrin.h>

#if defined(__AVXVNNI__) || defined(__AVX512VNNI__)

#define NARROW 0

/* Codes as quads() takes them. */
__attribute__((always_inline)) static inline __m256i narrow(const bool wide, __m256i w) {
    (void)wide;
    return w;
}

/* sum and, lane by lane, four products. */
__attribute__((always_inline)) static inline __m256i quads(const bool wide, __m256i sum, __m256i w,
                                                           __m256i a) {
    (void)wide;
    return _mm256_dpbusd_epi32(sum, w, a);
}

#else

#define NARROW 1

__attribute__((always_inline)) static inline __m256i narrow(const bool wide, __m256i w) {
    return wide ? _mm256_xor_si256(w, _mm256_set1_epi8(-128)) : w;
}

__attribute__((always_inline)) static inline __m256i quads(const bool wide, __m256i sum, __m256i w,
                                                           __m256i a) {
    if (wide) {
        a = _mm256_sign_epi8(a, w);
        w = _mm256_abs_epi8(w);
    }
    const __m256i pairs = _mm256_maddubs_epi16(w, a);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#endif
#endif
#endif
