/* SPDX-License-Identifier: Apache-2.0 */
/* dots_avx512.c: dots_tmpl.h for AVX-512: a register a sum, six rows by four tokens. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/lanes_avx512.h"

#define MR 6
#define NT 4
#define vf_load_bf16(p)  \
    _mm512_castsi512_ps( \
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p))), 16))

#include "kernel/dots_tmpl.h"

void lb_kinit_dots_avx512(lb_kernels *k);

void lb_kinit_dots_avx512(lb_kernels *k) {
    k->dots_f32 = dots_f32;
    k->dots_f16 = dots_f16;
    k->dots_bf16 = dots_bf16;
}
