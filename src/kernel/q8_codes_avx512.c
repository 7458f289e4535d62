/* SPDX-License-Identifier: Apache-2.0 */
/* q8_codes_avx512.c: q8_codes_tmpl.h in the compiler's vectors of this instruction set. */
#ifndef __AVX512BW__
#error "compile with -mavx512bw"
#endif
#include "kernel/q8_codes_tmpl.h"

void lb_kinit_q8_codes_avx512(lb_kernels *k);

void lb_kinit_q8_codes_avx512(lb_kernels *k) {
    k->act_q8 = act_q8;
    k->act_q16 = act_q16;
#define LB_Q8_UNITS(id, t, elems, bytes, type) k->codes_##t = codes_##t;
#include "kernel/q8_types.def"
    k->codes_mlx_q1 = codes_mlx_q1;
    k->codes_mlx_q2 = codes_mlx_q2;
    k->codes_mlx_q3 = codes_mlx_q3;
    k->codes_mlx_q4 = codes_mlx_q4;
    k->codes_mlx_q5 = codes_mlx_q5;
    k->codes_mlx_q6 = codes_mlx_q6;
    k->codes_mlx_q8 = codes_mlx_q8;
    k->codes_mlx_fp4 = codes_mlx_fp4;
}
