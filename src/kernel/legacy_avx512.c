/* SPDX-License-Identifier: Apache-2.0 */
/* legacy_avx512.c: ggml's small block types to f32 with AVX-512.
 *
 * Codes of up to four bits are looked up in the scaled values of their block (spread_avx512.h); the
 * fifth bits are a mask register that chooses between two tables, single bits one that chooses
 * between two values. Same bits as the reference: a table holds the reference's own products, and
 * code * scale is exact in f32 for an f16 scale, so q4_1 and q5_1 may fuse. Blocks with an f16
 * scale of Inf or NaN go to the reference. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx512.h"

void lb_kinit_legacy_avx512(lb_kernels *k);

static inline __m512 set_f16(u16 h) {
    return _mm512_set1_ps(_cvtsh_ss(h));
}

/* A pair of f16, scale and minimum. */
static inline void set_f16_pair(const u8 *p, __m512 *d, __m512 *m) {
    const __m128 both = _mm_cvtph_ps(_mm_cvtsi32_si128((int)lb_load_u32(p)));
    *d = _mm512_broadcastss_ps(both);
    *m = _mm512_broadcastss_ps(_mm_movehdup_ps(both));
}

/* first .. first + 15 */
static inline __m512 codes_from(float first) {
    return _mm512_add_ps(_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_ps(first));
}

/* 16 bytes: codes in the low nibbles, then in the high ones. */
static inline void put_halves(float *out, const u8 *p, __m512 value) {
    const __m512i q = lb_dwords16(p);
    _mm512_storeu_ps(out, _mm512_permutexvar_ps(q, value));
    _mm512_storeu_ps(out + 16, _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), value));
}

static void decode_q4_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512 code = codes_from(-8);
    for (size_t i = 0; i < n_elems; i += 32, p += 18) {
        const u16 d = lb_load_u16(p);
        if (lb_f16_is_finite(d))
            put_halves(out + i, p + 2, _mm512_mul_ps(set_f16(d), code));
        else
            lb_k_decode_f32_q4_0_ref(32, out + i, p);
    }
}

static void decode_q4_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512 code = codes_from(0);
    for (size_t i = 0; i < n_elems; i += 32, p += 20) {
        if (!lb_f16_is_finite(lb_load_u16(p)) || !lb_f16_is_finite(lb_load_u16(p + 2))) {
            lb_k_decode_f32_q4_1_ref(32, out + i, p);
            continue;
        }
        __m512 d, m;
        set_f16_pair(p, &d, &m);
        put_halves(out + i, p + 4, _mm512_fmadd_ps(d, code, m));
    }
}

/* As put_halves, with `high` where an element's fifth bit is set. */
static inline void put_fives(float *out, const u8 *p, u32 fifth, __m512 low, __m512 high) {
    const __m512i q = lb_dwords16(p), q4 = _mm512_srli_epi32(q, 4);
    const __m512 a = _mm512_permutexvar_ps(q, low), b = _mm512_permutexvar_ps(q4, low);
    const __mmask16 ka = (__mmask16)fifth, kb = (__mmask16)(fifth >> 16);
    _mm512_storeu_ps(out, _mm512_mask_permutexvar_ps(a, ka, q, high));
    _mm512_storeu_ps(out + 16, _mm512_mask_permutexvar_ps(b, kb, q4, high));
}

static void decode_q5_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512 low = codes_from(-16), high = codes_from(0);
    for (size_t i = 0; i < n_elems; i += 32, p += 22) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q5_0_ref(32, out + i, p);
            continue;
        }
        const __m512 d = set_f16(h);
        put_fives(out + i, p + 6, lb_load_u32(p + 2), _mm512_mul_ps(d, low),
                  _mm512_mul_ps(d, high));
    }
}

