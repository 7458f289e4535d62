/* SPDX-License-Identifier: Apache-2.0 */
/* float_neon.c: plain floats to and from f32 with Advanced SIMD.
 *
 * The 8-bit floats with four or five exponent bits go through f16: their bits, moved so that the
 * exponent ends where f16's does, are an f16 whose exponent bias is off by a constant, and one
 * exact product by a power of two puts that right, subnormals included. F6 and F4 are built or
 * looked up. Rests of less than a vector go to the reference. f32 to f32 is memcpy there already.
 */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/e4m3_neon.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

void lb_kinit_float_neon(lb_kernels *k);

/* Any alignment: vld1q_u8 has none. */
static inline uint16x8_t load_u16(const u8 *p) {
    return vreinterpretq_u16_u8(vld1q_u8(p));
}

static inline float32x4_t from_bits(uint32x4_t v) {
    return vreinterpretq_f32_u32(v);
}

static void decode_f16(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t h = load_u16(p + 2 * i);
        vst1q_f32(out + i, lb_low_f16(h));
        vst1q_f32(out + i + 4, lb_high_f16(h));
    }
    lb_k_decode_f32_f16_ref(n_elems - i, out + i, p + 2 * i);
}

static void decode_bf16(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t h = load_u16(p + 2 * i);
        vst1q_f32(out + i, from_bits(vshll_n_u16(vget_low_u16(h), 16)));
        vst1q_f32(out + i + 4, from_bits(vshll_high_n_u16(h, 16)));
    }
    lb_k_decode_f32_bf16_ref(n_elems - i, out + i, p + 2 * i);
}

static void decode_f64(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const float64x2_t a = vreinterpretq_f64_u8(vld1q_u8(p + 8 * i));
        const float64x2_t b = vreinterpretq_f64_u8(vld1q_u8(p + 8 * i + 16));
        vst1q_f32(out + i, vcvt_high_f32_f64(vcvt_f32_f64(a), b));
    }
    lb_k_decode_f32_f64_ref(n_elems - i, out + i, p + 8 * i);
}

/* ---- 8 bits ---- */

static void decode_f8_e4m3(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t h = lb_e4m3_f16(vld1_u8(p + i));
        vst1q_f32(out + i, vmulq_n_f32(lb_low_f16(h), 0x1p8f));
        vst1q_f32(out + i + 4, vmulq_n_f32(lb_high_f16(h), 0x1p8f));
    }
    lb_k_decode_f32_f8_e4m3_ref(n_elems - i, out + i, p + i);
}

/* 0x80, the one NaN, has come to f16 as -0, which no other code gives; 0x7e00 becomes LB_NAN_BITS.
 */
static void decode_f8_e4m3fnuz(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t x = lb_e4m3_as_f16(vld1_u8(p + i));
        const uint16x8_t nan = vceqq_u16(x, vdupq_n_u16(0x8000));
        const uint16x8_t h = vbslq_u16(nan, vdupq_n_u16(0x7e00), x);
        vst1q_f32(out + i, vmulq_n_f32(lb_low_f16(h), 0x1p7f));
        vst1q_f32(out + i + 4, vmulq_n_f32(lb_high_f16(h), 0x1p7f));
    }
    lb_k_decode_f32_f8_e4m3fnuz_ref(n_elems - i, out + i, p + i);
}

static void decode_f8_e5m2(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t h = vshll_n_u8(vld1_u8(p + i), 8);
        vst1q_f32(out + i, lb_low_f16(h));
        vst1q_f32(out + i + 4, lb_high_f16(h));
    }
    lb_k_decode_f32_f8_e5m2_ref(n_elems - i, out + i, p + i);
}

/* A magnitude of codes in words, exponent above man_bits: normal codes by moving the bits, those
 * with exponent 0 as an integer times the smallest step. */
static inline uint32x4_t small_float(uint32x4_t mag, int man_bits, int bias) {
    const uint32x4_t bits =
        vaddq_u32(vshlq_u32(mag, vdupq_n_s32(23 - man_bits)), vdupq_n_u32((u32)(127 - bias) << 23));
    const float step = lb_f32_from_bits((u32)(128 - bias - man_bits) << 23);
    const uint32x4_t low = vreinterpretq_u32_f32(vmulq_n_f32(vcvtq_f32_u32(mag), step));
    return vbslq_u32(vcltq_u32(mag, vdupq_n_u32(1u << man_bits)), low, bits);
}

