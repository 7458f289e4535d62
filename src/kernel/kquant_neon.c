/* SPDX-License-Identifier: Apache-2.0 */
/* kquant_neon.c: K-quant blocks to f32 with Advanced SIMD.
 *
 * Codes are cut out of their bits 16 at a time as bytes and spread as spread_neon.h says.
 * Same bits as the reference: scale * code is exact in f32 (an f16 scale has 11 bits, sc up to 8, a
 * code up to 6, and no product is below 2^-24), so one fmla rounds where the reference's
 * subtraction does. Blocks whose scale is Inf or NaN go to the reference. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/blocks_k.h"
#include "kernel/kernel.h"
#include "kernel/spread_neon.h"

void lb_kinit_kquant_neon(lb_kernels *k);

/* out[0..16) = d[0] q - m[0]; neg_m = -m. */
static inline void put_affine16(float *out, uint8x16_t q, const float *d, const float *neg_m) {
    const float32x4_t d4 = vld1q_dup_f32(d), m4 = vld1q_dup_f32(neg_m);
    vst1q_f32(out, vfmaq_f32(m4, d4, lb_unsigned4(q, 0)));
    vst1q_f32(out + 4, vfmaq_f32(m4, d4, lb_unsigned4(q, 1)));
    vst1q_f32(out + 8, vfmaq_f32(m4, d4, lb_unsigned4(q, 2)));
    vst1q_f32(out + 12, vfmaq_f32(m4, d4, lb_unsigned4(q, 3)));
}

/* out[0..8) = d * bytes. */
static inline void scale8(float *out, uint8x8_t bytes, float d) {
    const uint16x8_t w = vmovl_u8(bytes);
    vst1q_f32(out, vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(w))), d));
    vst1q_f32(out + 4, vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(w)), d));
}

static inline void scale8_signed(float *out, int8x8_t bytes, float d) {
    const int16x8_t w = vmovl_s8(bytes);
    vst1q_f32(out, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(w))), d));
    vst1q_f32(out + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(w)), d));
}

static void decode_q2_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q2_k *b = in;
    const uint8x16_t low2 = vdupq_n_u8(3);
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d), hm = lb_load_u16(b->dmin);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q2_k_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[16], ml[16];
        for (unsigned j = 0; j < 16; j += 8) {
            const uint8x8_t s = vld1_u8(b->scales + j);
            scale8(dl + j, vand_u8(s, vdup_n_u8(15)), lb_neon_f16(hd));
            scale8(ml + j, vshr_n_u8(s, 4), -lb_neon_f16(hm));
        }
        for (unsigned h = 0; h < 2; h++) {
            uint8x16_t qa = vld1q_u8(b->qs + 32 * h), qb = vld1q_u8(b->qs + 32 * h + 16);
            for (unsigned s = 8 * h; s < 8 * h + 8; s += 2, out += 32) {
                put_affine16(out, vandq_u8(qa, low2), dl + s, ml + s);
                put_affine16(out + 16, vandq_u8(qb, low2), dl + s + 1, ml + s + 1);
                qa = vshrq_n_u8(qa, 2);
                qb = vshrq_n_u8(qb, 2);
            }
        }
    }
}

/* Codes q - 4 = low + 4 high - 4: the lowest two bits of low, the lowest bit of high. */
static inline int8x16_t code_q3_k(uint8x16_t low, uint8x16_t high) {
    const uint8x16_t l = vandq_u8(low, vdupq_n_u8(3));
    const uint8x16_t h = vandq_u8(vshlq_n_u8(high, 2), vdupq_n_u8(4));
    return vsubq_s8(vreinterpretq_s8_u8(vorrq_u8(l, h)), vdupq_n_s8(4));
}

static void decode_q3_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q3_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_q3_k_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        u8 sc[16];
        float dl[16];
        lb_k3_scales(b->scales, sc);
        for (unsigned j = 0; j < 16; j += 8) {
            const int8x8_t s = vsub_s8(vreinterpret_s8_u8(vld1_u8(sc + j)), vdup_n_s8(32));
            scale8_signed(dl + j, s, lb_neon_f16(hd));
        }
        uint8x16_t ha = vld1q_u8(b->hmask), hb = vld1q_u8(b->hmask + 16);
        for (unsigned h = 0; h < 2; h++) {
            uint8x16_t qa = vld1q_u8(b->qs + 32 * h), qb = vld1q_u8(b->qs + 32 * h + 16);
            for (unsigned s = 8 * h; s < 8 * h + 8; s += 2, out += 32) {
                lb_put_scaled16(out, code_q3_k(qa, ha), dl + s);
                lb_put_scaled16(out + 16, code_q3_k(qb, hb), dl + s + 1);
                qa = vshrq_n_u8(qa, 2);
                qb = vshrq_n_u8(qb, 2);
                ha = vshrq_n_u8(ha, 1);
                hb = vshrq_n_u8(hb, 1);
            }
        }
    }
}

/* Scales of q4_k and q5_k: d sc and -dmin m. */
static inline void scales_k4(const u8 packed[12], u16 hd, u16 hm, float dl[8], float ml[8]) {
    u8 sc[8], m[8];
    lb_k4_scales(packed, sc, m);
    scale8(dl, vld1_u8(sc), lb_neon_f16(hd));
    scale8(ml, vld1_u8(m), -lb_neon_f16(hm));
}

