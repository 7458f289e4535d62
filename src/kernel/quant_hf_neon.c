/* SPDX-License-Identifier: Apache-2.0 */
/* quant_hf_neon.c: quantizers of Hugging Face's types with Advanced SIMD. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/quant_pack_neon.h"
#include "kernel/quant_hf_tmpl.h"

void lb_kinit_quant_hf_neon(lb_kernels *k);

void lb_kinit_quant_hf_neon(lb_kernels *k) {
    quant_hf_bind(k);
}
