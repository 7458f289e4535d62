/* SPDX-License-Identifier: Apache-2.0 */
/* q8_unit_vec.h: a unit of 128 columns (q8.h) in registers of the instruction set's width, for the
 * types of q8_small_tmpl.h and q8_k_tmpl.h. */
#ifndef LB_KERNEL_Q8_UNIT_VEC_H
#define LB_KERNEL_Q8_UNIT_VEC_H

#include "kernel/q8_vec.h"

/* A register has LANES_16 times 16 bytes; the i-th of a unit has those of half h and of the groups
 * from g on. What is written for four groups takes those. */
#if defined(__AVX512BW__)
#define LANES_16 4
typedef u8 vec __attribute__((vector_size(64)));
typedef u16 vec16 __attribute__((vector_size(64)));
typedef u64 vec64 __attribute__((vector_size(64)));
#elif defined(__AVX2__)
#define LANES_16 2
typedef v32 vec;
typedef u16 vec16 __attribute__((vector_size(32)));
typedef u64 vec64 __attribute__((vector_size(32)));
#else
#define LANES_16 1
typedef v16 vec;
typedef u16 vec16 __attribute__((vector_size(16)));
typedef u64 vec64 __attribute__((vector_size(16)));
#endif
#define VECS (8 / LANES_16) /* of a unit */
#define HALF(i) ((size_t)(i)*LANES_16 / 4)
#define GROUP(i) ((size_t)(i)*LANES_16 % 4)

INLINE v16 load16(const u8 *p) {
    v16 x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE vec lanes(const u8 *const p[4], const size_t g) {
#if LANES_16 == 4
    __m512i x = _mm512_castsi128_si512((__m128i)load16(p[0]));
    (void)g;
    x = _mm512_inserti32x4(x, (__m128i)load16(p[1]), 1);
    x = _mm512_inserti32x4(x, (__m128i)load16(p[2]), 2);
    return (vec)_mm512_inserti32x4(x, (__m128i)load16(p[3]), 3);
#elif LANES_16 == 2
    return (vec)_mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)load16(p[g])),
                                        (__m128i)load16(p[g + 1]), 1);
#else
    return load16(p[g]);
#endif
}

/* 16 bytes of each group. */
INLINE vec each(const u8 *p, const size_t step, const size_t g) {
    const u8 *const at[4] = {p, p + step, p + 2 * step, p + 3 * step};
    return lanes(at, g);
}

/* The same for all four. */
INLINE vec same(const u8 *p) {
#if LANES_16 == 4
    return (vec)_mm512_broadcast_i32x4((__m128i)load16(p));
#elif LANES_16 == 2
    return (vec)_mm256_broadcastsi128_si256((__m128i)load16(p));
#else
    return load16(p);
#endif
}

#if LANES_16 == 4
/* 64 bytes as they lie; 32, twice. */
INLINE vec whole(const u8 *p) {
    return (vec)_mm512_loadu_si512((const void *)p);
}

INLINE vec whole32(const u8 *p) {
    return (vec)_mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)p));
}
#endif

/* p for groups 0 and 1, p + step for 2 and 3. */
INLINE vec by_two(const u8 *p, const size_t step, const size_t g) {
#if LANES_16 == 4
    (void)g;
    return (vec)_mm512_mask_broadcast_i32x4((__m512i)same(p), 0xff00, (__m128i)load16(p + step));
#else
    return same(p + g / 2 * step);
#endif
}

/* p for groups 0 and 2, p + step for 1 and 3. */
INLINE vec in_turn(const u8 *p, const size_t step, const size_t g) {
#if LANES_16 == 4
    (void)g;
    return (vec)_mm512_mask_broadcast_i32x4((__m512i)same(p), 0xf0f0, (__m128i)load16(p + step));
#else
    const u8 *const at[4] = {p, p + step, p, p + step};
    return lanes(at, g);
#endif
}

INLINE vec every(const u8 x) {
    return x - (vec){0};
}

/* Bytes shifted right by n of their group; what comes from the byte above must be masked off. */
INLINE vec down(vec x, const u64 n0, const u64 n1, const u64 n2, const u64 n3, const size_t g) {
    const u64 n[4] = {n0, n1, n2, n3};
#if LANES_16 == 4
    (void)g;
    const vec64 by = {n[0], n[0], n[1], n[1], n[2], n[2], n[3], n[3]};
#elif LANES_16 == 2
    const vec64 by = {n[g], n[g], n[g + 1], n[g + 1]};
#else
    const vec64 by = {n[g], n[g]};
#endif
    return (vec)((vec64)x >> by);
}

/* The same to the left. */
INLINE vec up(vec x, const u64 n) {
    return (vec)((vec64)x << n);
}

/* Bytes of which a bit of their group, n, goes to the same place; others must be masked off. */
INLINE vec moved(vec x, const u64 n0, const u64 n1, const u64 n2, const u64 n3, const u64 to,
                 const size_t g) {
#if LANES_16 == 4
    const u64 n[4] = {(to - n0) & 63, (to - n1) & 63, (to - n2) & 63, (to - n3) & 63};
    const vec64 by = {n[0], n[0], n[1], n[1], n[2], n[2], n[3], n[3]};
    (void)g;
    return (vec)_mm512_rolv_epi64((__m512i)x, (__m512i)by);
#else
    return up(down(x, n0, n1, n2, n3, g), to);
#endif
}

