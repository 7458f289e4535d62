/* SPDX-License-Identifier: Apache-2.0 */
/* kquant_avx2.c: K-quant blocks to f32 with AVX2.
 *
 * Codes are cut out of their bits 32 at a time as bytes; one vpermd puts the bytes of a run so that
 * four vpshufb spread them over 8 dwords each, in order. Signed codes go to the top of their dword,
 * left aligned, and the power of two is taken out of the scale. Same bits as the reference: scale *
 * code is exact in f32 (an f16 scale has 11 bits, sc up to 8, a code up to 6, and no product is
 * below 2^-24), so one vfmsub rounds where the reference's subtraction does, and a scale smaller by
 * 2^-24 ... 2^-31 gives the same products. Blocks whose scale is Inf or NaN go to the reference. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/blocks_k.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx2.h"

void lb_kinit_kquant_avx2(lb_kernels *k);

/* 8 bytes to 8 f32. */
static inline __m256 widen8(const u8 *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(lb_load8(p)));
}

/* out[0..16) = d[0] q - m[0], out[16..32) = d[next] q - m[next]; q dealt, 0..31. */
static inline void put_affine(float *out, __m256i q, const float *d, const float *m, size_t next) {
    const __m256 d0 = _mm256_broadcast_ss(d), d1 = _mm256_broadcast_ss(d + next);
    const __m256 m0 = _mm256_broadcast_ss(m), m1 = _mm256_broadcast_ss(m + next);
    _mm256_storeu_ps(out, _mm256_fmsub_ps(d0, lb_low8(q, 0), m0));
    _mm256_storeu_ps(out + 8, _mm256_fmsub_ps(d0, lb_low8(q, 1), m0));
    _mm256_storeu_ps(out + 16, _mm256_fmsub_ps(d1, lb_low8(q, 2), m1));
    _mm256_storeu_ps(out + 24, _mm256_fmsub_ps(d1, lb_low8(q, 3), m1));
}

/* Bits of each byte moved right (left when negative), masked. */
static inline __m256i bits(__m256i v, int right, int mask) {
    const __m256i s = right >= 0 ? _mm256_srli_epi16(v, right) : _mm256_slli_epi16(v, -right);
    return _mm256_and_si256(s, _mm256_set1_epi8((char)mask));
}

static void decode_q2_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q2_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u16 hd = lb_load_u16(b->d), hm = lb_load_u16(b->dmin);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q2_k_ref(LB_QK, out, b);
            continue;
        }
        const __m256 d = _mm256_set1_ps(_cvtsh_ss(hd)), dmin = _mm256_set1_ps(_cvtsh_ss(hm));
        alignas(32) float dl[16], ml[16];
        for (unsigned j = 0; j < 16; j += 8) {
            const __m256i s = _mm256_cvtepu8_epi32(lb_load8(b->scales + j));
            const __m256i sc = _mm256_and_si256(s, _mm256_set1_epi32(15)),
                          m = _mm256_srli_epi32(s, 4);
            _mm256_store_ps(dl + j, _mm256_mul_ps(d, _mm256_cvtepi32_ps(sc)));
            _mm256_store_ps(ml + j, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(m)));
        }
        for (unsigned h = 0; h < 2; h++) {
            const __m256i q = lb_deal(lb_load32(b->qs + 32 * h));
            float *const o = out + 128 * h;
            const float *const dh = dl + 8 * h, *const mh = ml + 8 * h;
            put_affine(o, bits(q, 0, 3), dh, mh, 1);
            put_affine(o + 32, bits(q, 2, 3), dh + 2, mh + 2, 1);
            put_affine(o + 64, bits(q, 4, 3), dh + 4, mh + 4, 1);
            put_affine(o + 96, bits(q, 6, 3), dh + 6, mh + 6, 1);
        }
    }
}

/* 32 codes q - 4 = low + 4 high - 4 in the top three bits of their bytes: low at bits 5-6, the high
 * bit inverted at bit 7 is the sign. */
static inline __m256i code_q3_k(__m256i qs, int plane, __m256i not_high, int bit) {
    return _mm256_or_si256(bits(qs, 2 * plane - 5, 0x60), bits(not_high, bit - 7, 0x80));
}

static void decode_q3_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q3_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_q3_k_ref(LB_QK, out, b);
            continue;
        }
        const __m256 d = _mm256_set1_ps(_cvtsh_ss(hd) * 0x1p-29f);
        u8 sc[16];
        alignas(32) float dl[16];
        lb_k3_scales(b->scales, sc);
        for (unsigned j = 0; j < 16; j += 8)
            _mm256_store_ps(dl + j,
                            _mm256_mul_ps(d, _mm256_sub_ps(widen8(sc + j), _mm256_set1_ps(32))));
        const __m256i nh = lb_deal(_mm256_xor_si256(lb_load32(b->hmask), _mm256_set1_epi8(-1)));
        const __m256i q0 = lb_deal(lb_load32(b->qs)), q1 = lb_deal(lb_load32(b->qs + 32));
        lb_put_scaled(out, code_q3_k(q0, 0, nh, 0), dl, 1);
        lb_put_scaled(out + 32, code_q3_k(q0, 1, nh, 1), dl + 2, 1);
        lb_put_scaled(out + 64, code_q3_k(q0, 2, nh, 2), dl + 4, 1);
        lb_put_scaled(out + 96, code_q3_k(q0, 3, nh, 3), dl + 6, 1);
        lb_put_scaled(out + 128, code_q3_k(q1, 0, nh, 4), dl + 8, 1);
        lb_put_scaled(out + 160, code_q3_k(q1, 1, nh, 5), dl + 10, 1);
        lb_put_scaled(out + 192, code_q3_k(q1, 2, nh, 6), dl + 12, 1);
        lb_put_scaled(out + 224, code_q3_k(q1, 3, nh, 7), dl + 14, 1);
    }
}

