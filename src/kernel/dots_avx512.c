/* SPDX-License-Identifier: Apache-2.0 */
/* dots_avx512.c: dots_tmpl.h for AVX-512: a register a sum, four rows by four tokens. */
#ifndef __AVX512F__
#error "compile with -mavx512f"
#endif
#include <immintrin.h>

#define vf __m512
#define VF_LANES 16
#define NV 1
#define MR 4
#define NT 4
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_store(p, x) _mm512_storeu_ps(p, x)
#define vf_zero() _mm512_setzero_ps()
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vf_f16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define vf_bf16(p)                         \
    _mm512_castsi512_ps(_mm512_slli_epi32( \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p))), 16))

#include "kernel/dots_tmpl.h"

void lb_kinit_dots_avx512(lb_kernels *k);

void lb_kinit_dots_avx512(lb_kernels *k) {
    k->dots_f32 = dots_f32;
    k->dots_f16 = dots_f16;
    k->dots_bf16 = dots_bf16;
}
