/* SPDX-License-Identifier: Apache-2.0 */
/* legacy_neon.c: ggml's small block types to f32 with Advanced SIMD.
 *
 * Codes become 16 bytes in element order, which spread_neon.h widens. Same bits as the reference:
 * code * scale is exact in f32 for an f16 scale (11 bits and 8), so q4_1 and q5_1 may fuse. Blocks
 * with a scale of Inf or NaN go to the reference. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/spread_neon.h"

void lb_kinit_legacy_neon(lb_kernels *k);

static inline uint8x16_t low_nibbles(uint8x16_t v) {
    return vandq_u8(v, vdupq_n_u8(15));
}

/* out[0..16) = d q + m for unsigned bytes. */
static inline void put_affine16(float *out, uint8x16_t q, float d, float m) {
    const float32x4_t m4 = vdupq_n_f32(m);
    vst1q_f32(out, vfmaq_n_f32(m4, lb_unsigned4(q, 0), d));
    vst1q_f32(out + 4, vfmaq_n_f32(m4, lb_unsigned4(q, 1), d));
    vst1q_f32(out + 8, vfmaq_n_f32(m4, lb_unsigned4(q, 2), d));
    vst1q_f32(out + 12, vfmaq_n_f32(m4, lb_unsigned4(q, 3), d));
}

/* Byte i: `set` where bit i of the two bytes is set, else 0. */
static inline uint8x16_t bytes_of_bits(const u8 *p, u8 set) {
    static const u8 bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t b = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
    return vandq_u8(vtstq_u8(b, vld1q_u8(bit)), vdupq_n_u8(set));
}

static void decode_q4_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const int8x16_t eight = vdupq_n_s8(8);
    for (size_t i = 0; i < n_elems; i += 32, p += 18) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q4_0_ref(32, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(h);
        const uint8x16_t q = vld1q_u8(p + 2);
        lb_put_scaled16(out + i, vsubq_s8(vreinterpretq_s8_u8(low_nibbles(q)), eight), &d);
        lb_put_scaled16(out + i + 16, vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(q, 4)), eight), &d);
    }
}

static void decode_q4_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 20) {
        const u16 hd = lb_load_u16(p), hm = lb_load_u16(p + 2);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q4_1_ref(32, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(hd), m = lb_neon_f16(hm);
        const uint8x16_t q = vld1q_u8(p + 4);
        put_affine16(out + i, low_nibbles(q), d, m);
        put_affine16(out + i + 16, vshrq_n_u8(q, 4), d, m);
    }
}

/* q - 16: the low four bits, and the bits above all set where the fifth is not. */
static inline int8x16_t minus_16(uint8x16_t low, const u8 *fifth) {
    const uint8x16_t high = bytes_of_bits(fifth, 0xf0);
    return vreinterpretq_s8_u8(vorrq_u8(low, veorq_u8(high, vdupq_n_u8(0xf0))));
}

static void decode_q5_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 22) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q5_0_ref(32, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(h);
        const uint8x16_t q = vld1q_u8(p + 6);
        lb_put_scaled16(out + i, minus_16(low_nibbles(q), p + 2), &d);
        lb_put_scaled16(out + i + 16, minus_16(vshrq_n_u8(q, 4), p + 4), &d);
    }
}

static void decode_q5_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 24) {
        const u16 hd = lb_load_u16(p), hm = lb_load_u16(p + 2);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q5_1_ref(32, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(hd), m = lb_neon_f16(hm);
        const uint8x16_t q = vld1q_u8(p + 8);
        put_affine16(out + i, vorrq_u8(low_nibbles(q), bytes_of_bits(p + 4, 16)), d, m);
        put_affine16(out + i + 16, vorrq_u8(vshrq_n_u8(q, 4), bytes_of_bits(p + 6, 16)), d, m);
    }
}

static void decode_q8_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 34) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q8_0_ref(32, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(h);
        lb_put_scaled16(out + i, vreinterpretq_s8_u8(vld1q_u8(p + 2)), &d);
        lb_put_scaled16(out + i + 16, vreinterpretq_s8_u8(vld1q_u8(p + 18)), &d);
    }
}

