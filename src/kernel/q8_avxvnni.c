/* SPDX-License-Identifier: Apache-2.0 */
/* q8_avxvnni.c: products of eight bits by vpdpbusd of AVX-VNNI (q8_madd_avx2.h). */
#if !defined(__AVXVNNI__) && !defined(__AVX512VNNI__) /* the latter: checkkern */
#error "compile with -mavxvnni"
#endif
#include "kernel/q8_madd_avx2.h"

#define NT 6
#define PANELS 1
#include "kernel/q8_gemm_tmpl.h"
#include "kernel/q8_gemm_ymm_tmpl.h"

#include "kernel/q8_dots_avx2.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_avxvnni(lb_kernels *k);

void lb_kinit_q8_avxvnni(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