static void decode_q5_1(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512 low = codes_from(0), high = codes_from(16);
    for (size_t i = 0; i < n_elems; i += 32, p += 24) {
        if (!lb_f16_is_finite(lb_load_u16(p)) || !lb_f16_is_finite(lb_load_u16(p + 2))) {
            lb_k_decode_f32_q5_1_ref(32, out + i, p);
            continue;
        }
        __m512 d, m;
        set_f16_pair(p, &d, &m);
        put_fives(out + i, p + 8, lb_load_u32(p + 4), _mm512_fmadd_ps(d, low, m),
                  _mm512_fmadd_ps(d, high, m));
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
        const __m512 d = set_f16(h);
        _mm512_storeu_ps(out + i, _mm512_mul_ps(d, lb_signed16(p + 2)));
        _mm512_storeu_ps(out + i + 16, _mm512_mul_ps(d, lb_signed16(p + 18)));
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
        const __m512 d = set_f16(h);
        _mm512_storeu_ps(out + i, _mm512_mul_ps(d, lb_signed16(p + 4)));
        _mm512_storeu_ps(out + i + 16, _mm512_mul_ps(d, lb_signed16(p + 20)));
    }
}

/* ---- one and two bits, digits ---- */

static void decode_q1_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 128, p += 18) {
        const u16 h = lb_load_u16(p);
        if (!lb_f16_is_finite(h)) {
            lb_k_decode_f32_q1_0_ref(128, out + i, p);
            continue;
        }
        const __m512 d = set_f16(h), minus_d = _mm512_xor_ps(d, _mm512_set1_ps(-0.0f));
        for (size_t j = 0; j < 16; j += 4) {
            const u32 bits = lb_load_u32(p + 2 + j);
            float *const o = out + i + 8 * j;
            _mm512_storeu_ps(o, _mm512_mask_blend_ps((__mmask16)bits, minus_d, d));
            _mm512_storeu_ps(o + 16, _mm512_mask_blend_ps((__mmask16)(bits >> 16), minus_d, d));
        }
    }
}

/* -d, 0 d, d, 2 d in each quarter: what vpermilps gives for codes 0..3. */
static inline __m512 four_values(u16 d) {
    return _mm512_mul_ps(_mm512_broadcast_f32x4(_mm_setr_ps(-1, 0, 1, 2)), set_f16(d));
}

static void decode_q2_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512i shift =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    for (size_t i = 0; i < n_elems; i += 64, p += 18) {
        const u16 d = lb_load_u16(p);
        if (!lb_f16_is_finite(d)) {
            lb_k_decode_f32_q2_0_ref(64, out + i, p);
            continue;
        }
        const __m512 value = four_values(d);
        for (size_t j = 0; j < 4; j++) {
            const __m512i q = _mm512_set1_epi32((int)lb_load_u32(p + 2 + 4 * j));
            _mm512_storeu_ps(out + i + 16 * j,
                             _mm512_permutevar_ps(value, _mm512_srlv_epi32(q, shift)));
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
        const __m512 value = four_values(d);
        for (size_t j = 0; j < 64; j += 16) {
            float *const o = out + i + j / 32 * 128 + j % 32;
            const __m512i q = lb_dwords16(p + j);
            _mm512_storeu_ps(o, _mm512_permutevar_ps(value, q));
            _mm512_storeu_ps(o + 32, _mm512_permutevar_ps(value, _mm512_srli_epi32(q, 2)));
            _mm512_storeu_ps(o + 64, _mm512_permutevar_ps(value, _mm512_srli_epi32(q, 4)));
            _mm512_storeu_ps(o + 96, _mm512_permutevar_ps(value, _mm512_srli_epi32(q, 6)));
        }
    }
}

/* Five digits of 16 + 16 bytes, as fractions of 2^16 in the halves of dwords: a digit is the whole
 * part of 3 q, the rest of it the next fraction. Elements of the first 16 bytes go to out + step n,
 * of the second to out2 + step2 n. */
static inline void put_digits(float *out, size_t step, float *out2, size_t step2, __m512i q,
                              __m512 value) {
    const __m512i three = _mm512_set1_epi16(3);
    for (size_t n = 0; n < 5; n++) {
        const __m512i digits = _mm512_mulhi_epu16(q, three);
        _mm512_storeu_ps(out + step * n, _mm512_permutevar_ps(value, digits));
        if (out2)
            _mm512_storeu_ps(out2 + step2 * n,
                             _mm512_permutevar_ps(value, _mm512_srli_epi32(digits, 16)));
        q = _mm512_mullo_epi16(q, three);
    }
}

