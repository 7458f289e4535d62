/* SPDX-License-Identifier: Apache-2.0 */
/* dense_avx512.c: dense_tmpl.h with registers of 16 floats and 8 doubles; tiles of 8 rows and three
 * of them take 24 of the 32. */
#ifndef __AVX512F__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include <immintrin.h>

typedef __m512 vf;
typedef __m512d vd;
#define VF_LANES 16
#define VD_LANES 8
#define MR 8
#define NV 3
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_store(p, x) _mm512_storeu_ps(p, x)
#define vf_set(x) _mm512_set1_ps(x)
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vf_add(a, b) _mm512_add_ps(a, b)
#define vd_load(p) _mm512_loadu_pd(p)
#define vd_store(p, x) _mm512_storeu_pd(p, x)
#define vd_set(x) _mm512_set1_pd(x)
#define vd_fma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define vd_mul(a, b) _mm512_mul_pd(a, b)
#define vd_sub(a, b) _mm512_sub_pd(a, b)

static inline vf vf_canon(vf x) {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(x, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

static inline vd vd_canon(vd x) {
    const __mmask8 nan = _mm512_cmp_pd_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_pd(x, nan, _mm512_castsi512_pd(_mm512_set1_epi64(0x7ff8000000000000)));
}

#include "kernel/dense_tmpl.h"

void lb_kinit_dense_avx512(lb_kernels *k);

void lb_kinit_dense_avx512(lb_kernels *k) {
    k->gemm_f32 = gemm;
    k->gemm_part_f32 = gemm_part;
    k->gram_f64 = gram;
    k->dot_f64 = dot;
    k->axpy_f64 = axpy;
    k->rot_f64 = rot;
}
