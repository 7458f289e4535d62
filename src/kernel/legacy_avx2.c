/* SPDX-License-Identifier: Apache-2.0 */
/* legacy_avx2.c: ggml's small block types to f32 with AVX2.
 *
 * Codes become 32 bytes in element order, which spread_avx2.h widens; where there are four values
 * at most, vpermilps looks the scaled value up instead. Same bits as the reference: code * scale is
 * exact in f32 for an f16 scale (11 bits and 8), so q4_1 and q5_1 may fuse, and a scale smaller by
 * 2^-24 gives the same products from codes that stand in the top byte. Blocks with a scale of Inf
 * or NaN go to the reference. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx2.h"

void lb_kinit_legacy_avx2(lb_kernels *k);

/* 16 bytes to 32 nibbles: the low ones, then the high ones. */
static inline __m256i nibbles(const u8 *p) {
    const __m128i q = lb_load16(p);
    const __m256i both =
        _mm256_inserti128_si256(_mm256_castsi128_si256(q), _mm_srli_epi16(q, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Byte i: `set` where bit i of the 32 is set, else 0. */
static inline __m256i bytes_of_bits(u32 bits, char set) {
    const __m256i at = _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101,
                                          0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((i64)0x8040201008040201u);
    const __m256i b = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), at);
    const __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(b, bit), bit);
    return _mm256_and_si256(is_set, _mm256_set1_epi8(set));
}

/* out[0..32) = d q for signed bytes in order. */
static inline void put32(float *out, __m256i q, float d) {
    const float small = d * 0x1p-24f;
    lb_put_scaled(out, lb_deal(q), &small, 0);
}

/* out[0..32) = d q + m for unsigned bytes in order. */
static inline void put32_affine(float *out, __m256i q, float d, float m) {
    const __m256 d8 = _mm256_set1_ps(d), m8 = _mm256_set1_ps(m);
    const __m256i dealt = lb_deal(q);
    _mm256_storeu_ps(out, _mm256_fmadd_ps(d8, lb_low8(dealt, 0), m8));
    _mm256_storeu_ps(out + 8, _mm256_fmadd_ps(d8, lb_low8(dealt, 1), m8));
    _mm256_storeu_ps(out + 16, _mm256_fmadd_ps(d8, lb_low8(dealt, 2), m8));
    _mm256_storeu_ps(out + 24, _mm256_fmadd_ps(d8, lb_low8(dealt, 3), m8));
}

static void decode_q4_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 18) {
        const u16 d = lb_load_u16(p);
        if (lb_f16_is_finite(d))
            put32(out + i, _mm256_sub_epi8(nibbles(p + 2), _mm256_set1_epi8(8)), _cvtsh_ss(d));
        else
            lb_k_decode_f32_q4_0_ref(32, out + i, p);
    }
}

static void decode_q4_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 20) {
        const u16 d = lb_load_u16(p), m = lb_load_u16(p + 2);
        if (lb_f16_is_finite(d) && lb_f16_is_finite(m))
            put32_affine(out + i, nibbles(p + 4), _cvtsh_ss(d), _cvtsh_ss(m));
        else
            lb_k_decode_f32_q4_1_ref(32, out + i, p);
    }
}

/* q - 16: the low four bits, and the bits above all set where the fifth is not. */
static void decode_q5_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 22) {
        const u16 d = lb_load_u16(p);
        const __m256i high = bytes_of_bits(~lb_load_u32(p + 2), (char)0xf0);
        if (lb_f16_is_finite(d))
            put32(out + i, _mm256_or_si256(nibbles(p + 6), high), _cvtsh_ss(d));
        else
            lb_k_decode_f32_q5_0_ref(32, out + i, p);
    }
}

static void decode_q5_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 24) {
        const u16 d = lb_load_u16(p), m = lb_load_u16(p + 2);
        const __m256i high = bytes_of_bits(lb_load_u32(p + 4), 16);
        if (lb_f16_is_finite(d) && lb_f16_is_finite(m))
            put32_affine(out + i, _mm256_or_si256(nibbles(p + 8), high), _cvtsh_ss(d),
                         _cvtsh_ss(m));
        else
            lb_k_decode_f32_q5_1_ref(32, out + i, p);
    }
}