/* Signed: the code's top bit, at sign_bit, goes to bit 31. */
static inline uint32x4_t signed_float(uint32x4_t code, int sign_bit, int man_bits, int bias) {
    const uint32x4_t mag = vandq_u32(code, vdupq_n_u32((1u << sign_bit) - 1));
    const uint32x4_t sign = vshlq_u32(vshlq_u32(code, vdupq_n_s32(-sign_bit)), vdupq_n_s32(31));
    return vorrq_u32(small_float(mag, man_bits, bias), sign);
}

/* E5M2FNUZ has ordinary values where f16 has Inf and NaN; -0 is its NaN. */
static inline void put_e5m2fnuz(float *out, uint16x4_t codes) {
    const uint32x4_t x = signed_float(vmovl_u16(codes), 7, 2, 16);
    const uint32x4_t nan = vceqq_u32(x, vdupq_n_u32(0x80000000u));
    vst1q_f32(out, from_bits(vbslq_u32(nan, vdupq_n_u32(LB_NAN_BITS), x)));
}

static void decode_f8_e5m2fnuz(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t w = vmovl_u8(vld1_u8(p + i));
        put_e5m2fnuz(out + i, vget_low_u16(w));
        put_e5m2fnuz(out + i + 4, vget_high_u16(w));
    }
    lb_k_decode_f32_f8_e5m2fnuz_ref(n_elems - i, out + i, p + i);
}

/* 2^(code - 127); the smallest is subnormal: 0x400000 where the moved bits are 0. */
static inline uint32x4_t e8m0_bits(uint16x4_t codes) {
    const uint32x4_t bits = vshlq_n_u32(vmovl_u16(codes), 23);
    return vorrq_u32(bits, vandq_u32(vceqzq_u32(bits), vdupq_n_u32(0x400000)));
}

static void decode_mlx_e8m0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t w = vmovl_u8(vld1_u8(p + i));
        vst1q_f32(out + i, from_bits(e8m0_bits(vget_low_u16(w))));
        vst1q_f32(out + i + 4, from_bits(e8m0_bits(vget_high_u16(w))));
    }
    lb_k_decode_f32_mlx_e8m0_ref(n_elems - i, out + i, p + i);
}

/* 0xff: Inf so far, NaN here. */
static inline void put_e8m0(float *out, uint16x4_t codes) {
    const uint32x4_t bits = e8m0_bits(codes);
    const uint32x4_t inf = vceqq_u32(bits, vdupq_n_u32(0x7f800000u));
    vst1q_f32(out, from_bits(vorrq_u32(bits, vandq_u32(inf, vdupq_n_u32(LB_NAN_BITS)))));
}

static void decode_f8_e8m0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint16x8_t w = vmovl_u8(vld1_u8(p + i));
        put_e8m0(out + i, vget_low_u16(w));
        put_e8m0(out + i + 4, vget_high_u16(w));
    }
    lb_k_decode_f32_f8_e8m0_ref(n_elems - i, out + i, p + i);
}

/* ---- 6 and 4 bits ---- */

/* Four codes of three bytes. */
static inline void put_f6(float *out, u32 bits, int man_bits, int bias) {
    const int32x4_t right = {0, -6, -12, -18};
    const uint32x4_t code = vandq_u32(vshlq_u32(vdupq_n_u32(bits), right), vdupq_n_u32(63));
    vst1q_f32(out, from_bits(signed_float(code, 5, man_bits, bias)));
}

static inline size_t decode_f6(size_t n_elems, float *out, const u8 *p, int man_bits, int bias) {
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16, p += 12) {
        const u32 a = lb_load_u32(p), b = lb_load_u32(p + 4), c = lb_load_u32(p + 8);
        put_f6(out + i, a, man_bits, bias);
        put_f6(out + i + 4, a >> 24 | b << 8, man_bits, bias);
        put_f6(out + i + 8, b >> 16 | c << 16, man_bits, bias);
        put_f6(out + i + 12, c >> 8, man_bits, bias);
    }
    return i;
}

static void decode_f6_e2m3(size_t n_elems, float *out, const void *in) {
    const size_t i = decode_f6(n_elems, out, in, 3, 1);
    lb_k_decode_f32_f6_e2m3_ref(n_elems - i, out + i, (const u8 *)in + i / 4 * 3);
}

static void decode_f6_e3m2(size_t n_elems, float *out, const void *in) {
    const size_t i = decode_f6(n_elems, out, in, 2, 3);
    lb_k_decode_f32_f6_e3m2_ref(n_elems - i, out + i, (const u8 *)in + i / 4 * 3);
}

