/* SPDX-License-Identifier: Apache-2.0 */
/* attend_avx512.c: attention over stored keys and values: the tiles of attend_tmpl.h. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/lanes_avx512.h"

#define DOT_R 4
#define DOT_Q 4
#define MIX_Q 4
#define MIX_C 4
#define MIX_C1 8

#include "kernel/attend_tmpl.h"

void lb_kinit_attend_avx512(lb_kernels *k);

void lb_kinit_attend_avx512(lb_kernels *k) {
    attend_init(k);
}