static void decode_q8_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 34) {
        const u16 d = lb_load_u16(p);
        if (lb_f16_is_finite(d))
            put32(out + i, lb_load32(p + 2), _cvtsh_ss(d));
        else
            lb_k_decode_f32_q8_0_ref(32, out + i, p);
    }
}

static void decode_q8_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 36) {
        const u16 d = lb_load_u16(p);
        if (lb_f16_is_finite(d))
            put32(out + i, lb_load32(p + 4), _cvtsh_ss(d));
        else
            lb_k_decode_f32_q8_1_ref(32, out + i, p);
    }
}

/* ---- one and two bits, digits ---- */

/* A bit moves to the sign; where it is clear the sign of d turns. */
static void decode_q1_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m256i to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    for (size_t i = 0; i < n_elems; i += 128, p += 18) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q1_0_ref(128, out + i, p);
            continue;
        }
        const __m256 minus_d = _mm256_set1_ps(-_cvtsh_ss(h));
        for (size_t j = 0; j < 16; j++) {
            const __m256i bits = _mm256_sllv_epi32(_mm256_set1_epi32(p[2 + j]), to_sign);
            const __m256 sign = _mm256_and_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(-0.0f));
            _mm256_storeu_ps(out + i + 8 * j, _mm256_xor_ps(minus_d, sign));
        }
    }
}

/* -d, 0 d, d, 2 d in each half: what vpermilps gives for codes 0..3. */
static inline __m256 four_values(u16 d) {
    return _mm256_mul_ps(_mm256_setr_ps(-1, 0, 1, 2, -1, 0, 1, 2), _mm256_set1_ps(_cvtsh_ss(d)));
}

static void decode_q2_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m256i low = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i high = _mm256_setr_epi32(16, 18, 20, 22, 24, 26, 28, 30);
    for (size_t i = 0; i < n_elems; i += 64, p += 18) {
        const u16 d = lb_load_u16(p);
        if (!lb_f16_is_finite(d)) {
            lb_k_decode_f32_q2_0_ref(64, out + i, p);
            continue;
        }
        const __m256 value = four_values(d);
        for (size_t j = 0; j < 4; j++) {
            float *const o = out + i + 16 * j;
            const __m256i q = _mm256_set1_epi32((int)lb_load_u32(p + 2 + 4 * j));
            _mm256_storeu_ps(o, _mm256_permutevar_ps(value, _mm256_srlv_epi32(q, low)));
            _mm256_storeu_ps(o + 8, _mm256_permutevar_ps(value, _mm256_srlv_epi32(q, high)));
        }
    }
}

/* vpermilps looks at the low two bits of a dword only. */
static void decode_tq2_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 256, p += 66) {
        const u16 d = lb_load_u16(p + 64);
        if (!lb_f16_is_finite(d)) {
            lb_k_decode_f32_tq2_0_ref(256, out + i, p);
            continue;
        }
        const __m256 value = four_values(d);
        for (size_t j = 0; j < 64; j += 8) {
            float *const o = out + i + j / 32 * 128 + j % 32;
            const __m256i q = _mm256_cvtepu8_epi32(lb_load8(p + j));
            _mm256_storeu_ps(o, _mm256_permutevar_ps(value, q));
            _mm256_storeu_ps(o + 32, _mm256_permutevar_ps(value, _mm256_srli_epi32(q, 2)));
            _mm256_storeu_ps(o + 64, _mm256_permutevar_ps(value, _mm256_srli_epi32(q, 4)));
            _mm256_storeu_ps(o + 96, _mm256_permutevar_ps(value, _mm256_srli_epi32(q, 6)));
        }
    }
}

/* The next digit of 16 fractions of 256 in words: the whole part of 3 q; q keeps the fraction. */
static inline __m256i next_digit(__m256i *q) {
    const __m256i three = _mm256_add_epi16(_mm256_add_epi16(*q, *q), *q);
    *q = _mm256_and_si256(three, _mm256_set1_epi16(255));
    return _mm256_srli_epi16(three, 8);
}

static inline void put_digits(float *out, __m256i digits, __m256 value) {
    const __m256i a = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(digits));
    const __m256i b = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(digits, 1));
    _mm256_storeu_ps(out, _mm256_permutevar_ps(value, a));
    _mm256_storeu_ps(out + 8, _mm256_permutevar_ps(value, b));
}

