/* SPDX-License-Identifier: Apache-2.0 */
/* lanes_neon.h: the words of nn_math_tmpl.h and nn_tmpl.h in registers of 4 floats and 2 doubles.
 */
#if !defined(LB_KERNEL_LANES_NEON_H) && defined(__aarch64__)
#define LB_KERNEL_LANES_NEON_H
#include "base/base.h"
#include <arm_neon.h>

typedef float32x4_t vf;
typedef float64x2_t vd;
#define VF_LANES 4
#define VD_LANES 2
#define vf_load(p) vld1q_f32(p)
#define vf_store(p, x) vst1q_f32(p, x)
#define vf_set(x) vdupq_n_f32(x)
#define vf_add(a, b) vaddq_f32(a, b)
#define vf_sub(a, b) vsubq_f32(a, b)
#define vf_mul(a, b) vmulq_f32(a, b)
#define vf_div(a, b) vdivq_f32(a, b)
#define vf_fma(a, b, c) vfmaq_f32(c, a, b)
#define vf_fnma(a, b, c) vfmsq_f32(c, a, b)
#define vf_abs(x) vabsq_f32(x)
#define vd_set(x) vdupq_n_f64(x)
#define vd_add(a, b) vaddq_f64(a, b)
#define vd_sub(a, b) vsubq_f64(a, b)
#define vd_fma(a, b, c) vfmaq_f64(c, a, b)
#define vd_store(p, x) vst1q_f64(p, x)
#define vd_load_f32(p) vcvt_f64_f32(vld1_f32(p))
#define vd_mul(a, b) vmulq_f64(a, b)

static inline vd vd_max(vd a, vd b) {
    return vbslq_f64(vcgtq_f64(a, b), a, b);
}

static inline vd vd_min(vd a, vd b) {
    return vbslq_f64(vcltq_f64(a, b), a, b);
}

static inline vd vd_above(vd x, vd lo, vd e) {
    return vreinterpretq_f64_u64(vandq_u64(vcgtq_f64(x, lo), vreinterpretq_u64_f64(e)));
}

static inline vd vd_powers(vd t, vd *a, vd *b) {
    const int64x2_t k = vcvtq_s64_f64(vsubq_f64(t, vdupq_n_f64(0.5)));
    const int64x2_t h = vshrq_n_s64(k, 1), bias = vdupq_n_s64(1023);
    *a = vreinterpretq_f64_s64(vshlq_n_s64(vaddq_s64(h, bias), 52));
    *b = vreinterpretq_f64_s64(vshlq_n_s64(vaddq_s64(vsubq_s64(k, h), bias), 52));
    return vcvtq_f64_s64(k);
}

static inline vf vf_max(vf a, vf b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static inline vf vf_min(vf a, vf b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

static inline vf vf_below0(vf x, vf a, vf b) {
    return vbslq_f32(vcltzq_f32(x), a, b);
}

static inline vf vf_copysign(vf a, vf b) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), b, a);
}

static inline vf vf_scale(vf p, vf m) {
    const int32x4_t bias = vdupq_n_s32(127);
    const int32x4_t n =
        vsubq_s32(vreinterpretq_s32_f32(m), vreinterpretq_s32_f32(vdupq_n_f32(0x1.8p23f)));
    const int32x4_t first = vshrq_n_s32(n, 1), rest = vsubq_s32(n, first);
    const vf a = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(first, bias), 23));
    const vf b = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(p, a), b);
}

static inline vf vf_canon(vf x) {
    const vf nan = vreinterpretq_f32_u32(vdupq_n_u32(0x7fc00000u));
    return vbslq_f32(vceqq_f32(x, x), x, nan);
}

static inline void vd_add_vf(vd *d, vf x) {
    d[0] = vaddq_f64(d[0], vcvt_f64_f32(vget_low_f32(x)));
    d[1] = vaddq_f64(d[1], vcvt_high_f64_f32(x));
}

static inline vf vf_twice(const float *p) {
    const float32x2_t x = vld1_f32(p);
    return vcombine_f32(vdup_lane_f32(x, 0), vdup_lane_f32(x, 1));
}

static inline vf vf_swap(vf x, const int h) {
    return h == 1 ? vrev64q_f32(x) : vextq_f32(x, x, 2);
}

static inline void vf_taps4(const float *p, vf w[4]) {
    const float32x4x4_t t = vld4q_f32(p);
    for (int i = 0; i < 4; i++)
        w[i] = t.val[i];
}

/* ---- attend_tmpl.h ---- */

static inline vf vf_half(const u8 *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(lb_load_u16(p))));
}

static inline vf vf_load_f16(const u8 *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

static inline vf vf_load_i8(const u8 *p) {
    const int8x8_t b = vreinterpret_s8_u32(vdup_n_u32(lb_load_u32(p)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(b))));
}

static inline vf vf_load_q4(const u8 *p, const bool upper, vf d) {
    const uint8x8_t b = vreinterpret_u8_u32(vdup_n_u32(lb_load_u32(p)));
    const uint8x8_t c = upper ? vshr_n_u8(b, 4) : vand_u8(b, vdup_n_u8(15));
    const int8x8_t e = vsub_s8(vreinterpret_s8_u8(c), vdup_n_s8(8));
    return vf_mul(d, vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(e)))));
}

static inline float vf_fold16(const vf x[4]) {
    const vf a = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
    const float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}

/* vf_fold16 of four at once: what is added to what is the same. */
static inline void vf_folds4(float *out, const vf a[4], const vf b[4], const vf c[4],
                             const vf d[4]) {
    const vf p = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
    const vf q = vaddq_f32(vaddq_f32(b[0], b[2]), vaddq_f32(b[1], b[3]));
    const vf r = vaddq_f32(vaddq_f32(c[0], c[2]), vaddq_f32(c[1], c[3]));
    const vf s = vaddq_f32(vaddq_f32(d[0], d[2]), vaddq_f32(d[1], d[3]));
    const float64x2_t pd = vreinterpretq_f64_f32(p), qd = vreinterpretq_f64_f32(q);
    const float64x2_t rd = vreinterpretq_f64_f32(r), sd = vreinterpretq_f64_f32(s);
    const vf x = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(pd, qd)),
                           vreinterpretq_f32_f64(vzip2q_f64(pd, qd)));
    const vf y = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(rd, sd)),
                           vreinterpretq_f32_f64(vzip2q_f64(rd, sd)));
    vst1q_f32(out, vf_canon(vpaddq_f32(x, y)));
}

#endif
