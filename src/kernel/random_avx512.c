/* SPDX-License-Identifier: Apache-2.0 */
/* random_avx512.c: the Mersenne Twister, sixteen words at a time. */
#ifndef __AVX512F__
#error "compile with -mavx512f -mavx512bw -mavx512vl -mavx512dq"
#endif
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_random_avx512(lb_kernels *k);

#define W 16

static inline __m512i load(const u32 *p) {
    return _mm512_loadu_si512(p);
}

static inline __m512i mix(const u32 *now, const u32 *far) {
    const __m512i low = load(now + 1), upper = _mm512_set1_epi32(INT32_MIN);
    const __m512i y =
        _mm512_ternarylogic_epi32(upper, load(now), low, 0xca); /* upper ? now : low */
    const __m512i a = _mm512_maskz_set1_epi32(_mm512_test_epi32_mask(low, _mm512_set1_epi32(1)),
                                              (int)0x9908b0dfu);
    return _mm512_ternarylogic_epi32(load(far), _mm512_srli_epi32(y, 1), a, 0x96);
}

static inline void put(u32 *out, __m512i v) {
    _mm512_storeu_si512(out, v);
}

#include "kernel/random_tmpl.h"

/* a ^ (b & c) */
static inline __m512i xor_and(__m512i a, __m512i b, __m512i c) {
    return _mm512_ternarylogic_epi32(a, b, c, 0x78);
}

static inline __m512i low24(__m512i y) {
    y = _mm512_xor_si512(y, _mm512_srli_epi32(y, 11));
    y = xor_and(y, _mm512_slli_epi32(y, 7), _mm512_set1_epi32((int)0x9d2c5680u));
    y = xor_and(y, _mm512_slli_epi32(y, 15), _mm512_set1_epi32((int)0xefc60000u));
    y = _mm512_xor_si512(y, _mm512_srli_epi32(y, 18));
    return _mm512_and_si512(y, _mm512_set1_epi32(0xffffff));
}

static void mask(size_t n_elems, void *out, const u32 *in, u32 below) {
    const __m512i limit = _mm512_set1_epi32((int)below);
    u8 *bits = out;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16, bits += 2) {
        const u16 m = (u16)_mm512_cmplt_epu32_mask(low24(load(in + i)), limit);
        memcpy(bits, &m, sizeof m);
    }
    lb_k_mt_mask_ref(n_elems - i, bits, in + i, below);
}

static void uniform(size_t n_elems, float *out, const u32 *in) {
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16)
        _mm512_storeu_ps(out + i, _mm512_mul_ps(_mm512_cvtepi32_ps(low24(load(in + i))),
                                                _mm512_set1_ps(0x1p-24f)));
    lb_k_mt_uniform_f32_ref(n_elems - i, out + i, in + i);
}

void lb_kinit_random_avx512(lb_kernels *k) {
    k->mt_blocks = blocks;
    k->mt_mask = mask;
    k->mt_uniform_f32 = uniform;
}
