/* SPDX-License-Identifier: Apache-2.0 */
/* quant_mlx.h: what the quantizers of MLX and Hugging Face types share: reading values of the three
 * float types, rounding to one of them, and the small floats E4M3 and E2M1. For references and for
 * what SIMD code leaves to them. */
#ifndef LB_KERNEL_QUANT_MLX_H
#define LB_KERNEL_QUANT_MLX_H

#include "kernel/half.h"
#include "kernel/kernel.h"

static inline lb_round lb_quant_in(u32 how) {
    return (lb_round)(how & 15u);
}

static inline lb_round lb_quant_round(u32 how) {
    return (lb_round)(how >> 4 & 15u);
}

static inline u32 lb_quant_bits(u32 how) {
    return how >> 8 & 15u;
}

static inline size_t lb_float_bytes(lb_round type) {
    return type == LB_ROUND_NONE ? 4 : 2;
}

/* Value i of a row at any alignment. */
static inline float lb_float_load(const void *in, size_t i, lb_round type) {
    const u8 *p = in;
    if (type == LB_ROUND_BF16)
        return lb_bf16_to_f32(lb_load_u16(p + 2 * i));
    if (type == LB_ROUND_F16)
        return lb_f16_to_f32(lb_load_u16(p + 2 * i));
    return lb_f32_from_bits(lb_load_u32(p + 4 * i));
}

static inline float lb_float_round(float x, lb_round type) {
    if (type == LB_ROUND_BF16)
        return lb_bf16_to_f32(lb_bf16_from_f32(x));
    if (type == LB_ROUND_F16)
        return lb_f16_to_f32(lb_f16_from_f32(x));
    return x;
}

/* Stores x rounded to the type; returns whether what stands there is finite. */
static inline bool lb_float_store(void *out, size_t i, float x, lb_round type) {
    u8 *p = out;
    x = lb_float_round(lb_canon_f32(x), type);
    if (type == LB_ROUND_NONE)
        lb_store_u32(p + 4 * i, lb_f32_bits(x));
    else if (type == LB_ROUND_BF16)
        lb_store_u16(p + 2 * i, lb_bf16_from_f32(x));
    else
        lb_store_u16(p + 2 * i, lb_f16_from_f32(x));
    return (lb_f32_bits(x) & 0x7fffffffu) < 0x7f800000u;
}

/* To the nearest integer, ties to even, |x| < 2^22. */
static inline float lb_rint_f32(float x) {
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

static inline float lb_f32_abs(float x) {
    return lb_f32_from_bits(lb_f32_bits(x) & 0x7fffffffu);
}

static inline bool lb_f32_is_finite(float x) {
    return (lb_f32_bits(x) & 0x7fffffffu) < 0x7f800000u;
}

/* A magnitude to E4M3 (bias 7, no infinity), nearest even. What exceeds 448 becomes 448: 464 is the
 * middle to a code that is NaN. NaN: 0x7f. */
static inline u8 lb_e4m3_from_abs(float a) {
    u32 bits = lb_f32_bits(a);
    if (bits > 0x7f800000u)
        return 0x7f;
    if (bits >= 0x43e00000u) /* 448 */
        return 0x7e;
    if (bits < 0x3c800000u) /* below 2^-6: 2^14 has an ulp of 2^-9, the step there */
        return (u8)(lb_f32_bits(a + 0x1p14f) - lb_f32_bits(0x1p14f));
    bits += 0x7ffffu + (bits >> 20 & 1u);
    return (u8)((bits - (120u << 23)) >> 20);
}

/* A code without its sign. */
static inline float lb_e4m3_to_f32(u8 code) {
    if (code < 8)
        return (float)code * 0x1p-9f;
    return lb_f32_from_bits(code == 0x7f ? LB_NAN_BITS : ((u32)code << 20) + (120u << 23));
}

/* A magnitude to E2M1 (0, .5, 1, 1.5, 2, 3, 4, 6), nearest, ties to the even code; NaN: 7. */
static inline u8 lb_e2m1_from_abs(float a) {
    return (u8)(a <= 0.25f   ? 0
                : a < 0.75f  ? 1
                : a <= 1.25f ? 2
                : a < 1.75f  ? 3
                : a <= 2.5f  ? 4
                : a < 3.5f   ? 5
                : a <= 5.0f  ? 6
                             : 7);
}

#endif
