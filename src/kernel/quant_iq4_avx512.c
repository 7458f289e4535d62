/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq4_avx512.c: quantizers of iq4_nl and iq4_xs, two vectors of 16 lanes. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/quant_lanes_avx512.h"
#include "kernel/quant_iq4_lanes.h"

void lb_kinit_quant_iq4_avx512(lb_kernels *k);

void lb_kinit_quant_iq4_avx512(lb_kernels *k) {
    k->quant_iq4_nl_f32 = quant_iq4_nl;
    k->quant_iq4_xs_f32 = quant_iq4_xs;
}
