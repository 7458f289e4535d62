/* SPDX-License-Identifier: Apache-2.0 */
/* quant_hf_avx512.c: quantizers of Hugging Face's types with AVX-512. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/quant_pack_avx512.h"
#include "kernel/quant_hf_tmpl.h"

void lb_kinit_quant_hf_avx512(lb_kernels *k);

void lb_kinit_quant_hf_avx512(lb_kernels *k) {
    quant_hf_bind(k);
}
