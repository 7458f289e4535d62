/* SPDX-License-Identifier: Apache-2.0 */
/* q8_dotprod.c: products of eight bits by sdot, which adds four products to a lane of 32 bits: four
 * rows by eight tokens of a panel, each with a lane of a register of tokens. */
#ifndef __ARM_FEATURE_DOTPROD
#error "compile with +dotprod"
#endif
#include <arm_neon.h>

#define NT 8
#define NARROW 1
#include "kernel/q8_tmpl.h"
#include "kernel/q8_panels_neon.h"

#include "kernel/q8_dots_neon.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_dotprod(lb_kernels *k);

void lb_kinit_q8_dotprod(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
