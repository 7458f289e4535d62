/* SPDX-License-Identifier: Apache-2.0 */
/* float_avx512.c: plain floats to and from f32 with AVX-512.
 *
 * As float_avx2.c, 16 values a step, or 32 where they go through f16 (E4M3, E2M3, E3M2: the bits
 * moved to where f16 has them, then one exact product). Codes of four bits are looked up. Rests of
 * less than a step are loaded and stored under a mask, or go to the reference. f16 was no faster
 * than with AVX2, whose two stores of 32 bytes a cycle are as many bytes. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/e4m3_avx512.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx512.h"

void lb_kinit_float_avx512(lb_kernels *k);

static inline __mmask16 first_of_16(size_t n) {
    return (__mmask16)((1u << n) - 1);
}

static inline __m512 from_bf16(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

static void decode_bf16(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16)
        _mm512_storeu_ps(out + i, from_bf16(lb_load32(p + 2 * i)));
    if (i < n_elems) {
        const __mmask16 m = first_of_16(n_elems - i);
        _mm512_mask_storeu_ps(out + i, m, from_bf16(_mm256_maskz_loadu_epi16(m, p + 2 * i)));
    }
}

static void decode_f64(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        _mm256_storeu_ps(out + i, _mm512_cvtpd_ps(_mm512_loadu_pd(p + 8 * i)));
        _mm256_storeu_ps(out + i + 8, _mm512_cvtpd_ps(_mm512_loadu_pd(p + 8 * i + 64)));
    }
    for (; i < n_elems; i += LB_MIN(n_elems - i, (size_t)8)) {
        const __mmask8 m = (__mmask8)first_of_16(LB_MIN(n_elems - i, (size_t)8));
        _mm256_mask_storeu_ps(out + i, m, _mm512_cvtpd_ps(_mm512_maskz_loadu_pd(m, p + 8 * i)));
    }
}

/* ---- 8 bits ---- */

/* A decoder of 32 and, under a mask, fewer bytes, from what turns 32 bytes into two vectors. */
#define DECODE8(name, convert)                                              \
    static void decode_##name(size_t n_elems, float *out, const void *in) { \
        const u8 *p = in;                                                   \
        size_t i = 0;                                                       \
        __m512 a, b;                                                        \
        for (; i + 32 <= n_elems; i += 32) {                                \
            convert(lb_load32(p + i), &a, &b);                              \
            _mm512_storeu_ps(out + i, a);                                   \
            _mm512_storeu_ps(out + i + 16, b);                              \
        }                                                                   \
        if (i < n_elems) {                                                  \
            const __mmask32 m = (1u << (n_elems - i)) - 1;                  \
            convert(_mm256_maskz_loadu_epi8(m, p + i), &a, &b);             \
            _mm512_mask_storeu_ps(out + i, (__mmask16)m, a);                \
            _mm512_mask_storeu_ps(out + i + 16, (__mmask16)(m >> 16), b);   \
        }                                                                   \
    }

DECODE8(f8_e4m3, lb_e4m3_32)

static inline void e4m3fnuz(__m256i bytes, __m512 *a, __m512 *b) {
    const __m512i minus_zero = _mm512_set1_epi32(INT32_MIN), nan = _mm512_set1_epi32(LB_NAN_BITS);
    lb_f16_32(lb_e4m3_as_f16_32(bytes), 0x1p7f, a, b);
    /* 0x80 has come out as -0, which no other code gives */
    const __m512i x = _mm512_castps_si512(*a), y = _mm512_castps_si512(*b);
    *a = _mm512_castsi512_ps(_mm512_mask_mov_epi32(x, _mm512_cmpeq_epi32_mask(x, minus_zero), nan));
    *b = _mm512_castsi512_ps(_mm512_mask_mov_epi32(y, _mm512_cmpeq_epi32_mask(y, minus_zero), nan));
}
DECODE8(f8_e4m3fnuz, e4m3fnuz)

static inline void e5m2(__m256i bytes, __m512 *a, __m512 *b) {
    const __m512i w = _mm512_slli_epi16(_mm512_cvtepu8_epi16(bytes), 8);
    *a = _mm512_cvtph_ps(_mm512_castsi512_si256(w));
    *b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(w, 1));
}
DECODE8(f8_e5m2, e5m2)

/* E5M2FNUZ has ordinary values where f16 has Inf and NaN: normal codes by moving the bits, those
 * with exponent 0 as an integer times the smallest step. */
