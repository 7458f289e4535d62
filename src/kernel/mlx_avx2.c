/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_avx2.c: MLX's quantized groups to f32 with AVX2.
 *
 * Up to four bits a group has 16 values at most: they are computed once, with their roundings, and
 * looked up (vpermps, vpermilps). Wider codes go through the arithmetic one by one. Groups whose
 * scale or bias is Inf or NaN go to the reference, so no NaN appears here: a product that overflows
 * meets a finite bias. Nothing is read past a group's codes. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/e4m3_avx2.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx2.h"

void lb_kinit_mlx_avx2(lb_kernels *k);

static inline bool is_finite(float x) {
    return (lb_f32_bits(x) & 0x7f800000u) != 0x7f800000u;
}

/* x is not NaN. */
static inline __m256 round_to(__m256 x, u32 type) {
    if (type == LB_ROUND_F16)
        return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    if (type != LB_ROUND_BF16)
        return x;
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    return _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32((int)0xffff0000u)));
}

static inline __m256 value(__m256 code, __m256 scale, __m256 bias, u32 round) {
    const __m256 product = round_to(_mm256_mul_ps(code, scale), round & 15);
    return round_to(_mm256_add_ps(product, bias), round >> 4);
}

/* ---- up to four bits: look up ---- */

/* The group's values of codes first .. first + 7. */
static inline __m256 values_from(float first, float scale, float bias, u32 round) {
    const __m256 code =
        _mm256_add_ps(_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_ps(first));
    return value(code, _mm256_set1_ps(scale), _mm256_set1_ps(bias), round);
}

/* vpermilps looks at two bits of a dword; both halves hold codes 0..3. */
static inline __m256 four_values(float scale, float bias, u32 round) {
    const __m256 v = values_from(0, scale, bias, round);
    return _mm256_permute2f128_ps(v, v, 0);
}

static void decode_q1(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    const u8 *p = codes;
    const __m256i to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 8, out += group_elems) {
        if (!is_finite(scale[g]) || !is_finite(bias[g])) {
            lb_k_decode_f32_mlx_q1_ref(1, group_elems, out, p, scale + g, bias + g, round);
            continue;
        }
        const __m256 v = four_values(scale[g], bias[g], round);
        const __m256 v0 = _mm256_permute_ps(v, 0x00), v1 = _mm256_permute_ps(v, 0x55);
        for (size_t i = 0; i < group_elems; i += 8) {
            const __m256i bits = _mm256_sllv_epi32(_mm256_set1_epi32(p[i / 8]), to_sign);
            _mm256_storeu_ps(out + i, _mm256_blendv_ps(v0, v1, _mm256_castsi256_ps(bits)));
        }
    }
}

static void decode_q2(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    const u8 *p = codes;
    const __m256i low = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i high = _mm256_setr_epi32(16, 18, 20, 22, 24, 26, 28, 30);
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 4, out += group_elems) {
        if (!is_finite(scale[g]) || !is_finite(bias[g])) {
            lb_k_decode_f32_mlx_q2_ref(1, group_elems, out, p, scale + g, bias + g, round);
            continue;
        }
        const __m256 v = four_values(scale[g], bias[g], round);
        for (size_t i = 0; i < group_elems; i += 16) {
            const __m256i q = _mm256_set1_epi32((int)lb_load_u32(p + i / 4));
            _mm256_storeu_ps(out + i, _mm256_permutevar_ps(v, _mm256_srlv_epi32(q, low)));
            _mm256_storeu_ps(out + i + 8, _mm256_permutevar_ps(v, _mm256_srlv_epi32(q, high)));
        }
    }
}

/* 24 bits of eight codes at the bottom of a dword, looked up. */
static inline void put_q3(float *out, u32 bits, __m256 v) {
    const __m256i shift = _mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21);
    const __m256i q = _mm256_srlv_epi32(_mm256_set1_epi32((int)bits), shift);
    _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(v, q));
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
        const __m256 v = values_from(0, scale[g], bias[g], round);
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
    const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 2, out += group_elems) {
        if (!is_finite(scale[g]) || !is_finite(bias[g])) {
            lb_k_decode_f32_mlx_q4_ref(1, group_elems, out, p, scale + g, bias + g, round);
            continue;
        }
        const __m256 low = values_from(0, scale[g], bias[g], round);
        const __m256 high = values_from(8, scale[g], bias[g], round);
        for (size_t i = 0; i < group_elems; i += 8) {
            const __m256i word = _mm256_set1_epi32((int)lb_load_u32(p + i / 2));
            const __m256i q = _mm256_srlv_epi32(word, shift);
            const __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(q, 28));
            _mm256_storeu_ps(out + i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, q),
                                                       _mm256_permutevar8x32_ps(high, q), bit3));
        }
    }
}

/* ---- five, six and eight bits: compute ---- */

/* For eight dwords the two bytes of 16 in which each code stands; the first code starts in byte
 * `at`. A code that ends in its first byte takes no second one (-128 + at: none), which may not be
 * there. */
static inline __m256i window(int at, int bits) {
    const __m256i five = _mm256_setr_epi8(0, -128, -128, -128, 0, 1, -128, -128, //
                                          1, -128, -128, -128, 1, 2, -128, -128, //
                                          2, 3, -128, -128, 3, -128, -128, -128, //
                                          3, 4, -128, -128, 4, -128, -128, -128);
    const __m256i six = _mm256_setr_epi8(0, -128, -128, -128, 0, 1, -128, -128, //
                                         1, 2, -128, -128, 2, -128, -128, -128, //
                                         3, -128, -128, -128, 3, 4, -128, -128, //
                                         4, 5, -128, -128, 5, -128, -128, -128);
    return _mm256_add_epi8(bits == 5 ? five : six, _mm256_set1_epi8((char)at));
}

