/* SPDX-License-Identifier: Apache-2.0 */
/* fold_avx2.c: folds with AVX2: the 16 double lanes of fold.h are four registers. The rest of less
 * than 16 elements is added to the stored lanes, in index order as everywhere. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/fold.h"
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_fold_avx2(lb_kernels *k);

static inline __m256d load4(const float *a) {
    return _mm256_cvtps_pd(_mm_loadu_ps(a));
}

/* Four registers by name: gcc 12 keeps an array of them in memory. */
static inline void store_lanes(double lane[LB_FOLD_LANES], __m256d s0, __m256d s1, __m256d s2,
                               __m256d s3) {
    _mm256_storeu_pd(lane, s0);
    _mm256_storeu_pd(lane + 4, s1);
    _mm256_storeu_pd(lane + 8, s2);
    _mm256_storeu_pd(lane + 12, s3);
}

static double sum(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES];
    __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        s0 = _mm256_add_pd(s0, load4(a + i));
        s1 = _mm256_add_pd(s1, load4(a + i + 4));
        s2 = _mm256_add_pd(s2, load4(a + i + 8));
        s3 = _mm256_add_pd(s3, load4(a + i + 12));
    }
    store_lanes(lane, s0, s1, s2, s3);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)a[i + j];
    return lb_fold_lanes(lane);
}

static inline __m256d load4_abs(const float *a) {
    return _mm256_andnot_pd(_mm256_set1_pd(-0.0), load4(a));
}

static double sumabs(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES];
    __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        s0 = _mm256_add_pd(s0, load4_abs(a + i));
        s1 = _mm256_add_pd(s1, load4_abs(a + i + 4));
        s2 = _mm256_add_pd(s2, load4_abs(a + i + 8));
        s3 = _mm256_add_pd(s3, load4_abs(a + i + 12));
    }
    store_lanes(lane, s0, s1, s2, s3);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)lb_f32_from_bits(lb_f32_bits(a[i + j]) & 0x7fffffffu);
    return lb_fold_lanes(lane);
}

/* Fused: the product of two floats is exact in double. */
static double dot(size_t n_elems, const float *a, const float *b) {
    double lane[LB_FOLD_LANES];
    __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        s0 = _mm256_fmadd_pd(load4(a + i), load4(b + i), s0);
        s1 = _mm256_fmadd_pd(load4(a + i + 4), load4(b + i + 4), s1);
        s2 = _mm256_fmadd_pd(load4(a + i + 8), load4(b + i + 8), s2);
        s3 = _mm256_fmadd_pd(load4(a + i + 12), load4(b + i + 12), s3);
    }
    store_lanes(lane, s0, s1, s2, s3);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)a[i + j] * (double)b[i + j];
    return lb_fold_lanes(lane);
}

/* Minimum and maximum of the ordered images; NaN takes part as the image of nothing. */
static u64 range(size_t n_elems, const float *a, float minmax[2]) {
    const __m256i top = _mm256_set1_epi32(INT32_MAX), bottom = _mm256_set1_epi32(INT32_MIN);
    __m256i lo = top, hi = bottom, odd = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(a + i));
        const __m256i mag = _mm256_and_si256(x, top);
        const __m256i v = _mm256_xor_si256(x, _mm256_srli_epi32(_mm256_srai_epi32(x, 31), 1));
        const __m256i nan = _mm256_cmpgt_epi32(mag, _mm256_set1_epi32(0x7f800000));
        odd = _mm256_sub_epi32(odd, _mm256_cmpgt_epi32(mag, _mm256_set1_epi32(0x7f7fffff)));
        lo = _mm256_min_epi32(lo, _mm256_blendv_epi8(v, top, nan));
        hi = _mm256_max_epi32(hi, _mm256_blendv_epi8(v, bottom, nan));
    }
    i32 l[8], h[8];
    u32 o[8];
    _mm256_storeu_si256((__m256i *)(void *)l, lo);
    _mm256_storeu_si256((__m256i *)(void *)h, hi);
    _mm256_storeu_si256((__m256i *)(void *)o, odd);
    u64 n_odd = 0;
    for (int j = 1; j < 8; j++) {
        l[0] = LB_MIN(l[0], l[j]);
        h[0] = LB_MAX(h[0], h[j]);
    }
    for (int j = 0; j < 8; j++)
        n_odd += o[j];
    for (; i < n_elems; i++)
        n_odd += lb_fold_range_one(a[i], &l[0], &h[0]);
    lb_fold_range_put(l[0], h[0], minmax);
    return n_odd;
}

void lb_kinit_fold_avx2(lb_kernels *k) {
    k->fold_sum_f32 = sum;
    k->fold_sumabs_f32 = sumabs;
    k->fold_dot_f32 = dot;
    k->fold_range_f32 = range;
}
