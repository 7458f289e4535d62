/* SPDX-License-Identifier: Apache-2.0 */
/* random_avx2.c: the Mersenne Twister, eight words at a time. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_random_avx2(lb_kernels *k);

#define W 8

static inline __m256i load(const u32 *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline __m256i mix(const u32 *now, const u32 *far) {
    const __m256i low = load(now + 1), upper = _mm256_set1_epi32(INT32_MIN);
    const __m256i y =
        _mm256_or_si256(_mm256_and_si256(load(now), upper), _mm256_andnot_si256(upper, low));
    const __m256i odd = _mm256_srai_epi32(_mm256_slli_epi32(low, 31), 31);
    const __m256i a = _mm256_and_si256(odd, _mm256_set1_epi32((int)0x9908b0dfu));
    return _mm256_xor_si256(_mm256_xor_si256(load(far), _mm256_srli_epi32(y, 1)), a);
}

static inline void put(u32 *out, __m256i v) {
    _mm256_storeu_si256((__m256i *)(void *)out, v);
}

#include "kernel/random_tmpl.h"

static inline __m256i low24(__m256i y) {
    y = _mm256_xor_si256(y, _mm256_srli_epi32(y, 11));
    y = _mm256_xor_si256(
        y, _mm256_and_si256(_mm256_slli_epi32(y, 7), _mm256_set1_epi32((int)0x9d2c5680u)));
    y = _mm256_xor_si256(
        y, _mm256_and_si256(_mm256_slli_epi32(y, 15), _mm256_set1_epi32((int)0xefc60000u)));
    y = _mm256_xor_si256(y, _mm256_srli_epi32(y, 18));
    return _mm256_and_si256(y, _mm256_set1_epi32(0xffffff));
}

static void mask(size_t n_elems, void *out, const u32 *in, u32 below) {
    const __m256i limit = _mm256_set1_epi32((int)below);
    u8 *bits = out;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8)
        *bits++ = (u8)_mm256_movemask_ps(
            _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, low24(load(in + i)))));
    lb_k_mt_mask_ref(n_elems - i, bits, in + i, below);
}

static void uniform(size_t n_elems, float *out, const u32 *in) {
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8)
        _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(low24(load(in + i))),
                                                _mm256_set1_ps(0x1p-24f)));
    lb_k_mt_uniform_f32_ref(n_elems - i, out + i, in + i);
}

void lb_kinit_random_avx2(lb_kernels *k) {
    k->mt_blocks = blocks;
    k->mt_mask = mask;
    k->mt_uniform_f32 = uniform;
}
