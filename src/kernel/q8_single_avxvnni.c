/* SPDX-License-Identifier: Apache-2.0 */
/* q8_single_avxvnni.c: q8_rows_tmpl.h for this instruction set, types for one token. */
#if !defined(__AVXVNNI__) && !defined(__AVX512VNNI__) /* the latter: checkkern */
#error "compile with -mavxvnni"
#endif
#include "kernel/q8_dots_avx2.h"
#define SINGLE 1
#include "kernel/q8_rows_tmpl.h"

void lb_kinit_q8_single_avxvnni(lb_kernels *k);

void lb_kinit_q8_single_avxvnni(lb_kernels *k) {
    take_rows(k);
}
