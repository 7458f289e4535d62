/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_neon.c: quantizers of the K types, two vectors of 4 lanes. */
#ifndef __ARM_NEON
#error "compile with NEON"
#endif
#include "kernel/quant_lanes_neon.h"
#include "kernel/quant_k_affine_lanes.h"
#include "kernel/quant_k_scale_lanes.h"

void lb_kinit_quant_k_neon(lb_kernels *k);

void lb_kinit_quant_k_neon(lb_kernels *k) {
    k->quant_q2_k_f32 = quant_q2_k;
    k->quant_q3_k_f32 = quant_q3_k;
    k->quant_q4_k_f32 = quant_q4_k;
    k->quant_q5_k_f32 = quant_q5_k;
    k->quant_q6_k_f32 = quant_q6_k;
}
