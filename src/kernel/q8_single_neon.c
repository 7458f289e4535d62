/* SPDX-License-Identifier: Apache-2.0 */
/* q8_single_neon.c: q8_rows_tmpl.h for this instruction set, types for one token. */
#ifndef __ARM_NEON
#error "compile for Arm with Advanced SIMD"
#endif
#include "kernel/q8_dots_neon.h"
#define SINGLE 1
#include "kernel/q8_rows_tmpl.h"

void lb_kinit_q8_single_neon(lb_kernels *k);

void lb_kinit_q8_single_neon(lb_kernels *k) {
    take_rows(k);
}
