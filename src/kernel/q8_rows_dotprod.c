/* SPDX-License-Identifier: Apache-2.0 */
/* q8_rows_dotprod.c: q8_rows_tmpl.h for this instruction set. */
#ifndef __ARM_FEATURE_DOTPROD
#error "compile with +dotprod"
#endif
#include "kernel/q8_dots_neon.h"
#include "kernel/q8_rows_tmpl.h"

void lb_kinit_q8_rows_dotprod(lb_kernels *k);

void lb_kinit_q8_rows_dotprod(lb_kernels *k) {
    take_rows(k);
}
