/* SPDX-License-Identifier: Apache-2.0 */
/* dense_avx2.c: dense_tmpl.h with registers of 8 floats and 4 doubles; tiles of 6 rows and two of
 * them take 12 of the 16. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include <immintrin.h>

typedef __m256 vf;
typedef __m256d vd;
#define VF_LANES 8
#define VD_LANES 4
#define MR 6
#define NV 2
#define vf_load(p) _mm256_loadu_ps(p)
#define vf_store(p, x) _mm256_storeu_ps(p, x)
#define vf_set(x) _mm256_set1_ps(x)
#define vf_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vf_add(a, b) _mm256_add_ps(a, b)
#define vd_load(p) _mm256_loadu_pd(p)
#define vd_store(p, x) _mm256_storeu_pd(p, x)
#define vd_set(x) _mm256_set1_pd(x)
#define vd_fma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define vd_mul(a, b) _mm256_mul_pd(a, b)
#define vd_sub(a, b) _mm256_sub_pd(a, b)

static inline vf vf_canon(vf x) {
    const vf nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    return _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static inline vd vd_canon(vd x) {
    const vd nan = _mm256_castsi256_pd(_mm256_set1_epi64x(0x7ff8000000000000));
    return _mm256_blendv_pd(x, nan, _mm256_cmp_pd(x, x, _CMP_UNORD_Q));
}

#include "kernel/dense_tmpl.h"

void lb_kinit_dense_avx2(lb_kernels *k);

void lb_kinit_dense_avx2(lb_kernels *k) {
    k->gemm_f32 = gemm;
    k->gemm_part_f32 = gemm_part;
    k->gram_f64 = gram;
    k->dot_f64 = dot;
    k->axpy_f64 = axpy;
    k->rot_f64 = rot;
}
