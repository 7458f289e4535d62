/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_avx512.c: MLX's quantized groups to f32 with AVX-512.
 *
 * Up to five bits a group's values (32 at most) are computed once, with their roundings, and looked
 * up: vpermilps, vpermps and vpermt2ps look at 2, 4 and 5 bits of a dword, so codes need no mask.
 * Wider codes go through the arithmetic sixteen at a time. Groups whose scale or bias is Inf or NaN
 * go to the reference, so no NaN appears here. Nothing is read past a group's codes. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/e4m3_avx512.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/mlx_avx512.h"
#include "kernel/spread_avx512.h"

void lb_kinit_mlx_avx512(lb_kernels *k);

static inline void put_q1(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const __m512 v = lb_mlx_values(scale, bias, round, c);
    const __m512 v0 = _mm512_broadcastss_ps(_mm512_castps512_ps128(v));
    const __m512 v1 = _mm512_broadcastss_ps(_mm_movehdup_ps(_mm512_castps512_ps128(v)));
    for (size_t i = 0; i < group_elems; i += 32) {
        const u32 bits = lb_load_u32(p + i / 8);
        _mm512_storeu_ps(out + i, _mm512_mask_blend_ps((__mmask16)bits, v0, v1));
        _mm512_storeu_ps(out + i + 16, _mm512_mask_blend_ps((__mmask16)(bits >> 16), v0, v1));
    }
}
LB_MLX_DECODE(1, put_q1)

static inline void put_q2(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const __m512i shift =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512 v16 = lb_mlx_values(scale, bias, round, c);
    const __m512 v = _mm512_shuffle_f32x4(v16, v16, 0);
    for (size_t i = 0; i < group_elems; i += 32, p += 8, out += 32) {
        const __m512i q = _mm512_set1_epi32((int)lb_load_u32(p));
        const __m512i r = _mm512_set1_epi32((int)lb_load_u32(p + 4));
        _mm512_storeu_ps(out, _mm512_permutevar_ps(v, _mm512_srlv_epi32(q, shift)));
        _mm512_storeu_ps(out + 16, _mm512_permutevar_ps(v, _mm512_srlv_epi32(r, shift)));
    }
}
LB_MLX_DECODE(2, put_q2)

/* Where 16 codes of 3, 5 or 6 bits stand in 16 bytes: dwords take the byte in which a code begins
 * and the next one, then go right by `shift`. */
typedef struct cut {
    __m512i at, shift;
} cut;

/* The first code begins at byte `first`. */
static inline cut cut_of(int bits, int first) {
    const __m512i n = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i bit = _mm512_add_epi32(_mm512_mullo_epi32(n, _mm512_set1_epi32(bits)),
                                         _mm512_set1_epi32(8 * first));
    const __m512i byte = _mm512_srli_epi32(bit, 3);
    const __m512i two = _mm512_or_si512(byte, _mm512_slli_epi32(byte, 8));
    return (cut){_mm512_add_epi32(two, _mm512_set1_epi32((int)0x80800100)),
                 _mm512_and_si512(bit, _mm512_set1_epi32(7))};
}

/* A code at the bottom of each dword, other bits above. */
static inline __m512i cut16(__m128i bytes, const cut *c) {
    return _mm512_srlv_epi32(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), c->at), c->shift);
}

static inline void put_q3(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const cut a = cut_of(3, 0), b = cut_of(3, 2);
    const __m512 v8 = lb_mlx_values(scale, bias, round, c);
    const __m512 v = _mm512_shuffle_f32x4(v8, v8, 0x44); /* bit 3 of an index is the next code's */
    for (size_t i = 0; i < group_elems; i += 32, p += 12, out += 32) {
        const __m512i q = cut16(lb_load8(p), &a), r = cut16(lb_load8(p + 4), &b);
        _mm512_storeu_ps(out, _mm512_permutexvar_ps(q, v));
        _mm512_storeu_ps(out + 16, _mm512_permutexvar_ps(r, v));
    }
}
LB_MLX_DECODE(3, put_q3)

