/* SPDX-License-Identifier: Apache-2.0 */
/* quant_mlx_avx2.c: MLX's quantizers with AVX2. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/quant_pack_avx2.h"
#include "kernel/quant_affine_tmpl.h"
#include "kernel/quant_fp_tmpl.h"

void lb_kinit_quant_mlx_avx2(lb_kernels *k);

void lb_kinit_quant_mlx_avx2(lb_kernels *k) {
    k->quant_mlx_q1 = quant_q1;
    k->quant_mlx_q2 = quant_q2;
    k->quant_mlx_q3 = quant_q3;
    k->quant_mlx_q4 = quant_q4;
    k->quant_mlx_q5 = quant_q5;
    k->quant_mlx_q6 = quant_q6;
    k->quant_mlx_q8 = quant_q8;
    k->quant_mlx_mxfp4 = quant_mxfp4;
    k->quant_mlx_mxfp8 = quant_mxfp8;
    k->quant_mlx_nvfp4 = quant_nvfp4;
}