/* The top byte and the next of each value's f32 are looked up and interleaved to the top halves. */
static void decode_f4(size_t n_elems, float *out, const void *in) {
    static const u8 top[16] = {0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40,
                               0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0};
    static const u8 next[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0,
                                0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0};
    const uint8x16_t t1 = vld1q_u8(top), t2 = vld1q_u8(next);
    const u8 *p = in;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16, p += 8) {
        const uint8x8_t b = vld1_u8(p), low = vand_u8(b, vdup_n_u8(15)), high = vshr_n_u8(b, 4);
        const uint8x16_t code = vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high));
        const uint8x16_t x = vqtbl1q_u8(t1, code), y = vqtbl1q_u8(t2, code);
        const uint16x8_t a = vreinterpretq_u16_u8(vzip1q_u8(y, x));
        const uint16x8_t c = vreinterpretq_u16_u8(vzip2q_u8(y, x));
        vst1q_f32(out + i, from_bits(vshll_n_u16(vget_low_u16(a), 16)));
        vst1q_f32(out + i + 4, from_bits(vshll_high_n_u16(a, 16)));
        vst1q_f32(out + i + 8, from_bits(vshll_n_u16(vget_low_u16(c), 16)));
        vst1q_f32(out + i + 12, from_bits(vshll_high_n_u16(c, 16)));
    }
    lb_k_decode_f32_f4_ref(n_elems - i, out + i, p);
}

/* ---- encode ---- */

enum { COUNT_ELEMS = 1 << 24 }; /* a lane counts fewer than 2^32 of so many */

/* Adds to the lanes: back differs from x (never for NaN); back is Inf and x was finite. */
static inline void count(uint32x4_t lanes[2], float32x4_t x, float32x4_t back) {
    const uint32x4_t same = vorrq_u32(vceqq_f32(x, back), vmvnq_u32(vceqq_f32(x, x)));
    const uint32x4_t abs = vreinterpretq_u32_f32(vabsq_f32(back));
    const uint32x4_t over = vbicq_u32(vceqq_u32(abs, vdupq_n_u32(0x7f800000u)), same);
    lanes[0] = vaddq_u32(lanes[0], vaddq_u32(same, vdupq_n_u32(1)));
    lanes[1] = vsubq_u32(lanes[1], over);
}

static void encode_f16(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    size_t i = 0;
    while (n_elems - i >= 4) {
        const size_t end = i + LB_MIN(n_elems - i, (size_t)COUNT_ELEMS) / 4 * 4;
        uint32x4_t lanes[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
        for (; i < end; i += 4) {
            const float32x4_t x = vld1q_f32(in + i);
            const float16x4_t h = vcvt_f16_f32(x);
            count(lanes, x, vcvt_f32_f16(h));
            vst1_u8(p + 2 * i, vreinterpret_u8_f16(h));
        }
        counts[0] += vaddlvq_u32(lanes[0]);
        counts[1] += vaddlvq_u32(lanes[1]);
    }
    lb_k_encode_f16_f32_ref(n_elems - i, p + 2 * i, in + i, counts);
}

static void encode_bf16(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    size_t i = 0;
    while (n_elems - i >= 4) {
        const size_t end = i + LB_MIN(n_elems - i, (size_t)COUNT_ELEMS) / 4 * 4;
        uint32x4_t lanes[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
        for (; i < end; i += 4) {
            const float32x4_t x = vld1q_f32(in + i);
            const uint32x4_t bits = vreinterpretq_u32_f32(x);
            const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
            const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
            const uint16x4_t h = vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), up, quiet), 16);
            count(lanes, x, from_bits(vshll_n_u16(h, 16)));
            vst1_u8(p + 2 * i, vreinterpret_u8_u16(h));
        }
        counts[0] += vaddlvq_u32(lanes[0]);
        counts[1] += vaddlvq_u32(lanes[1]);
    }
    lb_k_encode_bf16_f32_ref(n_elems - i, p + 2 * i, in + i, counts);
}

void lb_kinit_float_neon(lb_kernels *k) {
    k->decode_f32_f16 = decode_f16;
    k->decode_f32_bf16 = decode_bf16;
    k->decode_f32_f64 = decode_f64;
    k->decode_f32_f8_e4m3 = decode_f8_e4m3;
    k->decode_f32_f8_e5m2 = decode_f8_e5m2;
    k->decode_f32_f8_e8m0 = decode_f8_e8m0;
    k->decode_f32_mlx_e8m0 = decode_mlx_e8m0;
    k->decode_f32_f8_e4m3fnuz = decode_f8_e4m3fnuz;
    k->decode_f32_f8_e5m2fnuz = decode_f8_e5m2fnuz;
    k->decode_f32_f6_e2m3 = decode_f6_e2m3;
    k->decode_f32_f6_e3m2 = decode_f6_e3m2;
    k->decode_f32_f4 = decode_f4;
    k->encode_f16_f32 = encode_f16;
    k->encode_bf16_f32 = encode_bf16;
}