static inline void put_q4(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const __m512 v = lb_mlx_values(scale, bias, round, c);
    for (size_t i = 0; i < group_elems; i += 32, p += 16, out += 32) {
        const __m512i q = lb_nibbles16(p), r = lb_nibbles16(p + 8);
        _mm512_storeu_ps(out, _mm512_permutexvar_ps(q, v));
        _mm512_storeu_ps(out + 16, _mm512_permutexvar_ps(r, v));
    }
}
LB_MLX_DECODE(4, put_q4)

static inline void put_q5(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const cut a = cut_of(5, 0), b = cut_of(5, 6);
    const __m512 v = lb_mlx_values(scale, bias, round, c);
    const __m512 w = lb_mlx_value(_mm512_add_ps(c->n, _mm512_set1_ps(16)), _mm512_set1_ps(scale),
                                  _mm512_set1_ps(bias), round, c);
    for (size_t i = 0; i < group_elems; i += 32, p += 20, out += 32) {
        const __m512i q = cut16(lb_load16(p), &a), r = cut16(lb_load16(p + 4), &b);
        _mm512_storeu_ps(out, _mm512_permutex2var_ps(v, q, w));
        _mm512_storeu_ps(out + 16, _mm512_permutex2var_ps(v, r, w));
    }
}
LB_MLX_DECODE(5, put_q5)

static inline __m512i q6_low(__m512i q) {
    return _mm512_and_si512(q, _mm512_set1_epi32(63));
}

/* Groups with finite scale and bias. */
static inline void put_q6(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const __m512 s = _mm512_set1_ps(scale), b = _mm512_set1_ps(bias);
    const cut x = cut_of(6, 0), y = cut_of(6, 4);
    for (size_t i = 0; i < group_elems; i += 32, p += 24, out += 32) {
        const __m512i q = q6_low(cut16(lb_load16(p), &x));
        const __m512i r = q6_low(cut16(lb_load16(p + 8), &y));
        _mm512_storeu_ps(out, lb_mlx_value(_mm512_cvtepi32_ps(q), s, b, round, c));
        _mm512_storeu_ps(out + 16, lb_mlx_value(_mm512_cvtepi32_ps(r), s, b, round, c));
    }
}

static inline void put_q8(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const __m512 s = _mm512_set1_ps(scale), b = _mm512_set1_ps(bias);
    for (size_t i = 0; i < group_elems; i += 16)
        _mm512_storeu_ps(out + i,
                         lb_mlx_value(_mm512_cvtepi32_ps(lb_dwords16(p + i)), s, b, round, c));
}

LB_MLX_DECODE(6, put_q6)
LB_MLX_DECODE(8, put_q8)

/* ---- floating codes ---- */

/* The sixteen values times the scale, looked up. */
static void decode_fp4(size_t n_groups, size_t group_elems, float *out, const void *codes,
                       const float *scale) {
    const u8 *p = codes;
    const __m512 e2m1 =
        _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
    const u32 halves = group_elems == 32; /* sixteen elements a step, of groups of 16 or 32 */
    for (size_t i = 0; i < n_groups << halves; i++, p += 8, out += 16) {
        const __m512 v = lb_mlx_canon(_mm512_mul_ps(e2m1, _mm512_set1_ps(scale[i >> halves])));
        _mm512_storeu_ps(out, _mm512_permutexvar_ps(lb_nibbles16(p), v));
    }
}

static void decode_fp8(size_t n_groups, size_t group_elems, float *out, const void *codes,
                       const float *scale) {
    const u8 *p = codes;
    const u32 halves = group_elems == 32;
    const size_t n = n_groups << halves;
    __m512 a, b;
    size_t i = 0;
    for (; i + 2 <= n; i += 2, p += 32, out += 32) {
        lb_e4m3_32(lb_load32(p), &a, &b);
        a = _mm512_mul_ps(a, _mm512_set1_ps(scale[i >> halves]));
        b = _mm512_mul_ps(b, _mm512_set1_ps(scale[(i + 1) >> halves]));
        _mm512_storeu_ps(out, lb_mlx_canon(a));
        _mm512_storeu_ps(out + 16, lb_mlx_canon(b));
    }
    if (i < n) {
        lb_e4m3_32(_mm256_castsi128_si256(lb_load16(p)), &a, &b);
        _mm512_storeu_ps(out, lb_mlx_canon(_mm512_mul_ps(a, _mm512_set1_ps(scale[i >> halves]))));
    }
}

void lb_kinit_mlx_avx512(lb_kernels *k) {
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
