/* SPDX-License-Identifier: Apache-2.0 */
/* q8_avx2.c: products of eight bits by vpmaddubsw, whose pairs do not saturate while codes are at
 * most 128: wider ones get a sign first, and the activation that of the code. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include <immintrin.h>

#define NT 4
#define PANELS 1
#define NARROW 1
#include "kernel/q8_gemm_tmpl.h"
#include "kernel/q8_gemm_ymm_tmpl.h"
#include "kernel/q8_madd_avx2.h"

#define load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))

INLINE __m256i codes8(const bool wide, const u8 *p) {
    return narrow(wide, load(p));
}

INLINE __m256i dot4(const bool wide, __m256i sum, __m256i w, __m256i a) {
    return _mm256_add_epi32(sum, quads(wide, w, a));
}

#include "kernel/q8_dots_avx2.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_avx2(lb_kernels *k);

void lb_kinit_q8_avx2(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
