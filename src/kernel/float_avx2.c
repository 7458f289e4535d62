/* SPDX-License-Identifier: Apache-2.0 */
/* float_avx2.c: plain floats to and from f32 with AVX2 and F16C.
 *
 * The 8-bit floats with four or five exponent bits and F6 go through f16, sixteen words a step:
 * their bits, moved so that the exponent ends where f16's does, are an f16 whose exponent bias is
 * off by a constant, and one exact product by a power of two puts that right, subnormals included.
 * F4 is looked up, E5M2FNUZ built in f32. Rests of less than a step go to the reference. f32 to f32
 * is memcpy there already. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/e4m3_avx2.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx2.h"

void lb_kinit_float_avx2(lb_kernels *k);

static void decode_f16(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(lb_load16(p + 2 * i)));
        _mm256_storeu_ps(out + i + 8, _mm256_cvtph_ps(lb_load16(p + 2 * i + 16)));
    }
    lb_k_decode_f32_f16_ref(n_elems - i, out + i, p + 2 * i);
}

static void decode_bf16(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        const __m256i a = _mm256_cvtepu16_epi32(lb_load16(p + 2 * i));
        const __m256i b = _mm256_cvtepu16_epi32(lb_load16(p + 2 * i + 16));
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)));
        _mm256_storeu_ps(out + i + 8, _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)));
    }
    lb_k_decode_f32_bf16_ref(n_elems - i, out + i, p + 2 * i);
}

static void decode_f64(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256d a = _mm256_castsi256_pd(lb_load32(p + 8 * i));
        const __m256d b = _mm256_castsi256_pd(lb_load32(p + 8 * i + 32));
        _mm_storeu_ps(out + i, _mm256_cvtpd_ps(a));
        _mm_storeu_ps(out + i + 4, _mm256_cvtpd_ps(b));
    }
    lb_k_decode_f32_f64_ref(n_elems - i, out + i, p + 8 * i);
}

/* ---- 8 bits ---- */

static void decode_f8_e4m3(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    __m256 a, b;
    for (; i + 16 <= n_elems; i += 16) {
        lb_e4m3(lb_load16(p + i), &a, &b);
        _mm256_storeu_ps(out + i, a);
        _mm256_storeu_ps(out + i + 8, b);
    }
    lb_k_decode_f32_f8_e4m3_ref(n_elems - i, out + i, p + i);
}

/* 0x80 has come out as -0, which no other code gives: NaN. */
static inline __m256 minus_zero_to_nan(__m256 x) {
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(LB_NAN_BITS));
    const __m256i at = _mm256_cmpeq_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MIN));
    return _mm256_blendv_ps(x, nan, _mm256_castsi256_ps(at));
}

static void decode_f8_e4m3fnuz(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    __m256 a, b;
    for (; i + 16 <= n_elems; i += 16) {
        lb_f16_16(lb_e4m3_as_f16(lb_load16(p + i)), 0x1p7f, &a, &b);
        _mm256_storeu_ps(out + i, minus_zero_to_nan(a));
        _mm256_storeu_ps(out + i + 8, minus_zero_to_nan(b));
    }
    lb_k_decode_f32_f8_e4m3fnuz_ref(n_elems - i, out + i, p + i);
}

static void decode_f8_e5m2(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 16 <= n_elems; i += 16) {
        const __m128i b = lb_load16(p + i), zero = _mm_setzero_si128();
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_unpacklo_epi8(zero, b)));
        _mm256_storeu_ps(out + i + 8, _mm256_cvtph_ps(_mm_unpackhi_epi8(zero, b)));
    }
    lb_k_decode_f32_f8_e5m2_ref(n_elems - i, out + i, p + i);
}

/* A magnitude of codes in dwords, exponent above man_bits: normal codes by moving the bits, those
 * with exponent 0 as an integer times the smallest step. */
static inline __m256 small_float(__m256i mag, int man_bits, int bias) {
    const __m256i bits = _mm256_add_epi32(_mm256_slli_epi32(mag, 23 - man_bits),
                                          _mm256_set1_epi32((127 - bias) << 23));
    const __m256 step = _mm256_castsi256_ps(_mm256_set1_epi32((128 - bias - man_bits) << 23));
    const __m256 low = _mm256_mul_ps(_mm256_cvtepi32_ps(mag), step);
    const __m256i is_low = _mm256_cmpgt_epi32(_mm256_set1_epi32(1 << man_bits), mag);
    return _mm256_blendv_ps(_mm256_castsi256_ps(bits), low, _mm256_castsi256_ps(is_low));
}

