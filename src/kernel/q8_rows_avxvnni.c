/* SPDX-License-Identifier: Apache-2.0 */
/* q8_rows_avxvnni.c: q8_rows_tmpl.h for this instruction set. */
#if !defined(__AVXVNNI__) && !defined(__AVX512VNNI__) /* the latter: checkkern */
#error "compile with -mavxvnni"
#endif
#include "kernel/q8_dots_avx2.h"
#include "kernel/q8_rows_tmpl.h"

void lb_kinit_q8_rows_avxvnni(lb_kernels *k);

void lb_kinit_q8_rows_avxvnni(lb_kernels *k) {
    take_rows(k);
}
