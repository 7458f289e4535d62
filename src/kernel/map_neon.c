/* SPDX-License-Identifier: Apache-2.0 */
/* map_neon.c: the element-by-element kernels with Advanced SIMD; NaN results become LB_NAN_BITS. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <arm_neon.h>

void lb_kinit_map_neon(lb_kernels *k);

static inline void put(float *out, float32x4_t x) {
    const float32x4_t nan = vreinterpretq_f32_u32(vdupq_n_u32(LB_NAN_BITS));
    vst1q_f32(out, vbslq_f32(vceqq_f32(x, x), x, nan));
}

/* A loop over `value` of x = a[i ..] (and y = b[i ..], or c); the rest is the reference's. */
#define MAP(load_y, value, rest)                \
    size_t i = 0;                               \
    for (; i + 4 <= n_elems; i += 4) {          \
        const float32x4_t x = vld1q_f32(a + i); \
        load_y put(out + i, value);             \
    }                                           \
    rest
#define MAP1(ref, value) MAP(, value, ref(n_elems - i, out + i, a + i);)
#define MAP2(ref, value) \
    MAP(const float32x4_t y = vld1q_f32(b + i);, value, ref(n_elems - i, out + i, a + i, b + i);)
#define MAPC(ref, value) MAP(, value, ref(n_elems - i, out + i, a + i, c);)

static void add(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_add_f32_ref, vaddq_f32(x, y))
}

static void sub(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_sub_f32_ref, vsubq_f32(x, y))
}

static void mul(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_mul_f32_ref, vmulq_f32(x, y))
}

static void addc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_addc_f32_ref, vaddq_f32(x, vdupq_n_f32(c)))
}

static void mulc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_mulc_f32_ref, vmulq_n_f32(x, c))
}

static void divc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_divc_f32_ref, vdivq_f32(x, vdupq_n_f32(c)))
}

/* Where m is set 1, else 0. */
static inline float32x4_t one_where(uint32x4_t m) {
    return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(vdupq_n_f32(1.0f))));
}

static inline float32x4_t maxc_of(float32x4_t x, float32x4_t c) {
    return vbslq_f32(vcgtq_f32(c, x), c, x);
}

static inline float32x4_t minc_of(float32x4_t x, float32x4_t c) {
    return vbslq_f32(vcltq_f32(c, x), c, x);
}

static inline float32x4_t agree_of(float32x4_t x, float32x4_t y) {
    return one_where(vbslq_u32(vcgezq_f32(y), vcgtzq_f32(x), vcltzq_f32(x)));
}

static inline float32x4_t or_one_of(float32x4_t x) {
    return vbslq_f32(vceqzq_f32(x), vdupq_n_f32(1.0f), x);
}

static void divide(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_div_f32_ref, vdivq_f32(x, y))
}

static void rdivc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_rdivc_f32_ref, vdivq_f32(vdupq_n_f32(c), x))
}

static void maxc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_maxc_f32_ref, maxc_of(x, vdupq_n_f32(c)))
}

static void minc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_minc_f32_ref, minc_of(x, vdupq_n_f32(c)))
}

static void abs_of(size_t n_elems, float *out, const float *a) {
    MAP1(lb_k_map_abs_f32_ref, vabsq_f32(x))
}

static void above(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_above_f32_ref, one_where(vcgtq_f32(vabsq_f32(x), vdupq_n_f32(c))))
}

static void keep(size_t n_elems, float *out, const float *a, i32 above_bits, i32 up_to) {
    const int32x4_t lo = vdupq_n_s32(above_bits), hi = vdupq_n_s32(up_to);
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const float32x4_t x = vld1q_f32(a + i);
        const int32x4_t bits = vreinterpretq_s32_f32(vabsq_f32(x));
        put(out + i, vmulq_f32(x, one_where(vandq_u32(vcgtq_s32(bits, lo), vcleq_s32(bits, hi)))));
    }
    lb_k_map_keep_f32_ref(n_elems - i, out + i, a + i, above_bits, up_to);
}

static void or_one(size_t n_elems, float *out, const float *a) {
    MAP1(lb_k_map_or_one_f32_ref, or_one_of(x))
}

static void agree(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_agree_f32_ref, agree_of(x, y))
}

static void below(size_t n_elems, float *out, const float *a, const float *b) {
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4)
        vst1q_f32(out + i, one_where(vcltq_f32(vld1q_f32(a + i), vld1q_f32(b + i))));
    lb_k_map_below_f32_ref(n_elems - i, out + i, a + i, b + i);
}

static void fmac(size_t n_elems, float *out, const float *a, float c, const float *b) {
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4)
        put(out + i, vfmaq_n_f32(vld1q_f32(b + i), vld1q_f32(a + i), c));
    lb_k_map_fmac_f32_ref(n_elems - i, out + i, a + i, c, b + i);
}

static void round_f16(size_t n_elems, float *out, const float *a) {
    MAP1(lb_k_map_round_f16_f32_ref, vcvt_f32_f16(vcvt_f16_f32(x)))
}

static void round_bf16(size_t n_elems, float *out, const float *a) {
    const uint32x4_t nan = vdupq_n_u32(LB_NAN_BITS);
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const float32x4_t x = vld1q_f32(a + i);
        const uint32x4_t bits = vreinterpretq_u32_f32(x);
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        const uint32x4_t r = vandq_u32(up, vdupq_n_u32(0xffff0000u));
        vst1q_f32(out + i, vreinterpretq_f32_u32(vbslq_u32(vceqq_f32(x, x), r, nan)));
    }
    lb_k_map_round_bf16_f32_ref(n_elems - i, out + i, a + i);
}

void lb_kinit_map_neon(lb_kernels *k) {
    k->map_add_f32 = add;
    k->map_sub_f32 = sub;
    k->map_mul_f32 = mul;
    k->map_addc_f32 = addc;
    k->map_mulc_f32 = mulc;
    k->map_divc_f32 = divc;
    k->map_div_f32 = divide;
    k->map_rdivc_f32 = rdivc;
    k->map_maxc_f32 = maxc;
    k->map_minc_f32 = minc;
    k->map_abs_f32 = abs_of;
    k->map_above_f32 = above;
    k->map_keep_f32 = keep;
    k->map_or_one_f32 = or_one;
    k->map_agree_f32 = agree;
    k->map_below_f32 = below;
    k->map_fmac_f32 = fmac;
    k->map_round_f16_f32 = round_f16;
    k->map_round_bf16_f32 = round_bf16;
}
