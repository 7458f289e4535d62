/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_neon.c: codes of other tools' encodings to f32 with Advanced SIMD, four or eight at a
 * time. What does not fill them is left to the reference, so that nothing is read beyond the codes.
 */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <arm_neon.h>

void lb_kinit_foreign_neon(lb_kernels *k);

static inline float32x4_t canon(float32x4_t x) {
    const float32x4_t nan = vreinterpretq_f32_u32(vdupq_n_u32(LB_NAN_BITS));
    return vbslq_f32(vceqq_f32(x, x), x, nan);
}

static inline uint32x4_t load_words(const u8 *p) {
    return vreinterpretq_u32_u8(vld1q_u8(p));
}

static void decode_i8(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const int16x8_t w = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p + i)));
        vst1q_f32(out + i, vcvtq_f32_s32(vmovl_s16(vget_low_s16(w))));
        vst1q_f32(out + i + 4, vcvtq_f32_s32(vmovl_s16(vget_high_s16(w))));
    }
    lb_k_decode_f32_i8_ref(n_elems - i, out + i, p + i);
}

/* The sixteen products are made once and looked up by their four bytes. */
static inline float32x4_t look_up(uint8x16x4_t v, u32 bits, int32x4_t right) {
    const uint32x4_t code = vandq_u32(vshlq_u32(vdupq_n_u32(bits), right), vdupq_n_u32(15));
    const uint32x4_t at = vmlaq_n_u32(vdupq_n_u32(0x03020100u), code, 0x04040404u);
    return vreinterpretq_f32_u8(vqtbl4q_u8(v, vreinterpretq_u8_u32(at)));
}

static void decode_lut4(size_t n_elems, size_t first, bool upper, float *out, const void *in,
                        const float value[16], float scale) {
    const u8 *p = in;
    const int32x4_t low_first[2] = {{0, -4, -8, -12}, {-16, -20, -24, -28}};
    const int32x4_t high_first[2] = {{-4, 0, -12, -8}, {-20, -16, -28, -24}};
    const int32x4_t *right = upper ? high_first : low_first;
    uint8x16x4_t v;
    size_t i = 0;
    for (u32 j = 0; j < 4; j++)
        v.val[j] = vreinterpretq_u8_f32(canon(vmulq_n_f32(vld1q_f32(value + 4 * j), scale)));
    if (first % 2 == 1 && n_elems > 0) {
        lb_k_decode_f32_lut4_ref(1, first, upper, out, p, value, scale);
        i = 1;
    }
    for (; i + 8 <= n_elems; i += 8) {
        const u32 w = lb_load_u32(p + (first + i) / 2);
        vst1q_f32(out + i, look_up(v, w, right[0]));
        vst1q_f32(out + i + 4, look_up(v, w, right[1]));
    }
    lb_k_decode_f32_lut4_ref(n_elems - i, first + i, upper, out + i, p, value, scale);
}

static inline float32x4_t value(uint32x4_t code, float32x4_t zero, float32x4_t scale) {
    return canon(vmulq_f32(vsubq_f32(vcvtq_f32_u32(code), zero), scale));
}

/* Four places at a time, all columns of them: words, zero points and scales are loaded once. */
static void decode_words(size_t n_elems, size_t n_cols, u32 shift_bits, float *out, const void *in,
                         size_t stride_bytes, const float *zero, const float *scale) {
    const u8 *p = in;
    const u32 bits = shift_bits >> 8;
    const uint32x4_t mask = vdupq_n_u32((1u << bits) - 1);
    size_t i = 0;
    for (; n_cols && i + 4 <= n_elems; i += 4) {
        const float32x4_t z = vld1q_f32(zero + i), s = vld1q_f32(scale + i);
        const u8 *q = p + 4 * i;
        uint32x4_t word = load_words(q);
        u32 shift = shift_bits & 255;
        for (size_t c = 0; c < n_cols; c++, shift += bits) {
            if (shift >= 32) {
                shift -= 32;
                q += stride_bytes;
                word = load_words(q);
            }
            uint32x4_t code = vshlq_u32(word, vdupq_n_s32(-(int)shift));
            if (shift + bits > 32)
                code = vorrq_u32(
                    code, vshlq_u32(load_words(q + stride_bytes), vdupq_n_s32((int)(32 - shift))));
            vst1q_f32(out + c * n_elems + i, value(vandq_u32(code, mask), z, s));
        }
    }
    for (size_t c = 0; i < n_elems && c < n_cols; c++) {
        const u32 at = (shift_bits & 255) + (u32)c * bits;
        lb_k_decode_f32_words_ref(n_elems - i, 1, LB_WORD_BITS(at % 32, bits),
                                  out + c * n_elems + i, p + at / 32 * stride_bytes + 4 * i,
                                  stride_bytes, zero + i, scale + i);
    }
}

static void decode_awq(size_t n_elems, size_t n_cols, float *out, const void *in,
                       size_t stride_bytes, const float *zero, const float *scale) {
    const int32x4_t low = {0, -16, -4, -20}, high = {-8, -24, -12, -28};
    const uint32x4_t mask = vdupq_n_u32(15);
    for (size_t i = 0; i < n_elems; i += 8) {
        const float32x4_t z[2] = {vld1q_f32(zero + i), vld1q_f32(zero + i + 4)};
        const float32x4_t s[2] = {vld1q_f32(scale + i), vld1q_f32(scale + i + 4)};
        const u8 *p = (const u8 *)in + i / 2;
        for (size_t c = 0; c < n_cols; c++) {
            const uint32x4_t w = vdupq_n_u32(lb_load_u32(p + c * stride_bytes));
            float *to = out + c * n_elems + i;
            vst1q_f32(to, value(vandq_u32(vshlq_u32(w, low), mask), z[0], s[0]));
            vst1q_f32(to + 4, value(vandq_u32(vshlq_u32(w, high), mask), z[1], s[1]));
        }
    }
}

void lb_kinit_foreign_neon(lb_kernels *k) {
    k->decode_f32_i8 = decode_i8;
    k->decode_f32_lut4 = decode_lut4;
    k->decode_f32_words = decode_words;
    k->decode_f32_awq = decode_awq;
}
