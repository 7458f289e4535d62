/* SPDX-License-Identifier: Apache-2.0 */
/* dots_neon.c: dots_tmpl.h for Advanced SIMD: four registers a sum, two rows by two tokens. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include <arm_neon.h>

#define vf float32x4_t
#define VF_LANES 4
#define NV 4
#define MR 2
#define NT 2
#define vf_load(p) vld1q_f32(p)
#define vf_store(p, x) vst1q_f32(p, x)
#define vf_zero() vdupq_n_f32(0)
#define vf_fma(a, b, c) vfmaq_f32(c, a, b)
#define vf_f16(p) vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)))
#define vf_bf16(p) vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16))

#include "kernel/dots_tmpl.h"

void lb_kinit_dots_neon(lb_kernels *k);

void lb_kinit_dots_neon(lb_kernels *k) {
    k->dots_f32 = dots_f32;
    k->dots_f16 = dots_f16;
    k->dots_bf16 = dots_bf16;
}
