/* SPDX-License-Identifier: Apache-2.0 */
/* fold_neon.c: folds with Advanced SIMD: the 16 double lanes of fold.h are eight registers. The
 * rest of less than 16 elements is added to the stored lanes, in index order as everywhere. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/fold.h"
#include "kernel/kernel.h"
#include <arm_neon.h>

void lb_kinit_fold_neon(lb_kernels *k);

/* Lanes by name, so that they stay in registers. */
typedef struct lanes {
    float64x2_t s0, s1, s2, s3, s4, s5, s6, s7;
} lanes;

static inline lanes zero_lanes(void) {
    const float64x2_t z = vdupq_n_f64(0);
    return (lanes){z, z, z, z, z, z, z, z};
}

static inline void store_lanes(double lane[LB_FOLD_LANES], lanes s) {
    vst1q_f64(lane, s.s0);
    vst1q_f64(lane + 2, s.s1);
    vst1q_f64(lane + 4, s.s2);
    vst1q_f64(lane + 6, s.s3);
    vst1q_f64(lane + 8, s.s4);
    vst1q_f64(lane + 10, s.s5);
    vst1q_f64(lane + 12, s.s6);
    vst1q_f64(lane + 14, s.s7);
}

static inline void add4(float64x2_t *s, float64x2_t *t, float32x4_t x) {
    *s = vaddq_f64(*s, vcvt_f64_f32(vget_low_f32(x)));
    *t = vaddq_f64(*t, vcvt_high_f64_f32(x));
}

/* Fused: the product of two floats is exact in double. */
static inline void mla4(float64x2_t *s, float64x2_t *t, const float *a, const float *b) {
    const float32x4_t x = vld1q_f32(a), y = vld1q_f32(b);
    *s = vfmaq_f64(*s, vcvt_f64_f32(vget_low_f32(x)), vcvt_f64_f32(vget_low_f32(y)));
    *t = vfmaq_f64(*t, vcvt_high_f64_f32(x), vcvt_high_f64_f32(y));
}

static double sum(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES];
    lanes s = zero_lanes();
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        add4(&s.s0, &s.s1, vld1q_f32(a + i));
        add4(&s.s2, &s.s3, vld1q_f32(a + i + 4));
        add4(&s.s4, &s.s5, vld1q_f32(a + i + 8));
        add4(&s.s6, &s.s7, vld1q_f32(a + i + 12));
    }
    store_lanes(lane, s);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)a[i + j];
    return lb_fold_lanes(lane);
}

static double sumabs(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES];
    lanes s = zero_lanes();
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        add4(&s.s0, &s.s1, vabsq_f32(vld1q_f32(a + i)));
        add4(&s.s2, &s.s3, vabsq_f32(vld1q_f32(a + i + 4)));
        add4(&s.s4, &s.s5, vabsq_f32(vld1q_f32(a + i + 8)));
        add4(&s.s6, &s.s7, vabsq_f32(vld1q_f32(a + i + 12)));
    }
    store_lanes(lane, s);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)lb_f32_from_bits(lb_f32_bits(a[i + j]) & 0x7fffffffu);
    return lb_fold_lanes(lane);
}

static double dot(size_t n_elems, const float *a, const float *b) {
    double lane[LB_FOLD_LANES];
    lanes s = zero_lanes();
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        mla4(&s.s0, &s.s1, a + i, b + i);
        mla4(&s.s2, &s.s3, a + i + 4, b + i + 4);
        mla4(&s.s4, &s.s5, a + i + 8, b + i + 8);
        mla4(&s.s6, &s.s7, a + i + 12, b + i + 12);
    }
    store_lanes(lane, s);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] += (double)a[i + j] * (double)b[i + j];
    return lb_fold_lanes(lane);
}

/* Minimum and maximum of the ordered images; NaN takes part as the image of nothing. */
static u64 range(size_t n_elems, const float *a, float minmax[2]) {
    const int32x4_t top = vdupq_n_s32(INT32_MAX), bottom = vdupq_n_s32(INT32_MIN);
    int32x4_t lo = top, hi = bottom;
    uint32x4_t odd = vdupq_n_u32(0);
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const int32x4_t x = vreinterpretq_s32_f32(vld1q_f32(a + i));
        const int32x4_t mag = vandq_s32(x, top);
        const uint32x4_t flip = vshrq_n_u32(vreinterpretq_u32_s32(vshrq_n_s32(x, 31)), 1);
        const int32x4_t v = veorq_s32(x, vreinterpretq_s32_u32(flip));
        const uint32x4_t nan = vcgtq_s32(mag, vdupq_n_s32(0x7f800000));
        odd = vsubq_u32(odd, vcgtq_s32(mag, vdupq_n_s32(0x7f7fffff)));
        lo = vminq_s32(lo, vbslq_s32(nan, top, v));
        hi = vmaxq_s32(hi, vbslq_s32(nan, bottom, v));
    }
    i32 l = vminvq_s32(lo), h = vmaxvq_s32(hi);
    u64 n_odd = vaddvq_u32(odd);
    for (; i < n_elems; i++)
        n_odd += lb_fold_range_one(a[i], &l, &h);
    lb_fold_range_put(l, h, minmax);
    return n_odd;
}

void lb_kinit_fold_neon(lb_kernels *k) {
    k->fold_sum_f32 = sum;
    k->fold_sumabs_f32 = sumabs;
    k->fold_dot_f32 = dot;
    k->fold_range_f32 = range;
}
