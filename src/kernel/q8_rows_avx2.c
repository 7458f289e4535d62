/* SPDX-License-Identifier: Apache-2.0 */
/* q8_rows_avx2.c: q8_rows_tmpl.h for this instruction set. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/q8_dots_avx2.h"
#include "kernel/q8_rows_tmpl.h"

void lb_kinit_q8_rows_avx2(lb_kernels *k);

void lb_kinit_q8_rows_avx2(lb_kernels *k) {
    take_rows(k);
}
