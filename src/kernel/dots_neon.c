/* SPDX-License-Identifier: Apache-2.0 */
/* dots_neon.c: dots_tmpl.h for Advanced SIMD: four registers a sum, three rows by two tokens. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/lanes_neon.h"

#define MR 3
#define NT 2
#define vf_load_bf16(p) vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16))

#include "kernel/dots_tmpl.h"

void lb_kinit_dots_neon(lb_kernels *k);

void lb_kinit_dots_neon(lb_kernels *k) {
    k->dots_f32 = dots_f32;
    k->dots_f16 = dots_f16;
    k->dots_bf16 = dots_bf16;
}
