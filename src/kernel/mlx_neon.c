/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_neon.c: MLX's quantized groups to f32 with Advanced SIMD.
 *
 * Up to four bits a group has 16 values at most: they are computed once, with their roundings, and
 * looked up by their four bytes (tbl). Wider codes go through the arithmetic one by one. Groups
 * whose scale or bias is Inf or NaN go to the reference, so no NaN appears here: a product that
 * overflows meets a finite bias. Nothing is read past a group's codes. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/e4m3_neon.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

void lb_kinit_mlx_neon(lb_kernels *k);

static inline bool is_finite(float x) {
    return (lb_f32_bits(x) & 0x7f800000u) != 0x7f800000u;
}

/* x is not NaN. */
static inline float32x4_t round_to(float32x4_t x, u32 type) {
    if (type == LB_ROUND_F16)
        return vcvt_f32_f16(vcvt_f16_f32(x));
    if (type != LB_ROUND_BF16)
        return x;
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    return vreinterpretq_f32_u32(vandq_u32(up, vdupq_n_u32(0xffff0000u)));
}

static inline float32x4_t value(uint32x4_t code, float scale, float bias, u32 round) {
    const float32x4_t product = round_to(vmulq_n_f32(vcvtq_f32_u32(code), scale), round & 15);
    return round_to(vaddq_f32(product, vdupq_n_f32(bias)), round >> 4);
}

/* ---- up to four bits: look up ---- */

/* The group's values of codes first .. first + 3, as bytes. */
static inline uint8x16_t values_from(u32 first, float scale, float bias, u32 round) {
    const uint32x4_t code = {first, first + 1, first + 2, first + 3};
    return vreinterpretq_u8_f32(value(code, scale, bias, round));
}

/* Where in a table of f32 the four bytes of each code stand: 4 code + 0, 1, 2, 3. */
static inline uint8x16_t bytes_of(uint32x4_t code) {
    return vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x03020100u), code, 0x04040404u));
}

/* Codes of `mask` at the bits that `right` (negative) names. */
static inline uint32x4_t cut(u32 bits, int32x4_t right, u32 mask) {
    return vandq_u32(vshlq_u32(vdupq_n_u32(bits), right), vdupq_n_u32(mask));
}

static void decode_q1(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    const u8 *p = codes;
    const uint32x4_t low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 8, out += group_elems) {
        if (!is_finite(scale[g]) || !is_finite(bias[g])) {
            lb_k_decode_f32_mlx_q1_ref(1, group_elems, out, p, scale + g, bias + g, round);
            continue;
        }
        const float32x4_t v = vreinterpretq_f32_u8(values_from(0, scale[g], bias[g], round));
        const float32x4_t v0 = vdupq_laneq_f32(v, 0), v1 = vdupq_laneq_f32(v, 1);
        for (size_t i = 0; i < group_elems; i += 8) {
            const uint32x4_t b = vdupq_n_u32(p[i / 8]);
            vst1q_f32(out + i, vbslq_f32(vtstq_u32(b, low), v1, v0));
            vst1q_f32(out + i + 4, vbslq_f32(vtstq_u32(b, high), v1, v0));
        }
    }
}

static void decode_q2(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    const u8 *p = codes;
    const int32x4_t right = {0, -2, -4, -6};
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 4, out += group_elems) {
        if (!is_finite(scale[g]) || !is_finite(bias[g])) {
            lb_k_decode_f32_mlx_q2_ref(1, group_elems, out, p, scale + g, bias + g, round);
            continue;
        }
        const uint8x16_t v = values_from(0, scale[g], bias[g], round);
        for (size_t i = 0; i < group_elems; i += 4) {
            const uint8x16_t at = bytes_of(cut(p[i / 4], right, 3));
            vst1q_f32(out + i, vreinterpretq_f32_u8(vqtbl1q_u8(v, at)));
        }
    }
}

/* 24 bits of eight codes. */
static inline void put_q3(float *out, u32 bits, uint8x16x2_t v) {
    const int32x4_t low = {0, -3, -6, -9}, high = {-12, -15, -18, -21};
    vst1q_f32(out, vreinterpretq_f32_u8(vqtbl2q_u8(v, bytes_of(cut(bits, low, 7)))));
    vst1q_f32(out + 4, vreinterpretq_f32_u8(vqtbl2q_u8(v, bytes_of(cut(bits, high, 7)))));
}

