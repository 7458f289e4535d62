/* SPDX-License-Identifier: Apache-2.0 */
/* spread_neon.h: 16 codes in bytes to 16 f32 in order, the step all block decoders share.
 *
 * One tbl puts four bytes at the tops of four words; the fixed-point conversion with 24 fraction
 * bits brings them down again, signed or unsigned. */
#ifndef LB_KERNEL_SPREAD_NEON_H
#define LB_KERNEL_SPREAD_NEON_H
#ifdef __aarch64__

#include "base/base.h"
#include <arm_neon.h>

/* An f16 scale, exactly. */
static inline float lb_neon_f16(u16 h) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

/* Bytes 4k .. 4k+3, each at the top of a word; an index beyond the table gives zero. */
static inline uint8x16_t lb_tops(uint8x16_t v, u32 k) {
    const u32 at = 0x00ffffffu + (k << 26), one = 1u << 24;
    const uint32x4_t index = {at, at + one, at + 2 * one, at + 3 * one};
    return vqtbl1q_u8(v, vreinterpretq_u8_u32(index));
}

static inline float32x4_t lb_unsigned4(uint8x16_t v, u32 k) {
    return vcvtq_n_f32_u32(vreinterpretq_u32_u8(lb_tops(v, k)), 24);
}

static inline float32x4_t lb_signed4(int8x16_t v, u32 k) {
    return vcvtq_n_f32_s32(vreinterpretq_s32_u8(lb_tops(vreinterpretq_u8_s8(v), k)), 24);
}

/* out[0..16) = d[0] q. */
static inline void lb_put_scaled16(float *out, int8x16_t q, const float *d) {
    const float32x4_t d4 = vld1q_dup_f32(d);
    vst1q_f32(out, vmulq_f32(d4, lb_signed4(q, 0)));
    vst1q_f32(out + 4, vmulq_f32(d4, lb_signed4(q, 1)));
    vst1q_f32(out + 8, vmulq_f32(d4, lb_signed4(q, 2)));
    vst1q_f32(out + 12, vmulq_f32(d4, lb_signed4(q, 3)));
}

#endif
#endif
