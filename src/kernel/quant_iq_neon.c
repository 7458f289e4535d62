/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq_neon.c: quantizers of the iq1, iq2 and iq3 types, vectors of 4 lanes. */
#ifndef __ARM_NEON
#error "compile with NEON"
#endif
#include "kernel/quant_lanes_neon.h"
#include "kernel/quant_iq1_lanes.h"
#include "kernel/quant_iq_lanes.h"

void lb_kinit_quant_iq_neon(lb_kernels *k);

void lb_kinit_quant_iq_neon(lb_kernels *k) {
    k->quant_iq2_xxs_f32 = quant_iq2_xxs;
    k->quant_iq2_xs_f32 = quant_iq2_xs;
    k->quant_iq2_s_f32 = quant_iq2_s;
    k->quant_iq3_xxs_f32 = quant_iq3_xxs;
    k->quant_iq3_s_f32 = quant_iq3_s;
    k->quant_iq1_s_f32 = quant_iq1_s;
    k->quant_iq1_m_f32 = quant_iq1_m;
}
