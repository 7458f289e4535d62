/* SPDX-License-Identifier: Apache-2.0 */
/* attend_avx2.c: attention over stored keys and values: the tiles of attend_tmpl.h. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/lanes_avx2.h"

#define DOT_R 2
#define DOT_Q 2
#define MIX_Q 2
#define MIX_C 2
#define MIX_C1 4

#include "kernel/attend_tmpl.h"

void lb_kinit_attend_avx2(lb_kernels *k);

void lb_kinit_attend_avx2(lb_kernels *k) {
    attend_init(k);
}
