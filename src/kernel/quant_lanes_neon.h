/* SPDX-License-Identifier: Apache-2.0 */
/* quant_lanes_neon.h: the vectors of quant_lanes.h: 4 floats (quant_lanes_avx2.h says what each
 * function does). */
#ifndef LB_KERNEL_QUANT_LANES_NEON_H
#define LB_KERNEL_QUANT_LANES_NEON_H
#ifdef __ARM_NEON

#include "base/base.h"
#include <arm_neon.h>

#define LANES_INLINE __attribute__((always_inline)) static inline

enum { HALF = 4 };
typedef float32x4_t vh;
typedef int32x4_t vhi;
typedef uint32x4_t vhm;

LANES_INLINE vh vh_all(float x) {
    return vdupq_n_f32(x);
}
LANES_INLINE vh vh_load(const float *p) {
    return vld1q_f32(p);
}
LANES_INLINE void vh_store(float *p, vh v) {
    vst1q_f32(p, v);
}
LANES_INLINE vh vh_min(vh a, vh b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
LANES_INLINE vh vh_max(vh a, vh b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
LANES_INLINE vh vh_sqrt(vh a) {
    return vsqrtq_f32(a);
}
LANES_INLINE vh vh_abs(vh a) {
    return vabsq_f32(a);
}
LANES_INLINE vh vh_neg(vh a) {
    return vnegq_f32(a);
}
LANES_INLINE vhm vh_less(vh a, vh b) {
    return vcltq_f32(a, b);
}
LANES_INLINE vhm vh_equal(vh a, vh b) {
    return vceqq_f32(a, b);
}
LANES_INLINE vhm vhm_and(vhm a, vhm b) {
    return vandq_u32(a, b);
}
LANES_INLINE vhm vhm_or(vhm a, vhm b) {
    return vorrq_u32(a, b);
}
LANES_INLINE u32 vhm_bits(vhm m) {
    static const u32 bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, vld1q_u32(bits)));
}
LANES_INLINE vh vh_pick(vhm m, vh yes, vh no) {
    return vbslq_f32(m, yes, no);
}
LANES_INLINE vh vh_add_unless(vhm m, vh a, vh b) {
    return vaddq_f32(a, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(b), m)));
}
LANES_INLINE vhi vh_pattern(vh x) {
    return vreinterpretq_s32_f32(x);
}
LANES_INLINE vh vhi_as_floats(vhi q) {
    return vreinterpretq_f32_s32(q);
}
LANES_INLINE vhi vhi_nearest(vh x) {
    const vh shifted = vaddq_f32(x, vdupq_n_f32(12582912.0f));
    const vhi low = vandq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(0x7fffff));
    return vandq_s32(vsubq_s32(low, vdupq_n_s32(0x400000)),
                     vreinterpretq_s32_u32(vceqq_f32(shifted, shifted)));
}
LANES_INLINE vhi vhi_clamp(vhi q, i32 lo, i32 hi) {
    return vmaxq_s32(vminq_s32(q, vdupq_n_s32(hi)), vdupq_n_s32(lo));
}
LANES_INLINE void vhi_store_bytes(u8 *p, vhi q, i32 bias) {
    const int16x4_t h = vmovn_s32(vaddq_s32(q, vdupq_n_s32(bias)));
    const int8x8_t b = vmovn_s16(vcombine_s16(h, h));
    lb_store_u32(p, vget_lane_u32(vreinterpret_u32_s8(b), 0));
}

LANES_INLINE void half_transpose(float *out, size_t step, const float *const src[4], size_t n) {
    for (size_t i = 0; i < n; i += 4, out += 4 * step) {
        const float32x4x2_t a = vtrnq_f32(vh_load(src[0] + i), vh_load(src[1] + i));
        const float32x4x2_t b = vtrnq_f32(vh_load(src[2] + i), vh_load(src[3] + i));
        vh_store(out, vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0])));
        vh_store(out + step, vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1])));
        vh_store(out + 2 * step, vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0])));
        vh_store(out + 3 * step, vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1])));
    }
}

typedef struct vt {
    float32x4_t a, b;
} vt;

LANES_INLINE vt vt_load(const float *p) {
    const vt t = {vld1q_f32(p), vld1q_f32(p + 4)};
    return t;
}
LANES_INLINE vt vt_errors(vt values, float scale, float x, float w) {
    const float32x4_t a = vh_all(scale) * values.a - vh_all(x);
    const float32x4_t b = vh_all(scale) * values.b - vh_all(x);
    const vt t = {vh_all(w) * a * a, vh_all(w) * b * b};
    return t;
}
LANES_INLINE vhi vhi_all(i32 q) {
    return vdupq_n_s32(q);
}
LANES_INLINE vhi vhi_and(vhi q, i32 mask) {
    return vandq_s32(q, vhi_all(mask));
}
LANES_INLINE vh vt_at(vt t, vhi i) { /* bytes 4 i ... 4 i + 3 of the table */
    const uint8x16x2_t bytes = {{vreinterpretq_u8_f32(t.a), vreinterpretq_u8_f32(t.b)}};
    const vhi at = vmlaq_s32(vhi_all(0x03020100), vhi_and(i, 7), vhi_all(0x04040404));
    return vreinterpretq_f32_u8(vqtbl2q_u8(bytes, vreinterpretq_u8_s32(at)));
}
LANES_INLINE vhi vhi_load(const void *p) {
    return vld1q_s32(p);
}
LANES_INLINE void vhi_store(void *p, vhi q) {
    vst1q_s32(p, q);
}
LANES_INLINE vhi vhi_load_some(const u32 *p, size_t n) {
    (void)n; /* a multiple of 8 */
    return vhi_load(p);
}
LANES_INLINE vhi vhi_right(vhi q, u32 n) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(q), vhi_all(-(i32)n)));
}
LANES_INLINE vhi vhi_add(vhi a, vhi b) {
    return vaddq_s32(a, b);
}
LANES_INLINE vhi vhi_count(void) {
    static const i32 count[4] = {0, 1, 2, 3};
    return vld1q_s32(count);
}
LANES_INLINE vh vhi_floats(vhi q) {
    return vcvtq_f32_s32(q);
}
LANES_INLINE vhi vhi_pick(vhm m, vhi yes, vhi no) {
    return vbslq_s32(m, yes, no);
}
LANES_INLINE float vh_least(vh x) {
    return vminvq_f32(x);
}

#endif
#endif
