/* SPDX-License-Identifier: Apache-2.0 */
/* q8_single_avx512vnni.c: q8_rows_tmpl.h for this instruction set, types for one token. */
#ifndef __AVX512VNNI__
#error "compile with -mavx512vnni"
#endif
#include "kernel/q8_dots_avx512vnni.h"
#define SINGLE 1
#include "kernel/q8_rows_tmpl.h"

void lb_kinit_q8_single_avx512vnni(lb_kernels *k);

void lb_kinit_q8_single_avx512vnni(lb_kernels *k) {
    take_rows(k);
}
