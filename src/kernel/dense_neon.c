/* SPDX-License-Identifier: Apache-2.0 */
/* dense_neon.c: dense_tmpl.h with registers of 4 floats and 2 doubles; tiles of 8 rows and three of
 * them take 24 of the 32. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include <arm_neon.h>

typedef float32x4_t vf;
typedef float64x2_t vd;
#define VF_LANES 4
#define VD_LANES 2
#define MR 8
#define NV 3
#define vf_load(p) vld1q_f32(p)
#define vf_store(p, x) vst1q_f32(p, x)
#define vf_set(x) vdupq_n_f32(x)
#define vf_fma(a, b, c) vfmaq_f32(c, a, b)
#define vf_add(a, b) vaddq_f32(a, b)
#define vd_load(p) vld1q_f64(p)
#define vd_store(p, x) vst1q_f64(p, x)
#define vd_set(x) vdupq_n_f64(x)
#define vd_fma(a, b, c) vfmaq_f64(c, a, b)
#define vd_mul(a, b) vmulq_f64(a, b)
#define vd_sub(a, b) vsubq_f64(a, b)

static inline vf vf_canon(vf x) {
    const vf nan = vreinterpretq_f32_u32(vdupq_n_u32(0x7fc00000u));
    return vbslq_f32(vceqq_f32(x, x), x, nan);
}

static inline vd vd_canon(vd x) {
    const vd nan = vreinterpretq_f64_u64(vdupq_n_u64(0x7ff8000000000000u));
    return vbslq_f64(vceqq_f64(x, x), x, nan);
}

#include "kernel/dense_tmpl.h"

void lb_kinit_dense_neon(lb_kernels *k);

void lb_kinit_dense_neon(lb_kernels *k) {
    k->gemm_f32 = gemm;
    k->gemm_part_f32 = gemm_part;
    k->gram_f64 = gram;
    k->dot_f64 = dot;
    k->axpy_f64 = axpy;
    k->rot_f64 = rot;
}