/* E5M2FNUZ has ordinary values where f16 has Inf and NaN. */
static void decode_f8_e5m2fnuz(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(LB_NAN_BITS));
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i c = _mm256_cvtepu8_epi32(lb_load8(p + i));
        const __m256 x = small_float(_mm256_and_si256(c, _mm256_set1_epi32(0x7f)), 2, 16);
        const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(c, _mm256_set1_epi32(0x80)), 24);
        const __m256 at = _mm256_castsi256_ps(_mm256_cmpeq_epi32(c, _mm256_set1_epi32(0x80)));
        const __m256 y = _mm256_or_ps(x, _mm256_castsi256_ps(sign));
        _mm256_storeu_ps(out + i, _mm256_blendv_ps(y, nan, at));
    }
    lb_k_decode_f32_f8_e5m2fnuz_ref(n_elems - i, out + i, p + i);
}

/* 2^(code - 127); the smallest is subnormal: 0x400000 where the moved bits are 0. */
static inline __m256i e8m0_bits(const u8 *p) {
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu8_epi32(lb_load8(p)), 23);
    return _mm256_max_epu32(bits, _mm256_set1_epi32(0x400000));
}

static void decode_mlx_e8m0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8)
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(e8m0_bits(p + i)));
    lb_k_decode_f32_mlx_e8m0_ref(n_elems - i, out + i, p + i);
}

static void decode_f8_e8m0(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i bits = e8m0_bits(p + i); /* 0xff: Inf so far */
        const __m256i inf = _mm256_cmpeq_epi32(bits, _mm256_set1_epi32(0x7f800000));
        const __m256i nan = _mm256_and_si256(inf, _mm256_set1_epi32(LB_NAN_BITS));
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_or_si256(bits, nan)));
    }
    lb_k_decode_f32_f8_e8m0_ref(n_elems - i, out + i, p + i);
}

/* ---- 6 and 4 bits ---- */

/* 16 6-bit codes of 12 bytes (14 are read) as f16 with the exponent bias of their own: each half
 * has six bytes, words of it the two bytes in which a code begins; a product brings the code to the
 * top, where the sign stays; exponent and mantissa go to where f16 has them. */
static inline __m256i f6_as_f16(const u8 *p, int man_bits) {
    const __m256i begin =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 0, 1, 1, 2, 2, 3, 3, 4, 3, 4, 4, 5, 5, 6));
    const __m256i up = _mm256_set1_epi64x(0x0100004000100400); /* 2^10, 2^4, 2^6, 2^8 */
    const __m256i six = _mm256_setr_m128i(lb_load8(p), lb_load8(p + 6));
    const __m256i w = _mm256_mullo_epi16(_mm256_shuffle_epi8(six, begin), up);
    const __m256i mag =
        _mm256_and_si256(man_bits == 3 ? _mm256_srli_epi16(w, 3) : _mm256_srli_epi16(w, 2),
                         _mm256_set1_epi16(man_bits == 3 ? 0x0f80 : 0x1f00));
    return _mm256_or_si256(mag, _mm256_and_si256(w, _mm256_set1_epi16((short)0x8000)));
}

static void decode_f6_e2m3(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    __m256 a, b;
    for (; i + 20 <= n_elems; i += 16, p += 12) {
        lb_f16_16(f6_as_f16(p, 3), 0x1p14f, &a, &b); /* bias 1 to 15 */
        _mm256_storeu_ps(out + i, a);
        _mm256_storeu_ps(out + i + 8, b);
    }
    lb_k_decode_f32_f6_e2m3_ref(n_elems - i, out + i, p);
}

static void decode_f6_e3m2(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    __m256 a, b;
    for (; i + 20 <= n_elems; i += 16, p += 12) {
        lb_f16_16(f6_as_f16(p, 2), 0x1p12f, &a, &b); /* bias 3 to 15 */
        _mm256_storeu_ps(out + i, a);
        _mm256_storeu_ps(out + i + 8, b);
    }
    lb_k_decode_f32_f6_e3m2_ref(n_elems - i, out + i, p);
}

/* vpermps looks at the low three bits of each dword only: the magnitude. */
static void decode_f4(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const __m256 mag = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
    const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8, p += 4) {
        const __m256i c = _mm256_srlv_epi32(_mm256_set1_epi32((int)lb_load_u32(p)), shift);
        const __m256 sign =
            _mm256_and_ps(_mm256_castsi256_ps(_mm256_slli_epi32(c, 28)), _mm256_set1_ps(-0.0f));
        _mm256_storeu_ps(out + i, _mm256_or_ps(_mm256_permutevar8x32_ps(mag, c), sign));
    }
    lb_k_decode_f32_f4_ref(n_elems - i, out + i, p);
}

