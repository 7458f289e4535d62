/* SPDX-License-Identifier: Apache-2.0 */
/* iquant_neon.c: IQ-quant blocks to f32 with Advanced SIMD.
 *
 * Codebook points are plain loads into 16 bytes; signs are applied to them by a test with bit
 * masks; the bytes are spread and scaled as spread_neon.h says. Same bits as the reference: every
 * scale is exact in f32 (an f16 scale times at most 6 bits), so taking a power of two out of it
 * changes no product. Blocks whose scale is Inf or NaN go to the reference. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/blocks_k.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"
#include "kernel/spread_neon.h"

void lb_kinit_iquant_neon(lb_kernels *k);

/* Two points of 8 values. */
static inline int8x16_t points8(u64 p0, u64 p1) {
    return vreinterpretq_s8_u8(vcombine_u8(vcreate_u8(p0), vcreate_u8(p1)));
}

/* Four points of 4 values. */
static inline int8x16_t points4(u32 p0, u32 p1, u32 p2, u32 p3) {
    const uint32x4_t v = {p0, p1, p2, p3};
    return vreinterpretq_s8_u32(v);
}

/* Values whose bit in signs (8 a byte) is set, negated. */
static inline int8x16_t negate(int8x16_t v, const u8 signs[2]) {
    const uint8x16_t bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t s = vcombine_u8(vld1_dup_u8(signs), vld1_dup_u8(signs + 1));
    const int8x16_t mask = vreinterpretq_s8_u8(vtstq_u8(s, bit));
    return vsubq_s8(veorq_s8(v, mask), mask);
}

/* 7 signs in each byte (bit 7 zero): bit 7 becomes their parity. */
static inline uint8x16_t add_parity(uint8x16_t s) {
    return vsliq_n_u8(s, vcntq_u8(s), 7);
}

/* Four u32 of four packed signs each (28 bits) to 16 sign bytes. */
static inline void unpack_signs(u8 out[16], uint32x4_t aux) {
    const uint32x4_t a = vandq_u32(aux, vdupq_n_u32(0x7f));
    const uint32x4_t b = vandq_u32(vshlq_n_u32(aux, 1), vdupq_n_u32(0x7f00));
    const uint32x4_t c = vandq_u32(vshlq_n_u32(aux, 2), vdupq_n_u32(0x7f0000));
    const uint32x4_t d = vandq_u32(vshlq_n_u32(aux, 3), vdupq_n_u32(0x7f000000));
    const uint32x4_t s = vorrq_u32(vorrq_u32(a, b), vorrq_u32(c, d));
    vst1q_u8(out, add_parity(vreinterpretq_u8_u32(s)));
}

/* out[0..4) = d (sc + half). */
static inline void scales4(float *out, uint32x4_t sc, float d, float half) {
    vst1q_f32(out, vmulq_n_f32(vaddq_f32(vcvtq_f32_u32(sc), vdupq_n_f32(half)), d));
}

/* 8 bytes of two nibbles, low first: 16 scales d (0.5 + sc). */
static inline void scales_nibbles(float out[16], const u8 packed[8], float d) {
    const uint8x8_t v = vld1_u8(packed);
    const uint8x8x2_t sc = vzip_u8(vand_u8(v, vdup_n_u8(15)), vshr_n_u8(v, 4));
    for (unsigned j = 0; j < 2; j++) {
        const uint16x8_t w = vmovl_u8(sc.val[j]);
        scales4(out + 8 * j, vmovl_u16(vget_low_u16(w)), d, 0.5f);
        scales4(out + 8 * j + 4, vmovl_high_u16(w), d, 0.5f);
    }
}

static void decode_iq2_xxs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_xxs *b = in;
    const u64 *t = lb_iq2xxs_grid;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq2_xxs_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[8];
        u8 signs[32];
        for (unsigned j = 0; j < 2; j++) { /* the second u32 of each group of 8 bytes */
            const uint32x4_t lo = vreinterpretq_u32_u8(vld1q_u8(b->qs + 32 * j));
            const uint32x4_t hi = vreinterpretq_u32_u8(vld1q_u8(b->qs + 32 * j + 16));
            const uint32x4_t aux = vuzp2q_u32(lo, hi);
            scales4(dl + 4 * j, vshrq_n_u32(aux, 28), lb_neon_f16(hd) * 0.25f, 0.5f);
            unpack_signs(signs + 16 * j, aux);
        }
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 8 * g, *s = signs + 4 * g;
            lb_put_scaled16(out, negate(points8(t[q[0]], t[q[1]]), s), dl + g);
            lb_put_scaled16(out + 16, negate(points8(t[q[2]], t[q[3]]), s + 2), dl + g);
        }
    }
}

