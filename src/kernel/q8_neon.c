/* SPDX-License-Identifier: Apache-2.0 */
/* q8_neon.c: products of eight bits on Armv8-A: products of 16 bits added in pairs. Codes of at
 * most 127 are signed as they are; wide ones are taken 128 lower. */
#ifndef __ARM_NEON
#error "compile for Arm with Advanced SIMD"
#endif
#include <arm_neon.h>

#define NT 4
#define NARROW 1
#include "kernel/q8_tmpl.h"
#include "kernel/q8_panels_neon.h"

#include "kernel/q8_dots_neon.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_neon(lb_kernels *k);

void lb_kinit_q8_neon(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