static void decode_tq1_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 256, p += 54) {
        const u16 d = lb_load_u16(p + 52);
        float *const o = out + i;
        if (!lb_f16_is_finite(d)) {
            lb_k_decode_f32_tq1_0_ref(256, o, p);
            continue;
        }
        const __m256 value = four_values(d);
        __m256i q0 = _mm256_cvtepu8_epi16(lb_load16(p));
        __m256i q1 = _mm256_cvtepu8_epi16(lb_load16(p + 16));
        __m256i q2 = _mm256_cvtepu8_epi16(lb_load16(p + 32));
        for (size_t n = 0; n < 5; n++) {
            put_digits(o + 32 * n, next_digit(&q0), value);
            put_digits(o + 32 * n + 16, next_digit(&q1), value);
            put_digits(o + 160 + 16 * n, next_digit(&q2), value);
        }
        /* Four bytes of four digits: the digit in the low two bits of its dword. */
        __m128i qh = _mm_cvtepu8_epi32(_mm_cvtsi32_si128((int)lb_load_u32(p + 48)));
        for (size_t n = 0; n < 4; n++) {
            const __m128i three = _mm_add_epi32(_mm_add_epi32(qh, qh), qh);
            _mm_storeu_ps(o + 240 + 4 * n, _mm_permutevar_ps(_mm256_castps256_ps128(value),
                                                             _mm_srli_epi32(three, 8)));
            qh = _mm_and_si128(three, _mm_set1_epi32(255));
        }
    }
}

/* ---- E2M1 ---- */

/* Twice the E2M1 values of 32 nibbles; code 8 is +0, as in ggml. */
static inline __m256i fp4_doubled(__m256i codes) {
    const __m128i v = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(v), codes);
}

/* out[0..32) = d q where d * 2^-24 would be subnormal: the codes are brought down first. */
static inline void put32_tiny(float *out, __m256i q, float d) {
    const __m256 down = _mm256_set1_ps(0x1p-24f), d8 = _mm256_set1_ps(d);
    const __m256i dealt = lb_deal(q);
    _mm256_storeu_ps(out, _mm256_mul_ps(d8, _mm256_mul_ps(down, lb_high8(dealt, 0))));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(d8, _mm256_mul_ps(down, lb_high8(dealt, 1))));
    _mm256_storeu_ps(out + 16, _mm256_mul_ps(d8, _mm256_mul_ps(down, lb_high8(dealt, 2))));
    _mm256_storeu_ps(out + 24, _mm256_mul_ps(d8, _mm256_mul_ps(down, lb_high8(dealt, 3))));
}

static void decode_mxfp4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 17) {
        const u32 e = p[0];
        const __m256i q = fp4_doubled(nibbles(p + 1));
        const float d = lb_f32_from_bits(e < 2 ? 0x200000u << e : (e - 1) << 23);
        if (e > 25) /* 2^(e - 128) * 2^-24 has the exponent e - 25 */
            put32(out + i, q, d);
        else
            put32_tiny(out + i, q, d);
    }
}

/* Halves of E4M3 as f16, times 2^8 (bias 7 to 15) / 2 / 2^24; 0x7f is 0, bit 7 counts for nothing
 * else. */
static inline __m128 nvfp4_scales(u32 four) {
    const __m128i raw = _mm_cvtsi32_si128((int)four);
    const __m128i zero = _mm_cmpeq_epi8(raw, _mm_set1_epi8(0x7f));
    const __m128i mag = _mm_andnot_si128(zero, _mm_and_si128(raw, _mm_set1_epi8(0x7f)));
    const __m128i f16 = _mm_slli_epi16(_mm_cvtepu8_epi16(mag), 7);
    return _mm_mul_ps(_mm_cvtph_ps(f16), _mm_set1_ps(0x1p-17f));
}

static void decode_nvfp4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 64, p += 36) {
        float d[4];
        _mm_storeu_ps(d, nvfp4_scales(lb_load_u32(p)));
        for (size_t j = 0; j < 2; j++) {
            /* Low and high nibbles of 16 bytes; of each half the first eight belong together. */
            const __m256i q = _mm256_permute4x64_epi64(nibbles(p + 4 + 16 * j), 0xd8);
            lb_put_scaled(out + i + 32 * j, lb_deal(fp4_doubled(q)), d + 2 * j, 1);
        }
    }
}

void lb_kinit_legacy_avx2(lb_kernels *k) {
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
