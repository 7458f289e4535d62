/* SPDX-License-Identifier: Apache-2.0 */
/* q8_vec.h: vectors of 32 bytes and 8 floats in the compilers' own terms, for q8_codes_tmpl.h. */
#ifndef LB_KERNEL_Q8_VEC_H
#define LB_KERNEL_Q8_VEC_H

#include "kernel/blocks_k.h"
#include "kernel/half.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"
#include "kernel/q8.h"
#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define INLINE __attribute__((always_inline)) static inline
#ifndef UNROLL
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE float f16_at(const u8 *p) {
    const u16 h = lb_load_u16(p);
#if defined(__F16C__)
    return lb_canon_f32(_cvtsh_ss(h));
#else
    return lb_canon_f32(lb_f16_to_f32(h));
#endif
}

/* Vectors are passed between functions that are always inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef u8 v32 __attribute__((vector_size(32)));
typedef u16 v32w __attribute__((vector_size(32)));
typedef u8 v16 __attribute__((vector_size(16)));
typedef u8 v8 __attribute__((vector_size(8)));
typedef i32 i32x8 __attribute__((vector_size(32)));
typedef float f32x8 __attribute__((vector_size(32)));

INLINE v32 get32(const u8 *p) {
    v32 x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* A group of 32 at its place. */
INLINE void put32(u8 *p, v32 x) {
    memcpy(p, &x, 16);
    memcpy(p + 64, (const u8 *)&x + 16, 16);
}

INLINE v32 all(const u8 x) {
    return x - (v32){0};
}

/* x >> n of bytes, then & mask, which takes off what came from the byte above. */
INLINE v32 right(v32 x, const int n, const u8 mask) {
    return (v32)((v32w)x >> n) & all(mask);
}

INLINE v32 left(v32 x, const int n) {
    return (v32)((v32w)x << n);
}

INLINE i32x8 wide8(v8 x) {
#if defined(__AVX2__)
    return (i32x8)_mm256_cvtepu8_epi32(
        (__m128i)__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7));
#else
    return __builtin_convertvector(x, i32x8);
#endif
}

INLINE void put_canon(float *s, f32x8 x) {
    const i32x8 ordered = x == x, nan = (i32)LB_NAN_BITS - (i32x8){0};
    const i32x8 y = ((i32x8)x & ordered) | (nan & ~ordered);
    memcpy(s, &y, sizeof y);
}

/* d times eight numbers. */
INLINE void put_times(float *s, i32x8 x, float d) {
    put_canon(s, __builtin_convertvector(x, f32x8) * d);
}

/* d times eight codes. */
INLINE void put_scales(float *s, v8 codes, const int off, float d) {
    put_times(s, wide8(codes) - off, d);
}

#if defined(__F16C__)
/* u16 so many bytes apart. */
INLINE __m128i eight_u16(const u8 *p, const size_t step) {
    __m128i x = _mm_cvtsi32_si128(lb_load_u16(p));
    x = _mm_insert_epi16(x, (i16)lb_load_u16(p + step), 1);
    x = _mm_insert_epi16(x, (i16)lb_load_u16(p + 2 * step), 2);
    x = _mm_insert_epi16(x, (i16)lb_load_u16(p + 3 * step), 3);
    x = _mm_insert_epi16(x, (i16)lb_load_u16(p + 4 * step), 4);
    x = _mm_insert_epi16(x, (i16)lb_load_u16(p + 5 * step), 5);
    x = _mm_insert_epi16(x, (i16)lb_load_u16(p + 6 * step), 6);
    return _mm_insert_epi16(x, (i16)lb_load_u16(p + 7 * step), 7);
}
#endif

/* f16 so many bytes apart. */
INLINE void put_f16s(float *s, const size_t n, const u8 *p, const size_t step) {
#if defined(__F16C__)
    for (size_t i = 0; i < n; i += 8) /* 8 or 16 */
        put_canon(s + i, (f32x8)_mm256_cvtph_ps(eight_u16(p + i * step, step)));
#else
    for (size_t i = 0; i < n; i++)
        s[i] = f16_at(p + i * step);
#endif
}

INLINE v8 get8(const u8 *p) {
    v8 x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void put_same(float *s, const size_t n, float d) {
    for (size_t j = 0; j < n; j++)
        s[j] = d;
}

/* table[x] of bytes below 16. */
INLINE v32 pick(const u8 table[16], v32 x) {
    v32 y;
#if defined(__AVX2__)
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));
    y = (v32)_mm256_shuffle_epi8(t, (__m256i)x);
#elif defined(__ARM_NEON)
    const uint8x16_t t = vld1q_u8(table);
    u8 b[32];
    memcpy(b, &x, sizeof b);
    vst1q_u8(b, vqtbl1q_u8(t, vld1q_u8(b)));
    vst1q_u8(b + 16, vqtbl1q_u8(t, vld1q_u8(b + 16)));
    memcpy(&y, b, sizeof b);
#else
    for (int j = 0; j < 32; j++)
        y[j] = table[x[j]];
#endif
    return y;
}

/* The low nibbles of 16 bytes, then the high ones. */
INLINE v32 nibbles(const u8 *p) {
    v16 x;
    memcpy(&x, p, sizeof x);
    return __builtin_shufflevector(x & 15, x >> 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                                   15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
                                   31);
}

/* Bytes of `value` where the bit is set. */
INLINE v32 bits32(u32 bits, const u8 value) {
    typedef u64 u64x4 __attribute__((vector_size(32)));
    const u64 ones = 0x0101010101010101u;
    const u64x4 each = {(bits & 255) * ones, (bits >> 8 & 255) * ones, (bits >> 16 & 255) * ones,
                        (bits >> 24) * ones};
    const v32 one = (v32)(0x8040201008040201u - (u64x4){0});
    return (v32)(((v32)each & one) == one) & all(value);
}

#endif
