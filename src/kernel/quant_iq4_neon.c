/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq4_neon.c: quantizers of iq4_nl and iq4_xs, two vectors of 4 lanes. */
#ifndef __ARM_NEON
#error "compile with NEON"
#endif
#include "kernel/quant_lanes_neon.h"
#include "kernel/quant_iq4_lanes.h"

void lb_kinit_quant_iq4_neon(lb_kernels *k);

void lb_kinit_quant_iq4_neon(lb_kernels *k) {
    k->quant_iq4_nl_f32 = quant_iq4_nl;
    k->quant_iq4_xs_f32 = quant_iq4_xs;
}