static void decode_tq1_0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512i pow3 =
        _mm512_setr_epi32(256, 256, 256, 256, 256 * 3, 256 * 3, 256 * 3, 256 * 3, 256 * 9, 256 * 9,
                          256 * 9, 256 * 9, 256 * 27, 256 * 27, 256 * 27, 256 * 27);
    for (size_t i = 0; i < n_elems; i += 256, p += 54) {
        const u16 d = lb_load_u16(p + 52);
        float *const o = out + i;
        if (!lb_f16_is_finite(d)) {
            lb_k_decode_f32_tq1_0_ref(256, o, p);
            continue;
        }
        const __m512 value = four_values(d);
        const __m512i a = _mm512_slli_epi32(lb_dwords16(p), 8);
        const __m512i b = _mm512_slli_epi32(lb_dwords16(p + 16), 24);
        put_digits(o, 32, o + 16, 32, _mm512_or_si512(a, b), value);
        put_digits(o + 160, 16, NULL, 0, _mm512_slli_epi32(lb_dwords16(p + 32), 8), value);
        /* Four bytes of four digits: all sixteen at once. */
        const __m128i four = _mm_set1_epi32((int)lb_load_u32(p + 48));
        const __m512i q = _mm512_mullo_epi16(_mm512_cvtepu8_epi32(four), pow3);
        const __m512i digits = _mm512_mulhi_epu16(q, _mm512_set1_epi16(3));
        _mm512_storeu_ps(o + 240, _mm512_permutevar_ps(value, digits));
    }
}

/* ---- E2M1 ---- */

/* Twice the E2M1 values; code 8 is +0, as in ggml. */
static inline __m512 fp4_doubled(void) {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
}

static void decode_mxfp4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512 code = fp4_doubled();
    for (size_t i = 0; i < n_elems; i += 32, p += 17) {
        const u32 e = p[0];
        const u32 d = e < 2 ? 0x200000u << e : (e - 1) << 23;
        put_halves(out + i, p + 1, _mm512_mul_ps(_mm512_set1_ps(lb_f32_from_bits(d)), code));
    }
}

/* Halves of E4M3 as f16, times 2^8 (bias 7 to 15) / 2; 0x7f is 0, bit 7 counts for nothing else. */
static inline __m128 nvfp4_scales(u32 four) {
    const __m128i raw = _mm_cvtsi32_si128((int)four);
    const __m128i zero = _mm_cmpeq_epi8(raw, _mm_set1_epi8(0x7f));
    const __m128i mag = _mm_andnot_si128(zero, _mm_and_si128(raw, _mm_set1_epi8(0x7f)));
    const __m128i f16 = _mm_slli_epi16(_mm_cvtepu8_epi16(mag), 7);
    return _mm_mul_ps(_mm_cvtph_ps(f16), _mm_set1_ps(0x1p7f));
}

static void decode_nvfp4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512 code = fp4_doubled();
    /* Eight bytes to sixteen dwords: each twice, the second time a nibble lower. */
    const __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i shift = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
    for (size_t i = 0; i < n_elems; i += 64, p += 36) {
        alignas(16) float d[4];
        _mm_store_ps(d, nvfp4_scales(lb_load_u32(p)));
        for (size_t s = 0; s < 4; s++) {
            const __m512i b = _mm512_set1_epi64((i64)lb_load_u64(p + 4 + 8 * s));
            const __m512i q = _mm512_srlv_epi32(_mm512_shuffle_epi8(b, at), shift);
            const __m512 value = _mm512_mul_ps(_mm512_set1_ps(d[s]), code);
            _mm512_storeu_ps(out + i + 16 * s, _mm512_permutexvar_ps(q, value));
        }
    }
}

void lb_kinit_legacy_avx512(lb_kernels *k) {
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