static void decode_iq2_xs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_xs *b = in;
    const u64 *t = lb_iq2xs_grid;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq2_xs_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[16];
        u8 signs[32];
        scales_nibbles(dl, b->scales, lb_neon_f16(hd) * 0.25f);
        for (unsigned j = 0; j < 2; j++) {
            /* bytes 1, 3, ... hold bit 8 of the index and the 7 signs above it */
            const uint8x16_t high =
                vuzp2q_u8(vld1q_u8(b->qs + 32 * j), vld1q_u8(b->qs + 32 * j + 16));
            vst1q_u8(signs + 16 * j, add_parity(vshrq_n_u8(high, 1)));
        }
        for (unsigned p = 0; p < 32; p += 2, out += 16) {
            const u8 *q = b->qs + 2 * p;
            const int8x16_t v = points8(t[lb_load_u16(q) & 511], t[lb_load_u16(q + 2) & 511]);
            lb_put_scaled16(out, negate(v, signs + p), dl + p / 2);
        }
    }
}

static void decode_iq2_s(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_s *b = in;
    const u64 *t = lb_iq2s_grid;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq2_s_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[16];
        scales_nibbles(dl, b->scales, lb_neon_f16(hd) * 0.25f);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 4 * g, *s = b->signs + 4 * g;
            const u32 h = b->qh[g];
            const int8x16_t v0 = points8(t[q[0] | (h << 8 & 0x300)], t[q[1] | (h << 6 & 0x300)]);
            const int8x16_t v1 = points8(t[q[2] | (h << 4 & 0x300)], t[q[3] | (h << 2 & 0x300)]);
            lb_put_scaled16(out, negate(v0, s), dl + 2 * g);
            lb_put_scaled16(out + 16, negate(v1, s + 2), dl + 2 * g + 1);
        }
    }
}

static void decode_iq3_xxs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq3_xxs *b = in;
    const u32 *t = lb_iq3xxs_grid;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq3_xxs_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[8];
        u8 signs[32];
        for (unsigned j = 0; j < 2; j++) {
            const uint32x4_t aux = vreinterpretq_u32_u8(vld1q_u8(b->aux + 16 * j));
            scales4(dl + 4 * j, vshrq_n_u32(aux, 28), lb_neon_f16(hd) * 0.5f, 0.5f);
            unpack_signs(signs + 16 * j, aux);
        }
        for (unsigned p = 0; p < 16; p++, out += 16) {
            const u8 *q = b->qs + 4 * p;
            const int8x16_t v = points4(t[q[0]], t[q[1]], t[q[2]], t[q[3]]);
            lb_put_scaled16(out, negate(v, signs + 2 * p), dl + p / 2);
        }
    }
}

static void decode_iq3_s(size_t n_elems, float *out, const void *in) {
    const lb_block_iq3_s *b = in;
    const u32 *t = lb_iq3s_grid;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq3_s_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[8];
        for (unsigned j = 0; j < 2; j++) { /* 1 + 2 sc = 2 (sc + 0.5) */
            const int32x4_t right = {0, -4, -8, -12};
            const uint32x4_t sc = vshlq_u32(vdupq_n_u32(lb_load_u16(b->scales + 2 * j)), right);
            scales4(dl + 4 * j, vandq_u32(sc, vdupq_n_u32(15)), lb_neon_f16(hd) * 2, 0.5f);
        }
        for (unsigned p = 0; p < 16; p++, out += 16) {
            const u8 *q = b->qs + 4 * p;
            const u32 h = (u32)b->qh[p / 2] >> (p % 2 * 4);
            const int8x16_t v = points4(t[q[0] | (h << 8 & 256)], t[q[1] | (h << 7 & 256)],
                                        t[q[2] | (h << 6 & 256)], t[q[3] | (h << 5 & 256)]);
            lb_put_scaled16(out, negate(v, b->signs + 2 * p), dl + p / 2);
        }
    }
}