static void decode_q4_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q4_k *b = in;
    const uint8x16_t nibble = vdupq_n_u8(15);
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d), hm = lb_load_u16(b->dmin);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q4_k_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[8], ml[8];
        scales_k4(b->scales, hd, hm, dl, ml);
        for (unsigned s = 0; s < 8; s += 2, out += 64) {
            const uint8x16_t qa = vld1q_u8(b->qs + 16 * s), qb = vld1q_u8(b->qs + 16 * s + 16);
            put_affine16(out, vandq_u8(qa, nibble), dl + s, ml + s);
            put_affine16(out + 16, vandq_u8(qb, nibble), dl + s, ml + s);
            put_affine16(out + 32, vshrq_n_u8(qa, 4), dl + s + 1, ml + s + 1);
            put_affine16(out + 48, vshrq_n_u8(qb, 4), dl + s + 1, ml + s + 1);
        }
    }
}

/* 16 codes: the low nibbles of ql, bit 4 from the lowest bit of qh. */
static inline void put_q5_k(float *out, uint8x16_t ql, uint8x16_t qh, const float *d,
                            const float *m) {
    const uint8x16_t high = vandq_u8(vshlq_n_u8(qh, 4), vdupq_n_u8(16));
    put_affine16(out, vorrq_u8(vandq_u8(ql, vdupq_n_u8(15)), high), d, m);
}

static void decode_q5_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q5_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d), hm = lb_load_u16(b->dmin);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q5_k_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        float dl[8], ml[8];
        scales_k4(b->scales, hd, hm, dl, ml);
        uint8x16_t ha = vld1q_u8(b->qh), hb = vld1q_u8(b->qh + 16);
        for (unsigned s = 0; s < 8; s += 2, out += 64) {
            const uint8x16_t qa = vld1q_u8(b->qs + 16 * s), qb = vld1q_u8(b->qs + 16 * s + 16);
            put_q5_k(out, qa, ha, dl + s, ml + s);
            put_q5_k(out + 16, qb, hb, dl + s, ml + s);
            put_q5_k(out + 32, vshrq_n_u8(qa, 4), vshrq_n_u8(ha, 1), dl + s + 1, ml + s + 1);
            put_q5_k(out + 48, vshrq_n_u8(qb, 4), vshrq_n_u8(hb, 1), dl + s + 1, ml + s + 1);
            ha = vshrq_n_u8(ha, 2);
            hb = vshrq_n_u8(hb, 2);
        }
    }
}

/* Codes q - 32: the low nibbles of ql, bits 4-5 from the lowest two bits of qh. */
static inline int8x16_t code_q6_k(uint8x16_t ql, uint8x16_t qh) {
    const uint8x16_t low = vandq_u8(ql, vdupq_n_u8(15));
    const uint8x16_t high = vandq_u8(vshlq_n_u8(qh, 4), vdupq_n_u8(48));
    return vsubq_s8(vreinterpretq_s8_u8(vorrq_u8(low, high)), vdupq_n_s8(32));
}

static void decode_q6_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q6_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_q6_k_ref(LB_QK, out, b);
            continue;
        }
        float dl[16];
        for (unsigned j = 0; j < 16; j += 8)
            scale8_signed(dl + j, vreinterpret_s8_u8(vld1_u8(b->scales + j)), lb_neon_f16(hd));
        for (unsigned j = 0; j < 4; j++) { /* 16 bytes of qh: elements o + 0, 32, 64, 96 ... */
            const u8 *ql = b->ql + j / 2 * 64 + j % 2 * 16;
            const uint8x16_t qa = vld1q_u8(ql), qb = vld1q_u8(ql + 32),
                             qh = vld1q_u8(b->qh + 16 * j);
            const float *d = dl + j / 2 * 8 + j % 2;
            float *const o = out + j / 2 * 128 + j % 2 * 16;
            lb_put_scaled16(o, code_q6_k(qa, qh), d);
            lb_put_scaled16(o + 32, code_q6_k(qb, vshrq_n_u8(qh, 2)), d + 2);
            lb_put_scaled16(o + 64, code_q6_k(vshrq_n_u8(qa, 4), vshrq_n_u8(qh, 4)), d + 4);
            lb_put_scaled16(o + 96, code_q6_k(vshrq_n_u8(qb, 4), vshrq_n_u8(qh, 6)), d + 6);
        }
    }
}

/* One product of an f32 scale: the reference's own operation. */
static void decode_q8_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q8_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u32 bits = lb_load_u32(b->d);
        if ((bits & 0x7f800000u) == 0x7f800000u) {
            lb_k_decode_f32_q8_k_ref(LB_QK, out, b);
            continue;
        }
        const float d = lb_f32_from_bits(bits);
        for (unsigned j = 0; j < LB_QK; j += 16)
            lb_put_scaled16(out + j, vreinterpretq_s8_u8(vld1q_u8(b->qs + j)), &d);
    }
}

void lb_kinit_kquant_neon(lb_kernels *k) {
    k->decode_f32_q2_k = decode_q2_k;
    k->decode_f32_q3_k = decode_q3_k;
    k->decode_f32_q4_k = decode_q4_k;
    k->decode_f32_q5_k = decode_q5_k;
    k->decode_f32_q6_k = decode_q6_k;
    k->decode_f32_q8_k = decode_q8_k;
}