static void decode_q3(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    const u8 *p = codes;
    for (size_t g = 0; g < n_groups; g++) {
        if (!is_finite(scale[g]) || !is_finite(bias[g])) {
            lb_k_decode_f32_mlx_q3_ref(1, group_elems, out, p, scale + g, bias + g, round);
            p += group_elems / 8 * 3;
            out += group_elems;
            continue;
        }
        const uint8x16x2_t v = {
            {values_from(0, scale[g], bias[g], round), values_from(4, scale[g], bias[g], round)}};
        for (size_t i = 0; i < group_elems; i += 32, p += 12, out += 32) {
            const u32 a = lb_load_u32(p), b = lb_load_u32(p + 4), c = lb_load_u32(p + 8);
            put_q3(out, a, v);
            put_q3(out + 8, a >> 24 | b << 8, v);
            put_q3(out + 16, b >> 16 | c << 16, v);
            put_q3(out + 24, c >> 8, v);
        }
    }
}

static void decode_q4(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    const u8 *p = codes;
    const int32x4_t low = {0, -4, -8, -12}, high = {-16, -20, -24, -28};
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 2, out += group_elems) {
        const float s = scale[g], b = bias[g];
        if (!is_finite(s) || !is_finite(b)) {
            lb_k_decode_f32_mlx_q4_ref(1, group_elems, out, p, scale + g, bias + g, round);
            continue;
        }
        const uint8x16x4_t v = {{values_from(0, s, b, round), values_from(4, s, b, round),
                                 values_from(8, s, b, round), values_from(12, s, b, round)}};
        for (size_t i = 0; i < group_elems; i += 8) {
            const u32 w = lb_load_u32(p + i / 2);
            const uint8x16_t x = vqtbl4q_u8(v, bytes_of(cut(w, low, 15)));
            const uint8x16_t y = vqtbl4q_u8(v, bytes_of(cut(w, high, 15)));
            vst1q_f32(out + i, vreinterpretq_f32_u8(x));
            vst1q_f32(out + i + 4, vreinterpretq_f32_u8(y));
        }
    }
}

/* ---- five, six and eight bits: compute ---- */

/* Eight codes of five or six bits at the bottom of a u64: four in the low 24 bits (or 20), four
 * next. */
static inline void put_wide(float *out, u64 bits, int width, float scale, float bias, u32 round) {
    const int32x4_t right5 = {0, -5, -10, -15}, right6 = {0, -6, -12, -18};
    const int32x4_t right = width == 5 ? right5 : right6;
    const u32 mask = (1u << width) - 1;
    vst1q_f32(out, value(cut((u32)bits, right, mask), scale, bias, round));
    vst1q_f32(out + 4, value(cut((u32)(bits >> (4 * width)), right, mask), scale, bias, round));
}

/* A group with finite scale and bias; nothing is read past it: 32 codes are 20 or 24 bytes. */
static inline void put_group(float *out, const u8 *p, size_t group_elems, int width, float scale,
                             float bias, u32 round) {
    for (size_t i = 0; i < group_elems; i += 32, p += 4 * width, out += 32) {
        if (width == 8) {
            for (size_t j = 0; j < 32; j += 8) {
                const uint16x8_t w = vmovl_u8(vld1_u8(p + j));
                vst1q_f32(out + j, value(vmovl_u16(vget_low_u16(w)), scale, bias, round));
                vst1q_f32(out + j + 4, value(vmovl_high_u16(w), scale, bias, round));
            }
            continue;
        }
        const int last = 4 * width - 8; /* the last eight codes: the top of the last eight bytes */
        put_wide(out, lb_load_u64(p), width, scale, bias, round);
        put_wide(out + 8, lb_load_u64(p + width), width, scale, bias, round);
        put_wide(out + 16, lb_load_u64(p + 2 * width), width, scale, bias, round);
        put_wide(out + 24, lb_load_u64(p + last) >> (64 - 8 * width), width, scale, bias, round);
    }
}