/* 8 g + delta for g = -1, 0, 1: the value times 8. Delta: -1 where minus says so, else 1. */
static inline int8x16_t ternary(int8x16_t g, bool minus0, bool minus1) {
    const int8x8_t d0 = vdup_n_s8((i8)(1 - 2 * minus0)), d1 = vdup_n_s8((i8)(1 - 2 * minus1));
    return vaddq_s8(vshlq_n_s8(g, 3), vcombine_s8(d0, d1));
}

static void decode_iq1_s(size_t n_elems, float *out, const void *in) {
    const lb_block_iq1_s *b = in;
    const u64 *t = lb_iq1s_grid;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq1_s_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 4 * g;
            const u32 h = lb_load_u16(b->qh + 2 * g);
            const bool minus = h >> 15;
            const float d = lb_neon_f16(hd) * 0.125f * (float)(2 * (h >> 12 & 7) + 1);
            const int8x16_t v0 = points8(t[q[0] | (h << 8 & 0x700)], t[q[1] | (h << 5 & 0x700)]);
            const int8x16_t v1 = points8(t[q[2] | (h << 2 & 0x700)], t[q[3] | (h >> 1 & 0x700)]);
            lb_put_scaled16(out, ternary(v0, minus, minus), &d);
            lb_put_scaled16(out + 16, ternary(v1, minus, minus), &d);
        }
    }
}

static void decode_iq1_m(size_t n_elems, float *out, const void *in) {
    const lb_block_iq1_m *b = in;
    const u64 *t = lb_iq1s_grid;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_iq1m_d(b->scales);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq1_m_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        for (unsigned p = 0; p < 16; p++, out += 16) {
            const u32 h = b->qh[p], scales = lb_load_u16(b->scales + p / 4 * 2);
            const u32 sc = scales >> (p % 4 * 3) & 7;
            const float d = lb_neon_f16(hd) * 0.125f * (float)(2 * sc + 1);
            const int8x16_t v =
                points8(t[b->qs[2 * p] | (h << 8 & 0x700)], t[b->qs[2 * p + 1] | (h << 4 & 0x700)]);
            lb_put_scaled16(out, ternary(v, h >> 3 & 1, h >> 7), &d);
        }
    }
}

/* 16 bytes: 16 codes in the low nibbles, then 16 in the high ones. */
static inline void put_nonlinear(float *out, const u8 qs[16], const float *d) {
    const int8x16_t values = vld1q_s8(lb_iq4_values);
    const uint8x16_t q = vld1q_u8(qs);
    lb_put_scaled16(out, vqtbl1q_s8(values, vandq_u8(q, vdupq_n_u8(15))), d);
    lb_put_scaled16(out + 16, vqtbl1q_s8(values, vshrq_n_u8(q, 4)), d);
}

static void decode_iq4_nl(size_t n_elems, float *out, const void *in) {
    const lb_block_iq4_nl *b = in;
    for (size_t i = 0; i < n_elems; i += 32, b++, out += 32) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq4_nl_ref(32, out, b);
            continue;
        }
        const float d = lb_neon_f16(hd);
        put_nonlinear(out, b->qs, &d);
    }
}

static void decode_iq4_xs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq4_xs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq4_xs_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        const u32 low = lb_load_u32(b->scales_l), high = lb_load_u16(b->scales_h);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u32 sc = (low >> 4 * g & 15) | (high >> 2 * g & 3) << 4;
            const float d = lb_neon_f16(hd) * (float)((i32)sc - 32);
            put_nonlinear(out, b->qs + 16 * g, &d);
        }
    }
}

void lb_kinit_iquant_neon(lb_kernels *k) {
    k->decode_f32_iq2_xxs = decode_iq2_xxs;
    k->decode_f32_iq2_xs = decode_iq2_xs;
    k->decode_f32_iq2_s = decode_iq2_s;
    k->decode_f32_iq3_xxs = decode_iq3_xxs;
    k->decode_f32_iq3_s = decode_iq3_s;
    k->decode_f32_iq1_s = decode_iq1_s;
    k->decode_f32_iq1_m = decode_iq1_m;
    k->decode_f32_iq4_nl = decode_iq4_nl;
    k->decode_f32_iq4_xs = decode_iq4_xs;
}
