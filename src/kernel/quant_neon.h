/* SPDX-License-Identifier: Apache-2.0 */
/* quant_neon.h: the words of quant_tmpl.h in Advanced SIMD. */
#ifndef LB_KERNEL_QUANT_NEON_H
#define LB_KERNEL_QUANT_NEON_H
#ifdef __aarch64__
#include "kernel/quant_mlx.h"
#include <arm_neon.h>

enum { V_LANES = 4 };
typedef float32x4_t vec;
typedef int32x4_t vint;
typedef uint32x4_t vmask; /* all ones or zeros in a lane */

static inline vec v_set(float x) {
    return vdupq_n_f32(x);
}
static inline vec v_load(const float *p) {
    return vld1q_f32(p);
}
static inline void v_put(float *p, vec x) {
    vst1q_u8((u8 *)p, vreinterpretq_u8_f32(x));
}
static inline vec v_add(vec a, vec b) {
    return vaddq_f32(a, b);
}
static inline vec v_sub(vec a, vec b) {
    return vsubq_f32(a, b);
}
static inline vec v_mul(vec a, vec b) {
    return vmulq_f32(a, b);
}
static inline vec v_div(vec a, vec b) {
    return vdivq_f32(a, b);
}
static inline vec v_fma(vec a, vec b, vec c) {
    return vfmaq_f32(c, a, b);
}
/* a < b ? a : b, and a > b ? a : b: the second where one is NaN */
static inline vec v_min(vec a, vec b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline vec v_max(vec a, vec b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline vec v_floor(vec x) {
    return vrndmq_f32(x);
}
static inline vec v_ceil(vec x) {
    return vrndpq_f32(x);
}
static inline vec v_trunc(vec x) {
    return vrndq_f32(x);
}
static inline vec v_rint(vec x) {
    return vrndnq_f32(x);
}
static inline vmask v_gt(vec a, vec b) {
    return vcgtq_f32(a, b);
}
static inline vmask v_eq(vec a, vec b) {
    return vceqq_f32(a, b);
}
/* One bit a lane. */
static inline u32 v_mask_bits(vmask m) {
    static const u32 bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, vld1q_u32(bit)));
}
static inline bool v_any_nan(vec x) {
    return vminvq_u32(vceqq_f32(x, x)) == 0;
}
static inline vec v_pick(vmask m, vec yes, vec no) {
    return vbslq_f32(m, yes, no);
}
static inline vint v_bits(vec x) {
    return vreinterpretq_s32_f32(x);
}
static inline vec v_floats(vint x) {
    return vreinterpretq_f32_s32(x);
}
static inline vint vi_set(u32 x) {
    return vdupq_n_s32((i32)x);
}
static inline vint vi_add(vint a, vint b) {
    return vaddq_s32(a, b);
}
static inline vint vi_sub(vint a, vint b) {
    return vsubq_s32(a, b);
}
static inline vint vi_and(vint a, vint b) {
    return vandq_s32(a, b);
}
static inline vint vi_or(vint a, vint b) {
    return vorrq_s32(a, b);
}
static inline vint vi_xor(vint a, vint b) {
    return veorq_s32(a, b);
}
static inline vint vi_min(vint a, vint b) {
    return vminq_s32(a, b);
}
static inline vint vi_max(vint a, vint b) {
    return vmaxq_s32(a, b);
}
#define vi_srl(x, n) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x), n))
#define vi_sra(x, n) vshrq_n_s32(x, n)
#define vi_sll(x, n) vshlq_n_s32(x, n)
static inline vmask vi_gt(vint a, vint b) {
    return vcgtq_s32(a, b);
}
static inline vint vi_pick(vmask m, vint yes, vint no) {
    return vbslq_s32(m, yes, no);
}
/* To the nearest, ties to even; NaN becomes what the packing to bytes makes 0. */
static inline vint v_to_int(vec x) {
    return vcvtnq_s32_f32(x);
}
static inline vint v_to_int_trunc(vec x) {
    return vcvtq_s32_f32(x);
}

static inline vec v_load_f32(const u8 *p) {
    return vreinterpretq_f32_u8(vld1q_u8(p));
}
static inline vec v_load_bf16(const u8 *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
static inline vec v_load_f16(const u8 *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
static inline vec v_round_f16(vec x) {
    return vcvt_f32_f16(vcvt_f16_f32(x));
}

/* Two bytes a lane: the upper halves, and f16. */
static inline void v_put_high(u8 *p, vec x) {
    vst1_u8(p, vreinterpret_u8_u16(vshrn_n_u32(vreinterpretq_u32_f32(x), 16)));
}
static inline void v_put_f16(u8 *p, vec x) {
    vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(x)));
}

/* The smallest lane of lo and the largest of hi; of a NaN the caller takes no notice. */
static inline void v_reduce(vec lo, vec hi, float *out_lo, float *out_hi) {
    *out_lo = vminvq_f32(lo);
    *out_hi = vmaxvq_f32(hi);
}
static inline i32 vi_reduce_max(vint x) {
    return vmaxvq_s32(x);
}

#endif
#endif
