/* SPDX-License-Identifier: Apache-2.0 */
/* quant_hf_avx2.c: quantizers of Hugging Face's types with AVX2. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/quant_pack_avx2.h"
#include "kernel/quant_hf_tmpl.h"

void lb_kinit_quant_hf_avx2(lb_kernels *k);

void lb_kinit_quant_hf_avx2(lb_kernels *k) {
    quant_hf_bind(k);
}