static inline __m512 e5m2fnuz_16(__m128i bytes) {
    const __m512i c = _mm512_cvtepi8_epi32(bytes);
    const __m512i mag = _mm512_and_si512(c, _mm512_set1_epi32(0x7f));
    const __m512i normal =
        _mm512_add_epi32(_mm512_slli_epi32(mag, 21), _mm512_set1_epi32((127 - 16) << 23));
    const __m512 low = _mm512_mul_ps(_mm512_cvtepi32_ps(mag), _mm512_set1_ps(0x1p-17f));
    const __mmask16 is_low = _mm512_cmplt_epi32_mask(mag, _mm512_set1_epi32(4));
    const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(c, _mm512_set1_epi32(-128));
    const __m512i x = _mm512_mask_mov_epi32(normal, is_low, _mm512_castps_si512(low));
    const __m512i y =
        _mm512_ternarylogic_epi32(x, c, _mm512_set1_epi32(INT32_MIN), 0xf8); /* a | (b & c) */
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(y, is_nan, _mm512_set1_epi32(LB_NAN_BITS)));
}

static inline void e5m2fnuz(__m256i bytes, __m512 *a, __m512 *b) {
    *a = e5m2fnuz_16(_mm256_castsi256_si128(bytes));
    *b = e5m2fnuz_16(_mm256_extracti128_si256(bytes, 1));
}
DECODE8(f8_e5m2fnuz, e5m2fnuz)

/* 2^(code - 127); the smallest is subnormal: 0x400000 where the moved bits are 0. */
static inline __m512i e8m0_16(__m128i bytes) {
    const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu8_epi32(bytes), 23);
    return _mm512_max_epu32(bits, _mm512_set1_epi32(0x400000));
}

static inline void mlx_e8m0(__m256i bytes, __m512 *a, __m512 *b) {
    *a = _mm512_castsi512_ps(e8m0_16(_mm256_castsi256_si128(bytes)));
    *b = _mm512_castsi512_ps(e8m0_16(_mm256_extracti128_si256(bytes, 1)));
}
DECODE8(mlx_e8m0, mlx_e8m0)

/* 0xff has become Inf. */
static inline __m512 inf_to_nan(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __mmask16 inf = _mm512_cmpeq_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, inf, _mm512_set1_epi32(LB_NAN_BITS)));
}

static inline void e8m0(__m256i bytes, __m512 *a, __m512 *b) {
    mlx_e8m0(bytes, a, b);
    *a = inf_to_nan(*a);
    *b = inf_to_nan(*b);
}
DECODE8(f8_e8m0, e8m0)

/* ---- 6 and 4 bits ---- */

/* 32 codes of 24 bytes as f16 with the exponent bias of their own: a code is brought to the top of
 * its word, the sign stays there, exponent and mantissa go to where f16 has them. */
static inline __m512i f6_as_f16(__m256i bytes, int man_bits) {
    /* Six bytes to each quarter, then to words the two bytes in which a code begins. */
    const __m512i quarter = _mm512_setr_epi64(0x0003000200010000, 0, 0x0006000500040003, 0,
                                              0x0009000800070006, 0, 0x000c000b000a0009, 0);
    const __m512i begin =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 0, 1, 1, 2, 2, 3, 3, 4, 3, 4, 4, 5, 5, 6));
    const __m512i six = _mm512_permutexvar_epi16(quarter, _mm512_castsi256_si512(bytes));
    const __m512i w =
        _mm512_sllv_epi16(_mm512_shuffle_epi8(six, begin), _mm512_set1_epi64(0x000800060004000a));
    const __m512i mag = man_bits == 3 ? _mm512_srli_epi16(w, 3) : _mm512_srli_epi16(w, 2);
    const __m512i mag_mask = _mm512_set1_epi16(man_bits == 3 ? 0x0f80 : 0x1f00);
    return _mm512_ternarylogic_epi32(_mm512_and_si512(mag, mag_mask), w,
                                     _mm512_set1_epi16((short)0x8000), 0xf8);
}

/* bias_up: 2^(15 - bias). */
static inline void decode_f6(size_t n_elems, float *out, const u8 *p, int man_bits, float bias_up) {
    const __m512 f = _mm512_set1_ps(bias_up);
    for (size_t i = 0; i < n_elems; i += 32, p += 24) {
        const size_t n = LB_MIN(n_elems - i, (size_t)32);
        const __mmask32 m = n == 32 ? UINT32_MAX : (1u << n) - 1;
        const __mmask32 m_in = n == 32 ? 0xffffffu : (1u << (n / 4 * 3)) - 1;
        const __m512i h = f6_as_f16(_mm256_maskz_loadu_epi8(m_in, p), man_bits);
        const __m512 a = _mm512_cvtph_ps(_mm512_castsi512_si256(h));
        const __m512 b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(h, 1));
        _mm512_mask_storeu_ps(out + i, (__mmask16)m, _mm512_mul_ps(a, f));
        _mm512_mask_storeu_ps(out + i + 16, (__mmask16)(m >> 16), _mm512_mul_ps(b, f));
    }
}

