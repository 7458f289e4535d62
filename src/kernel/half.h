/* SPDX-License-Identifier: Apache-2.0 */
/* half.h: exact conversions between f32 and the 16-bit floats in integer arithmetic, and NaN's one
 * form.
 *
 * For references, tails of SIMD loops and block scales. The results equal F16C's and NEON's in
 * every bit (IEEE 754 binary16, round to nearest even); bf16 rounds to nearest even as well. A NaN
 * that passes through f16 or into bf16 becomes quiet and keeps its sign and top payload bits. One
 * that arithmetic makes or passes on has a different sign and payload on x86 and on Arm, and
 * depends on the order of operands, so each kernel that computes writes LB_NAN_BITS instead:
 * lb_canon_f32. */
#ifndef LB_KERNEL_HALF_H
#define LB_KERNEL_HALF_H

#include "base/base.h"

#define LB_NAN_BITS 0x7fc00000u

/* A number >= 0 in whose order those of 16 bits (as f32) are, -0 as +0, NaN above all; and back. */
static inline float lb_order_of(float x) {
    const u32 bits = x == 0 ? 0 : lb_f32_bits(x);
    return lb_f32_from_bits((bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u)) >> 1);
}
static inline float lb_order_value(float x) {
    const u32 bits = lb_f32_bits(x) << 1;
    return lb_f32_from_bits((bits >> 31 ? bits ^ 0x80000000u : ~bits) & ~1u);
}

static inline float lb_canon_f32(float x) {
    return x == x ? x : lb_f32_from_bits(LB_NAN_BITS);
}

static inline float lb_f16_to_f32(u16 h) {
    const u32 sign = (u32)(h & 0x8000u) << 16;
    const u32 mag = h & 0x7fffu;
    if (mag >= 0x7c00) /* Inf, NaN (quiet) */
        return lb_f32_from_bits(sign | 0x7f800000u | mag << 13 | (mag > 0x7c00 ? 0x400000u : 0u));
    if (mag < 0x400) /* zero, subnormal: an exact product */
        return lb_f32_from_bits(sign | lb_f32_bits((float)mag * 0x1p-24f));
    return lb_f32_from_bits(sign | ((mag << 13) + ((127u - 15u) << 23)));
}

/* False for Inf and NaN. SIMD decoders hand blocks with such a scale to the reference: only there
 * can a NaN appear, whose one form they need not think of then. */
static inline bool lb_f16_is_finite(u16 h) {
    return (h & 0x7c00u) != 0x7c00u;
}

static inline u16 lb_f16_from_f32(float x) {
    const u32 bits = lb_f32_bits(x);
    const u32 sign = bits >> 16 & 0x8000u;
    u32 a = bits & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (u16)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x477ff000u) /* 65520 = the middle between 65504 and 2^16, which rounds up */
        return (u16)(sign | 0x7c00u);
    if (a < 0x38800000u) /* below 2^-14: 0.5 has an ulp of 2^-24, so the sum rounds as f16 does */
        return (u16)(sign | (lb_f32_bits(lb_f32_from_bits(a) + 0.5f) - 0x3f000000u));
    a += 0xfffu + (a >> 13 & 1u);
    return (u16)(sign | (a - ((127u - 15u) << 23)) >> 13);
}

/* Every bit pattern, a signalling NaN's too, as it is. */
static inline float lb_bf16_to_f32(u16 h) {
    return lb_f32_from_bits((u32)h << 16);
}

static inline u16 lb_bf16_from_f32(float x) {
    const u32 bits = lb_f32_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (u16)(bits >> 16 | 0x40u);
    return (u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
