/* SPDX-License-Identifier: Apache-2.0 */
/* q8_dot_neon.h: sums of four products of codes and signed bytes. */
#ifndef LB_KERNEL_Q8_DOT_NEON_H
#define LB_KERNEL_Q8_DOT_NEON_H

#if defined(__ARM_NEON)

#include "base/base.h"
#include <arm_neon.h>

/* Codes as signed bytes: wide ones 128 lower. */
__attribute__((always_inline)) static inline int8x16_t narrow(const bool wide, uint8x16_t w) {
    return vreinterpretq_s8_u8(wide ? veorq_u8(w, vdupq_n_u8(128)) : w);
}

/* acc += sums of four products. */
__attribute__((always_inline)) static inline int32x4_t quads(int32x4_t acc, int8x16_t w,
                                                             int8x16_t a) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(acc, w, a);
#else
    const int16x8_t lo = vmull_s8(vget_low_s8(w), vget_low_s8(a));
    const int16x8_t hi = vmull_s8(vget_high_s8(w), vget_high_s8(a));
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
#endif
}

#endif
#endif