static void decode_f6_e2m3(size_t n_elems, float *out, const void *in) {
    decode_f6(n_elems, out, in, 3, 0x1p14f);
}

static void decode_f6_e3m2(size_t n_elems, float *out, const void *in) {
    decode_f6(n_elems, out, in, 2, 0x1p12f);
}

static void decode_f4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m512 value =
        _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16, p += 8)
        _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(lb_nibbles16(p), value));
    lb_k_decode_f32_f4_ref(n_elems - i, out + i, p);
}

/* ---- encode ---- */

/* Whether a magnitude in x or y is NaN, Inf, or so large that it rounds to Inf. */
static inline bool any_reaches(__m512i x, __m512i y, u32 first_inf) {
    const __m512i abs = _mm512_set1_epi32(0x7fffffff);
    const __m512i a = _mm512_and_si512(x, abs), b = _mm512_and_si512(y, abs);
    return _mm512_cmpge_epi32_mask(_mm512_max_epi32(a, b), _mm512_set1_epi32((int)first_inf)) != 0;
}

static inline u64 bits_set(__mmask16 a, __mmask16 b) {
    return (u64)__builtin_popcount((u32)a | (u32)b << 16);
}

/* 32 at a time; where all are finite and stay so, only what differs has to be counted. */
static void encode_f16(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    size_t i = 0;
    u64 n_differ = 0;
    for (; i + 32 <= n_elems; i += 32) {
        const __m512 x = _mm512_loadu_ps(in + i), y = _mm512_loadu_ps(in + i + 16);
        if (any_reaches(_mm512_castps_si512(x), _mm512_castps_si512(y), 0x477ff000u)) { /* 65520 */
            lb_k_encode_f16_f32_ref(32, p + 2 * i, in + i, counts);
            continue;
        }
        const __m256i h = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
        const __m256i g = _mm512_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT);
        n_differ += bits_set(_mm512_cmp_ps_mask(x, _mm512_cvtph_ps(h), _CMP_NEQ_OQ),
                             _mm512_cmp_ps_mask(y, _mm512_cvtph_ps(g), _CMP_NEQ_OQ));
        _mm256_storeu_si256((__m256i *)(void *)(p + 2 * i), h);
        _mm256_storeu_si256((__m256i *)(void *)(p + 2 * i + 32), g);
    }
    counts[0] += n_differ;
    lb_k_encode_f16_f32_ref(n_elems - i, p + 2 * i, in + i, counts);
}

/* A finite value to the nearest bf16, in the high half of each dword. */
static inline __m512i to_bf16(__m512i bits) {
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
}

static void encode_bf16(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    const __m512i low = _mm512_set1_epi32(0xffff);
    /* the odd words of two vectors */
    const __m512i at = _mm512_add_epi16(
        _mm512_setr_epi32(0x00020000, 0x00060004, 0x000a0008, 0x000e000c, 0x00120010, 0x00160014,
                          0x001a0018, 0x001e001c, 0x00220020, 0x00260024, 0x002a0028, 0x002e002c,
                          0x00320030, 0x00360034, 0x003a0038, 0x003e003c),
        _mm512_set1_epi16(1));
    size_t i = 0;
    u64 n_differ = 0;
    for (; i + 32 <= n_elems; i += 32) {
        const __m512i x = _mm512_loadu_si512(in + i), y = _mm512_loadu_si512(in + i + 16);
        if (any_reaches(x, y, 0x7f7f8000u)) { /* the middle between the largest and 2^128 */
            lb_k_encode_bf16_f32_ref(32, p + 2 * i, in + i, counts);
            continue;
        }
        n_differ += bits_set(_mm512_test_epi32_mask(x, low), _mm512_test_epi32_mask(y, low));
        _mm512_storeu_si512(p + 2 * i, _mm512_permutex2var_epi16(to_bf16(x), at, to_bf16(y)));
    }
    counts[0] += n_differ;
    lb_k_encode_bf16_f32_ref(n_elems - i, p + 2 * i, in + i, counts);
}

void lb_kinit_float_avx512(lb_kernels *k) {
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