/* Scales of q4_k and q5_k: d sc and dmin m. */
static inline void scales_k4(const u8 packed[12], u16 hd, u16 hm, float dl[8], float ml[8]) {
    u8 sc[8], m[8];
    lb_k4_scales(packed, sc, m);
    _mm256_store_ps(dl, _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(hd)), widen8(sc)));
    _mm256_store_ps(ml, _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(hm)), widen8(m)));
}

static void decode_q4_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q4_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u16 hd = lb_load_u16(b->d), hm = lb_load_u16(b->dmin);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q4_k_ref(LB_QK, out, b);
            continue;
        }
        alignas(32) float dl[8], ml[8];
        scales_k4(b->scales, hd, hm, dl, ml);
        for (unsigned j = 0; j < 4; j++) {
            const __m256i q = lb_deal(lb_load32(b->qs + 32 * j));
            put_affine(out + 64 * j, bits(q, 0, 15), dl + 2 * j, ml + 2 * j, 0);
            put_affine(out + 64 * j + 32, bits(q, 4, 15), dl + 2 * j + 1, ml + 2 * j + 1, 0);
        }
    }
}

static void decode_q5_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q5_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u16 hd = lb_load_u16(b->d), hm = lb_load_u16(b->dmin);
        if (!lb_f16_is_finite(hd) || !lb_f16_is_finite(hm)) {
            lb_k_decode_f32_q5_k_ref(LB_QK, out, b);
            continue;
        }
        alignas(32) float dl[8], ml[8];
        scales_k4(b->scales, hd, hm, dl, ml);
        __m256i high = lb_deal(lb_load32(b->qh));
        for (unsigned j = 0; j < 4; j++) {
            const __m256i q = lb_deal(lb_load32(b->qs + 32 * j));
            const __m256i q0 = _mm256_or_si256(bits(q, 0, 15), bits(high, -4, 16));
            const __m256i q1 = _mm256_or_si256(bits(q, 4, 15), bits(high, -3, 16));
            put_affine(out + 64 * j, q0, dl + 2 * j, ml + 2 * j, 0);
            put_affine(out + 64 * j + 32, q1, dl + 2 * j + 1, ml + 2 * j + 1, 0);
            high = _mm256_srli_epi16(high, 2);
        }
    }
}

/* 32 codes (q - 32) * 4: bits 0-3 of q to bits 2-5, bits 4-5 (their upper one inverted) to the top.
 */
static inline __m256i code_q6_k(__m256i ql, int right, __m256i high, int plane) {
    return _mm256_or_si256(bits(ql, right, 0x3c), bits(high, 2 * plane - 6, 0xc0));
}

static void decode_q6_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q6_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_q6_k_ref(LB_QK, out, b);
            continue;
        }
        const __m256 d = _mm256_set1_ps(_cvtsh_ss(hd) * 0x1p-26f);
        alignas(32) float dl[16];
        for (unsigned j = 0; j < 16; j += 8) {
            const __m256i sc = _mm256_cvtepi8_epi32(lb_load8(b->scales + j));
            _mm256_store_ps(dl + j, _mm256_mul_ps(d, _mm256_cvtepi32_ps(sc)));
        }
        for (unsigned h = 0; h < 2; h++) {
            const __m256i qa = lb_deal(lb_load32(b->ql + 64 * h)),
                          qb = lb_deal(lb_load32(b->ql + 64 * h + 32));
            const __m256i high =
                lb_deal(_mm256_xor_si256(lb_load32(b->qh + 32 * h), _mm256_set1_epi8((char)0xaa)));
            float *const o = out + 128 * h;
            lb_put_scaled(o, code_q6_k(qa, -2, high, 0), dl + 8 * h, 1);
            lb_put_scaled(o + 32, code_q6_k(qb, -2, high, 1), dl + 8 * h + 2, 1);
            lb_put_scaled(o + 64, code_q6_k(qa, 2, high, 2), dl + 8 * h + 4, 1);
            lb_put_scaled(o + 96, code_q6_k(qb, 2, high, 3), dl + 8 * h + 6, 1);
        }
    }
}

/* out[0..8) = d * 8 signed bytes. */
static inline void put8(float *out, const u8 *q, __m256 d) {
    const __m256i v = _mm256_cvtepi8_epi32(lb_load8(q));
    _mm256_storeu_ps(out, _mm256_mul_ps(d, _mm256_cvtepi32_ps(v)));
}

/* The scale is an f32 and may be subnormal, so nothing is taken out of it: the reference's product.
 */
static void decode_q8_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q8_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u32 bits_d = lb_load_u32(b->d);
        if ((bits_d & 0x7f800000u) == 0x7f800000u) {
            lb_k_decode_f32_q8_k_ref(LB_QK, out, b);
            continue;
        }
        const __m256 d = _mm256_set1_ps(lb_f32_from_bits(bits_d));
        for (unsigned j = 0; j < LB_QK; j += 32) {
            put8(out + j, b->qs + j, d);
            put8(out + j + 8, b->qs + j + 8, d);
            put8(out + j + 16, b->qs + j + 16, d);
            put8(out + j + 24, b->qs + j + 24, d);
        }
    }
}

void lb_kinit_kquant_avx2(lb_kernels *k) {
    k->decode_f32_q2_k = decode_q2_k;
    k->decode_f32_q3_k = decode_q3_k;
    k->decode_f32_q4_k = decode_q4_k;
    k->decode_f32_q5_k = decode_q5_k;
    k->decode_f32_q6_k = decode_q6_k;
    k->decode_f32_q8_k = decode_q8_k;
}
