/* SPDX-License-Identifier: Apache-2.0 */
/* quant_legacy_avx512.c: quantizers of ggml's small block types with AVX-512. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/quant_lanes_avx512.h"
#include "kernel/quant_rows_avx512.h"
#include "kernel/quant_fp4_tmpl.h"
#include "kernel/quant_legacy_tmpl.h"
#include "kernel/quant_ternary_tmpl.h"

void lb_kinit_quant_legacy_avx512(lb_kernels *k);

void lb_kinit_quant_legacy_avx512(lb_kernels *k) {
    k->quant_q4_0_f32 = quant_q4_0;
    k->quant_q4_1_f32 = quant_q4_1;
    k->quant_q5_0_f32 = quant_q5_0;
    k->quant_q5_1_f32 = quant_q5_1;
    k->quant_q8_0_f32 = quant_q8_0;
    k->quant_mxfp4_f32 = quant_mxfp4_blocks;
    k->quant_nvfp4_f32 = quant_nvfp4_blocks;
    k->quant_q1_0_f32 = quant_q1_0;
    k->quant_q2_0_f32 = quant_q2_0;
    k->quant_tq1_0_f32 = quant_tq1_0;
    k->quant_tq2_0_f32 = quant_tq2_0;
}