static inline void put_cut(float *out, __m128i bytes, __m256i at, int bits, __m256 scale,
                           __m256 bias, u32 round) {
    const __m256i shift5 = _mm256_setr_epi32(0, 5, 2, 7, 4, 1, 6, 3);
    const __m256i shift6 = _mm256_setr_epi32(0, 6, 4, 2, 0, 6, 4, 2);
    const __m256i two = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), at);
    const __m256i q = _mm256_and_si256(_mm256_srlv_epi32(two, bits == 5 ? shift5 : shift6),
                                       _mm256_set1_epi32((1 << bits) - 1));
    _mm256_storeu_ps(out, value(_mm256_cvtepi32_ps(q), scale, bias, round));
}

/* Groups with finite scale and bias; 32 codes a step, from two loads inside their bytes: of five
 * bits 20 bytes, chunks of 5 at 0, 5, 10 | 15; of six 24 bytes, at 0, 6 | 12, 18. */
static inline void put_group(float *out, const u8 *p, size_t group_elems, int bits, float scale,
                             float bias, u32 round) {
    const __m256 s = _mm256_set1_ps(scale), b = _mm256_set1_ps(bias);
    if (bits == 8) {
        for (size_t i = 0; i < group_elems; i += 8) {
            const __m256i q = _mm256_cvtepu8_epi32(lb_load8(p + i));
            _mm256_storeu_ps(out + i, value(_mm256_cvtepi32_ps(q), s, b, round));
        }
        return;
    }
    const int second = bits == 5 ? 4 : 8;
    const __m256i at0 = window(0, bits), at1 = window(bits, bits);
    const __m256i at2 = window(bits == 5 ? 10 : 4, bits);
    const __m256i at3 = window(bits == 5 ? 11 : 10, bits);
    for (size_t i = 0; i < group_elems; i += 32, p += 4 * bits) {
        const __m128i x = lb_load16(p), y = lb_load16(p + second);
        put_cut(out + i, x, at0, bits, s, b, round);
        put_cut(out + i + 8, x, at1, bits, s, b, round);
        put_cut(out + i + 16, bits == 5 ? x : y, at2, bits, s, b, round);
        put_cut(out + i + 24, y, at3, bits, s, b, round);
    }
}

/* With `round` a constant in the three calls that matter. */
static inline void decode_wide(size_t n_groups, size_t group_elems, float *out, const u8 *p,
                               const float *scale, const float *bias, u32 round, int bits) {
    lb_k_decode_f32_mlx_q8_fn *const ref = bits == 5   ? lb_k_decode_f32_mlx_q5_ref
                                           : bits == 6 ? lb_k_decode_f32_mlx_q6_ref
                                                       : lb_k_decode_f32_mlx_q8_ref;
    const u32 both_bf16 = LB_MLX_ROUND(LB_ROUND_BF16, LB_ROUND_BF16);
    const u32 both_f16 = LB_MLX_ROUND(LB_ROUND_F16, LB_ROUND_F16);
    for (size_t g = 0; g < n_groups; g++) {
        if (!is_finite(scale[g]) || !is_finite(bias[g]))
            ref(1, group_elems, out, p, scale + g, bias + g, round);
        else if (round == both_bf16)
            put_group(out, p, group_elems, bits, scale[g], bias[g], both_bf16);
        else if (round == both_f16)
            put_group(out, p, group_elems, bits, scale[g], bias[g], both_f16);
        else if (round == 0)
            put_group(out, p, group_elems, bits, scale[g], bias[g], 0);
        else
            put_group(out, p, group_elems, bits, scale[g], bias[g], round);
        p += group_elems / 8 * (size_t)bits;
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
static void decode_fp4(size_t n_groups, size_t group_elems, float *out, const void *codes,
                       const float *scale) {
    const u8 *p = codes;
    const __m256 e2m1 = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
    const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 2, out += group_elems) {
        if (!is_finite(scale[g])) {
            lb_k_decode_f32_mlx_fp4_ref(1, group_elems, out, p, scale + g);
            continue;
        }
        const __m256 v = _mm256_mul_ps(e2m1, _mm256_set1_ps(scale[g]));
        for (size_t i = 0; i < group_elems; i += 8) {
            const __m256i word = _mm256_set1_epi32((int)lb_load_u32(p + i / 2));
            const __m256i q = _mm256_srlv_epi32(word, shift);
            const __m256 sign =
                _mm256_and_ps(_mm256_castsi256_ps(_mm256_slli_epi32(q, 28)), _mm256_set1_ps(-0.0f));
            _mm256_storeu_ps(out + i, _mm256_xor_ps(_mm256_permutevar8x32_ps(v, q), sign));
        }
    }
}

static inline void put_canon(float *out, __m256 x) {
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(LB_NAN_BITS));
    _mm256_storeu_ps(out, _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

static void decode_fp8(size_t n_groups, size_t group_elems, float *out, const void *codes,
                       const float *scale) {
    const u8 *p = codes;
    __m256 a, b;
    for (size_t g = 0; g < n_groups; g++, p += group_elems, out += group_elems) {
        const __m256 s = _mm256_set1_ps(scale[g]);
        for (size_t i = 0; i < group_elems; i += 16) {
            lb_e4m3(lb_load16(p + i), &a, &b);
            put_canon(out + i, _mm256_mul_ps(a, s));
            put_canon(out + i + 8, _mm256_mul_ps(b, s));
        }
    }
}

void lb_kinit_mlx_avx2(lb_kernels *k) {
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