/* ---- encode ---- */

enum { COUNT_ELEMS = 1 << 24 }; /* a lane counts fewer than 2^31 of so many */

static inline u64 add_lanes(__m256i v) {
    u32 lane[8];
    u64 sum = 0;
    _mm256_storeu_si256((__m256i *)(void *)lane, v);
    for (int i = 0; i < 8; i++)
        sum += lane[i];
    return sum;
}

/* Whether a magnitude in x or y is NaN, Inf, or so large that it rounds to Inf. */
static inline bool any_reaches(__m256 x, __m256 y, u32 first_inf) {
    const __m256i abs = _mm256_set1_epi32(0x7fffffff);
    const __m256i a = _mm256_and_si256(_mm256_castps_si256(x), abs);
    const __m256i b = _mm256_and_si256(_mm256_castps_si256(y), abs);
    const __m256i last = _mm256_set1_epi32((int)first_inf - 1);
    return _mm256_movemask_epi8(_mm256_cmpgt_epi32(_mm256_max_epi32(a, b), last)) != 0;
}

/* Sixteen at a time; where all are finite and stay so, only what differs has to be counted. */
static void encode_f16(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    size_t i = 0;
    while (n_elems - i >= 16) {
        const size_t end = i + LB_MIN(n_elems - i, (size_t)COUNT_ELEMS) / 16 * 16;
        __m256i differ = _mm256_setzero_si256();
        for (; i < end; i += 16) {
            const __m256 x = _mm256_loadu_ps(in + i), y = _mm256_loadu_ps(in + i + 8);
            if (any_reaches(x, y, 0x477ff000u)) { /* 65520 */
                lb_k_encode_f16_f32_ref(16, p + 2 * i, in + i, counts);
                continue;
            }
            const __m128i h = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
            const __m128i g = _mm256_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT);
            const __m256 dx = _mm256_cmp_ps(x, _mm256_cvtph_ps(h), _CMP_NEQ_OQ);
            const __m256 dy = _mm256_cmp_ps(y, _mm256_cvtph_ps(g), _CMP_NEQ_OQ);
            differ = _mm256_sub_epi32(differ, _mm256_castps_si256(dx));
            differ = _mm256_sub_epi32(differ, _mm256_castps_si256(dy));
            _mm_storeu_si128((__m128i *)(void *)(p + 2 * i), h);
            _mm_storeu_si128((__m128i *)(void *)(p + 2 * i + 16), g);
        }
        counts[0] += add_lanes(differ);
    }
    lb_k_encode_f16_f32_ref(n_elems - i, p + 2 * i, in + i, counts);
}

/* Rounded code of a finite value in the low half of each dword. */
static inline __m256i to_bf16(__m256i bits) {
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    return _mm256_srli_epi32(up, 16);
}

/* -1 in each dword whose low half is not empty. */
static inline __m256i has_low_half(__m256i bits) {
    const __m256i zero = _mm256_setzero_si256();
    return _mm256_cmpgt_epi32(_mm256_blend_epi16(bits, zero, 0xaa), zero);
}

static void encode_bf16(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    size_t i = 0;
    while (n_elems - i >= 16) {
        const size_t end = i + LB_MIN(n_elems - i, (size_t)COUNT_ELEMS) / 16 * 16;
        __m256i differ = _mm256_setzero_si256();
        for (; i < end; i += 16) {
            const __m256 x = _mm256_loadu_ps(in + i), y = _mm256_loadu_ps(in + i + 8);
            if (any_reaches(x, y, 0x7f7f8000u)) { /* the middle between the largest and 2^128 */
                lb_k_encode_bf16_f32_ref(16, p + 2 * i, in + i, counts);
                continue;
            }
            const __m256i a = _mm256_castps_si256(x), b = _mm256_castps_si256(y);
            differ = _mm256_sub_epi32(differ, has_low_half(a));
            differ = _mm256_sub_epi32(differ, has_low_half(b));
            const __m256i both = _mm256_packus_epi32(to_bf16(a), to_bf16(b));
            _mm256_storeu_si256((__m256i *)(void *)(p + 2 * i),
                                _mm256_permute4x64_epi64(both, 0xd8));
        }
        counts[0] += add_lanes(differ);
    }
    lb_k_encode_bf16_f32_ref(n_elems - i, p + 2 * i, in + i, counts);
}

void lb_kinit_float_avx2(lb_kernels *k) {
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