static void decode_q8_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 36) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q8_1_ref(32, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(h);
        lb_put_scaled16(out + i, vreinterpretq_s8_u8(vld1q_u8(p + 4)), &d);
        lb_put_scaled16(out + i + 16, vreinterpretq_s8_u8(vld1q_u8(p + 20)), &d);
    }
}

/* ---- one and two bits, digits ---- */

/* A bit moves to the sign; where it is clear the sign of d turns. */
static void decode_q1_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const int32x4_t low = {31, 30, 29, 28}, high = {27, 26, 25, 24};
    const uint32x4_t sign = vdupq_n_u32(0x80000000u);
    for (size_t i = 0; i < n_elems; i += 128, p += 18) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q1_0_ref(128, out + i, p);
            continue;
        }
        const uint32x4_t minus_d = vdupq_n_u32(lb_f32_bits(-lb_neon_f16(h)));
        for (size_t j = 0; j < 16; j++) {
            float *const o = out + i + 8 * j;
            const uint32x4_t b = vdupq_n_u32(p[2 + j]);
            const uint32x4_t s = vandq_u32(vshlq_u32(b, low), sign);
            const uint32x4_t t = vandq_u32(vshlq_u32(b, high), sign);
            vst1q_f32(o, vreinterpretq_f32_u32(veorq_u32(minus_d, s)));
            vst1q_f32(o + 4, vreinterpretq_f32_u32(veorq_u32(minus_d, t)));
        }
    }
}

static inline void put_q_minus_1(float *out, uint8x16_t q, const float *d) {
    lb_put_scaled16(out, vsubq_s8(vreinterpretq_s8_u8(q), vdupq_n_s8(1)), d);
}

/* Each byte four times, shifted by 0, 2, 4, 6. */
static void decode_q2_0(size_t n_elems, float *out, const void *in) {
    static const u8 four_times[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    static const i8 right[16] = {0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6};
    const uint8x16_t at = vld1q_u8(four_times);
    const int8x16_t shift = vld1q_s8(right);
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 64, p += 18) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q2_0_ref(64, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(h);
        for (size_t j = 0; j < 4; j++) {
            const uint8x16_t word = vreinterpretq_u8_u32(vdupq_n_u32(lb_load_u32(p + 2 + 4 * j)));
            const uint8x16_t q = vshlq_u8(vqtbl1q_u8(word, at), shift);
            put_q_minus_1(out + i + 16 * j, vandq_u8(q, vdupq_n_u8(3)), &d);
        }
    }
}

static void decode_tq2_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const uint8x16_t three = vdupq_n_u8(3);
    for (size_t i = 0; i < n_elems; i += 256, p += 66) {
        const u16 h = lb_load_u16(p + 64);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_tq2_0_ref(256, out + i, p);
            continue;
        }
        const float d = lb_neon_f16(h);
        for (size_t j = 0; j < 64; j += 16) {
            float *const o = out + i + j / 32 * 128 + j % 32;
            const uint8x16_t q = vld1q_u8(p + j);
            put_q_minus_1(o, vandq_u8(q, three), &d);
            put_q_minus_1(o + 32, vandq_u8(vshrq_n_u8(q, 2), three), &d);
            put_q_minus_1(o + 64, vandq_u8(vshrq_n_u8(q, 4), three), &d);
            put_q_minus_1(o + 96, vshrq_n_u8(q, 6), &d);
        }
    }
}

/* The next digits of 16 fractions of 256: the whole part of 3 q; q keeps the fraction. In bytes:
 * the carries out of 2 q and of 2 q + q. */
static inline uint8x16_t next_digit(uint8x16_t *q) {
    const uint8x16_t two = vaddq_u8(*q, *q), three = vaddq_u8(two, *q);
    const uint8x16_t carry = vcltq_u8(three, two), carry2 = vcltq_u8(two, *q);
    *q = three;
    return vsubq_u8(vdupq_n_u8(0), vaddq_u8(carry, carry2));
}

