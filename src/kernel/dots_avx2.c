/* SPDX-License-Identifier: Apache-2.0 */
/* dots_avx2.c: dots_tmpl.h for AVX2: two registers a sum; three rows by two tokens leave registers
 * for what is read. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/lanes_avx2.h"

#define MR 3
#define NT 2
#define vf_load_bf16(p)  \
    _mm256_castsi256_ps( \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p))), 16))

#include "kernel/dots_tmpl.h"

void lb_kinit_dots_avx2(lb_kernels *k);

void lb_kinit_dots_avx2(lb_kernels *k) {
    k->dots_f32 = dots_f32;
    k->dots_f16 = dots_f16;
    k->dots_bf16 = dots_bf16;
}
