/* SPDX-License-Identifier: Apache-2.0 */
/* q8_single_avx2.c: q8_rows_tmpl.h for this instruction set, types for one token. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/q8_dots_avx2.h"
#define SINGLE 1
#include "kernel/q8_rows_tmpl.h"

void lb_kinit_q8_single_avx2(lb_kernels *k);

void lb_kinit_q8_single_avx2(lb_kernels *k) {
    take_rows(k);
}