/* x, and those bits of y. */
INLINE vec with(vec x, vec y, const u8 bits) {
#if LANES_16 == 4
    return (vec)_mm512_ternarylogic_epi64((__m512i)x, (__m512i)y, (__m512i)every(bits), 0xf8);
#else
    return x | (y & every(bits));
#endif
}

/* What each 16 bytes of x have at the places that the same 16 of `at` name, below 16. */
INLINE vec shuffle(vec x, vec at) {
#if LANES_16 == 4
    return (vec)_mm512_shuffle_epi8((__m512i)x, (__m512i)at);
#elif LANES_16 == 2
    return (vec)_mm256_shuffle_epi8((__m256i)x, (__m256i)at);
#elif defined(__ARM_NEON)
    return (vec)vqtbl1q_u8((uint8x16_t)x, (uint8x16_t)at);
#else
    vec y;
    for (int j = 0; j < 16; j++)
        y[j] = x[at[j]];
    return y;
#endif
}

/* table[x] of bytes below 16. */
INLINE vec pick_each(const u8 table[16], vec x) {
    return shuffle(same(table), x);
}

/* Sixteen bytes for each group, x[2 group] and x[2 group + 1]: a constant. */
INLINE vec lanes64(const u64 x[8], const size_t g) {
#if LANES_16 == 4
    (void)g;
    return (vec)(vec64){x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]};
#elif LANES_16 == 2
    return (vec)(vec64){x[2 * g], x[2 * g + 1], x[2 * g + 2], x[2 * g + 3]};
#else
    return (vec)(vec64){x[2 * g], x[2 * g + 1]};
#endif
}

/* Eight bytes twice for each group. */
INLINE vec twice(const u64 x0, const u64 x1, const u64 x2, const u64 x3, const size_t g) {
    return lanes64((const u64[8]){x0, x0, x1, x1, x2, x2, x3, x3}, g);
}

/* The same sixteen bytes for each group. */
INLINE vec low_high(const u64 lo, const u64 hi) {
    return lanes64((const u64[8]){lo, hi, lo, hi, lo, hi, lo, hi}, 0);
}

#define ONES 0x0101010101010101u

/* Bytes of a and b in turn, of their first or second halves. */
INLINE vec zip(vec a, vec b, const size_t half) {
#if LANES_16 == 4
    return (vec)(half ? _mm512_unpackhi_epi8((__m512i)a, (__m512i)b)
                      : _mm512_unpacklo_epi8((__m512i)a, (__m512i)b));
#elif LANES_16 == 2
    return (vec)(half ? _mm256_unpackhi_epi8((__m256i)a, (__m256i)b)
                      : _mm256_unpacklo_epi8((__m256i)a, (__m256i)b));
#else
    const v16 lo =
        __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const v16 hi =
        __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return half ? hi : lo;
#endif
}

/* The low or the high nibbles of 16 bytes of each group. */
INLINE vec nibbles_of(const u8 *p, const size_t step, const size_t i) {
    const vec x = each(p, step, GROUP(i));
    return (HALF(i) ? down(x, 4, 4, 4, 4, 0) : x) & every(15);
}

/* `value` where the group's bit of 32 is set; p: those of the first. */
INLINE vec bits_of(const u8 *p, const size_t step, const u8 value, const size_t i) {
    const u8 *const at = p + 2 * HALF(i) + step * GROUP(i);
#if LANES_16 == 4
    const u64 lo = lb_load_u16(at) | (u32)lb_load_u16(at + step) << 16;
    const u64 hi = lb_load_u16(at + 2 * step) | (u32)lb_load_u16(at + 3 * step) << 16;
    return (vec)_mm512_maskz_mov_epi8(lo | hi << 32, (__m512i)every(value));
#elif LANES_16 == 2
    const u32 x = lb_load_u16(at) | (u32)lb_load_u16(at + step) << 16;
    const __m256i by =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i one = _mm256_set1_epi64x((i64)0x8040201008040201u);
    const __m256i b = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((i32)x), by), one);
    return (vec)_mm256_cmpeq_epi8(b, one) & every(value);
#else
    const u64 ones = 0x0101010101010101u, x = lb_load_u16(at);
    const vec64 b = {(x & 255) * ones, (x >> 8) * ones};
    const vec one = (vec)(0x8040201008040201u - (vec64){0});
    return (vec)(((vec)b & one) == one) & every(value);
#endif
}

/* What a type is made of. p: a chunk. unit: the i-th register of the u-th unit's codes. scales: of
 * the groups of the first 4 or 2 units, s and m as lb_q8_row has them. */
typedef vec(unit_fn)(const u8 *p, const size_t u, const size_t i);
typedef void(scales_fn)(float *s, float *m, const u8 *p, const size_t n_units);

/* A chunk of a stored row: its codes, and its scales as q8_dots_<isa>.h takes them. */
typedef struct packed {
    const u8 *p;
    unit_fn *unit;
    const void *scales;
} packed;

#endif