static void decode_tq1_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 256, p += 54) {
        const u16 h = lb_load_u16(p + 52);
        float *const o = out + i;
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_tq1_0_ref(256, o, p);
            continue;
        }
        const float d = lb_neon_f16(h);
        uint8x16_t q0 = vld1q_u8(p), q1 = vld1q_u8(p + 16), q2 = vld1q_u8(p + 32);
        for (size_t n = 0; n < 5; n++) {
            put_q_minus_1(o + 32 * n, next_digit(&q0), &d);
            put_q_minus_1(o + 32 * n + 16, next_digit(&q1), &d);
            put_q_minus_1(o + 160 + 16 * n, next_digit(&q2), &d);
        }
        uint8x16_t qh = vreinterpretq_u8_u32(vdupq_n_u32(lb_load_u32(p + 48)));
        for (size_t n = 0; n < 4; n++) {
            const int8x16_t q = vsubq_s8(vreinterpretq_s8_u8(next_digit(&qh)), vdupq_n_s8(1));
            vst1q_f32(o + 240 + 4 * n, vmulq_n_f32(lb_signed4(q, 0), d));
        }
    }
}

/* ---- E2M1 ---- */

/* Twice the E2M1 values; code 8 is +0, as in ggml. */
static inline int8x16_t fp4_doubled(uint8x16_t codes) {
    static const i8 v[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    return vqtbl1q_s8(vld1q_s8(v), codes);
}

static void decode_mxfp4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 17) {
        const float d = lb_f32_from_bits(p[0] < 2 ? 0x200000u << p[0] : (u32)(p[0] - 1) << 23);
        const uint8x16_t q = vld1q_u8(p + 1);
        lb_put_scaled16(out + i, fp4_doubled(low_nibbles(q)), &d);
        lb_put_scaled16(out + i + 16, fp4_doubled(vshrq_n_u8(q, 4)), &d);
    }
}

/* Halves of E4M3 as f16, times 2^8 (bias 7 to 15) / 2; 0x7f is 0, bit 7 counts for nothing else. */
static inline float32x4_t nvfp4_scales(u32 four) {
    const uint8x8_t raw = vreinterpret_u8_u32(vdup_n_u32(four));
    const uint8x8_t zero = vceq_u8(raw, vdup_n_u8(0x7f));
    const uint8x8_t mag = vbic_u8(vand_u8(raw, vdup_n_u8(0x7f)), zero);
    const uint16x4_t f16 = vget_low_u16(vshll_n_u8(mag, 7));
    return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(f16)), 0x1p7f);
}

static void decode_nvfp4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 64, p += 36) {
        float d[4];
        vst1q_f32(d, nvfp4_scales(lb_load_u32(p)));
        for (size_t s = 0; s < 4; s++) {
            const uint8x8_t q = vld1_u8(p + 4 + 8 * s);
            const uint8x16_t both = vcombine_u8(vand_u8(q, vdup_n_u8(15)), vshr_n_u8(q, 4));
            lb_put_scaled16(out + i + 16 * s, fp4_doubled(both), d + s);
        }
    }
}

void lb_kinit_legacy_neon(lb_kernels *k) {
    k->decode_f32_q4_0 = decode_q4_0;
    k->decode_f32_q4_1 = decode_q4_1;
    k->decode_f32_q5_0 = decode_q5_0;
    k->decode_f32_q5_1 = decode_q5_1;
    k->decode_f32_q8_0 = decode_q8_0;
    k->decode_f32_q8_1 = decode_q8_1;
    k->decode_f32_q1_0 = decode_q1_0;
    k->decode_f32_q2_0 = decode_q2_0;
    k->decode_f32_tq1_0 = decode_tq1_0;
    k->decode_f32_tq2_0 = decode_tq2_0;
    k->decode_f32_mxfp4 = decode_mxfp4;
    k->decode_f32_nvfp4 = decode_nvfp4;
}
