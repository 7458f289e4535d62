/* SPDX-License-Identifier: Apache-2.0 */
/* quant_legacy_avx512.c: quantizers of ggml's small block types with AVX-512. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/quant_rows_avx512.h"
#include "kernel/quant_legacy_tmpl.h"

void lb_kinit_quant_legacy_avx512(lb_kernels *k);

void lb_kinit_quant_legacy_avx512(lb_kernels *k) {
    k->quant_q4_0_f32 = quant_q4_0;
    k->quant_q4_1_f32 = quant_q4_1;
    k->quant_q5_0_f32 = quant_q5_0;
    k->quant_q5_1_f32 = quant_q5_1;
    k->quant_q8_0_f32 = quant_q8_0;
}
