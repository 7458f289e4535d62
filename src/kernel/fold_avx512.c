/* SPDX-License-Identifier: Apache-2.0 */
/* fold_avx512.c: folds with AVX-512: the 16 double lanes of fold.h are two registers. The order of
 * additions leaves one chain for each lane, so that sums wait for the adder, not for work. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/fold.h"
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_fold_avx512(lb_kernels *k);

static inline __m512d load8(const float *a) {
    return _mm512_cvtps_pd(_mm256_loadu_ps(a));
}

static double sum(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES];
    __m512d s0 = _mm512_setzero_pd(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        s0 = _mm512_add_pd(s0, load8(a + i));
        s1 = _mm512_add_pd(s1, load8(a + i + 8));
    }
    _mm512_storeu_pd(lane, s0);
    _mm512_storeu_pd(lane + 8, s1);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)a[i + j];
    return lb_fold_lanes(lane);
}

static double sumabs(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES];
    __m512d s0 = _mm512_setzero_pd(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        s0 = _mm512_add_pd(s0, _mm512_abs_pd(load8(a + i)));
        s1 = _mm512_add_pd(s1, _mm512_abs_pd(load8(a + i + 8)));
    }
    _mm512_storeu_pd(lane, s0);
    _mm512_storeu_pd(lane + 8, s1);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)lb_f32_from_bits(lb_f32_bits(a[i + j]) & 0x7fffffffu);
    return lb_fold_lanes(lane);
}

static double dot(size_t n_elems, const float *a, const float *b) {
    double lane[LB_FOLD_LANES];
    __m512d s0 = _mm512_setzero_pd(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        s0 = _mm512_fmadd_pd(load8(a + i), load8(b + i), s0);
        s1 = _mm512_fmadd_pd(load8(a + i + 8), load8(b + i + 8), s1);
    }
    _mm512_storeu_pd(lane, s0);
    _mm512_storeu_pd(lane + 8, s1);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)a[i + j] * (double)b[i + j];
    return lb_fold_lanes(lane);
}

/* Minimum and maximum of the ordered images of what is not NaN; the others are counted by masks. */
typedef struct extremes {
    __m512i lo, hi;
    u64 n_odd;
} extremes;

static inline void take(extremes *e, __mmask16 m, __m512i x) {
    const __m512i mag = _mm512_and_si512(x, _mm512_set1_epi32(INT32_MAX));
    const __m512i v = _mm512_xor_si512(x, _mm512_srli_epi32(_mm512_srai_epi32(x, 31), 1));
    const __m512i inf = _mm512_set1_epi32(0x7f800000);
    const __mmask16 number = _mm512_mask_cmple_epi32_mask(m, mag, inf);
    e->n_odd += (u64)__builtin_popcount(_mm512_mask_cmpge_epi32_mask(m, mag, inf));
    e->lo = _mm512_mask_min_epi32(e->lo, number, e->lo, v);
    e->hi = _mm512_mask_max_epi32(e->hi, number, e->hi, v);
}

static u64 range(size_t n_elems, const float *a, float minmax[2]) {
    extremes e = {_mm512_set1_epi32(INT32_MAX), _mm512_set1_epi32(INT32_MIN), 0};
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16)
        take(&e, 0xffff, _mm512_loadu_si512(a + i));
    if (i < n_elems) {
        const __mmask16 m = (__mmask16)((1u << (n_elems - i)) - 1);
        take(&e, m, _mm512_maskz_loadu_epi32(m, a + i));
    }
    lb_fold_range_put(_mm512_reduce_min_epi32(e.lo), _mm512_reduce_max_epi32(e.hi), minmax);
    return e.n_odd;
}

void lb_kinit_fold_avx512(lb_kernels *k) {
    k->fold_sum_f32 = sum;
    k->fold_sumabs_f32 = sumabs;
    k->fold_dot_f32 = dot;
    k->fold_range_f32 = range;
}