/* With `round` a constant in the three calls that matter. */
static inline void decode_wide(size_t n_groups, size_t group_elems, float *out, const u8 *p,
                               const float *scale, const float *bias, u32 round, int width) {
    lb_k_decode_f32_mlx_q8_fn *const ref = width == 5   ? lb_k_decode_f32_mlx_q5_ref
                                           : width == 6 ? lb_k_decode_f32_mlx_q6_ref
                                                        : lb_k_decode_f32_mlx_q8_ref;
    const u32 both_bf16 = LB_MLX_ROUND(LB_ROUND_BF16, LB_ROUND_BF16);
    const u32 both_f16 = LB_MLX_ROUND(LB_ROUND_F16, LB_ROUND_F16);
    for (size_t g = 0; g < n_groups; g++) {
        if (!is_finite(scale[g]) || !is_finite(bias[g]))
            ref(1, group_elems, out, p, scale + g, bias + g, round);
        else if (round == both_bf16)
            put_group(out, p, group_elems, width, scale[g], bias[g], both_bf16);
        else if (round == both_f16)
            put_group(out, p, group_elems, width, scale[g], bias[g], both_f16);
        else if (round == 0)
            put_group(out, p, group_elems, width, scale[g], bias[g], 0);
        else
            put_group(out, p, group_elems, width, scale[g], bias[g], round);
        p += group_elems / 8 * (size_t)width;
        out += group_elems;
    }
}

static void decode_q5(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    decode_wide(n_groups, group_elems, out, codes, scale, bias, round, 5);
}

static void decode_q6(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    decode_wide(n_groups, group_elems, out, codes, scale, bias, round, 6);
}

static void decode_q8(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    decode_wide(n_groups, group_elems, out, codes, scale, bias, round, 8);
}

/* ---- floating codes ---- */

/* The eight magnitudes times the scale, looked up; the sign is code bit 3. */
static inline float32x4_t fp4_value(uint8x16x2_t v, uint32x4_t code) {
    const uint8x16_t at = bytes_of(vandq_u32(code, vdupq_n_u32(7)));
    const uint32x4_t sign = vandq_u32(vshlq_n_u32(code, 28), vdupq_n_u32(0x80000000u));
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_u8(vqtbl2q_u8(v, at)), sign));
}

static void decode_fp4(size_t n_groups, size_t group_elems, float *out, const void *codes,
                       const float *scale) {
    const u8 *p = codes;
    const int32x4_t low = {0, -4, -8, -12}, high = {-16, -20, -24, -28};
    const float32x4_t e2m1_low = {0, 0.5f, 1, 1.5f}, e2m1_high = {2, 3, 4, 6};
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 2, out += group_elems) {
        if (!is_finite(scale[g])) {
            lb_k_decode_f32_mlx_fp4_ref(1, group_elems, out, p, scale + g);
            continue;
        }
        const uint8x16x2_t v = {{vreinterpretq_u8_f32(vmulq_n_f32(e2m1_low, scale[g])),
                                 vreinterpretq_u8_f32(vmulq_n_f32(e2m1_high, scale[g]))}};
        for (size_t i = 0; i < group_elems; i += 8) {
            const u32 w = lb_load_u32(p + i / 2);
            vst1q_f32(out + i, fp4_value(v, cut(w, low, 15)));
            vst1q_f32(out + i + 4, fp4_value(v, cut(w, high, 15)));
        }
    }
}

static inline void put_fp8(float *out, float32x4_t x, float scale) {
    const float32x4_t nan = vreinterpretq_f32_u32(vdupq_n_u32(LB_NAN_BITS));
    const float32x4_t y = vmulq_n_f32(vmulq_n_f32(x, 0x1p8f), scale);
    vst1q_f32(out, vbslq_f32(vceqq_f32(y, y), y, nan));
}

static void decode_fp8(size_t n_groups, size_t group_elems, float *out, const void *codes,
                       const float *scale) {
    const u8 *p = codes;
    for (size_t g = 0; g < n_groups; g++, p += group_elems, out += group_elems) {
        for (size_t i = 0; i < group_elems; i += 8) {
            const uint16x8_t h = lb_e4m3_f16(vld1_u8(p + i));
            put_fp8(out + i, lb_low_f16(h), scale[g]);
            put_fp8(out + i + 4, lb_high_f16(h), scale[g]);
        }
    }
}

void lb_kinit_mlx_neon(lb_kernels *k) {
    k->decode_f32_mlx_q1 = decode_q1;
    k->decode_f32_mlx_q2 = decode_q2;
    k->decode_f32_mlx_q3 = decode_q3;
    k->decode_f32_mlx_q4 = decode_q4;
    k->decode_f32_mlx_q5 = decode_q5;
    k->decode_f32_mlx_q6 = decode_q6;
    k->decode_f32_mlx_q8 = decode_q8;
    k->decode_f32_mlx_fp4 = decode_fp4;
    k->decode_f32_mlx_fp8 = decode_fp8;
}
