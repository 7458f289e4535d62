/* SPDX-License-Identifier: Apache-2.0 */
/* q8_iq_tmpl.h: codes of IQ-quants, two units a block; part of q8_codes_tmpl.h. Layouts:
 * blocks_k.h. Points are plain loads, a register's worth at once; signs of a block are made bytes
 * of eight, of which a register's become masks. */
#ifndef LB_KERNEL_Q8_IQ_TMPL_H
#define LB_KERNEL_Q8_IQ_TMPL_H

#include "kernel/q8_unit_vec.h"

#define OFF 64u /* of signed magnitudes up to 62 */

/* ---- points ---- */

/* Points of 8 values: the k-th of register i of the unit is number POINT8(u, i, k) of its block. */
#define POINT8(u, i, k) \
    (4 * (4 * ((u) % 2) + GROUP(i) + (size_t)(k) / 2) + 2 * HALF(i) + (size_t)(k) % 2)
/* Points of 4 values. */
#define POINT4(u, i, k) \
    (8 * (4 * ((u) % 2) + GROUP(i) + (size_t)(k) / 4) + 4 * HALF(i) + (size_t)(k) % 4)

/* Where the j-th point of a block stands in its table. */
typedef u32(place_fn)(const u8 *block, const size_t j);

INLINE vec points8(const u64 *t, place_fn *at, const u8 *b, const size_t u, const size_t i) {
#define P(k) t[at(b, POINT8(u, i, k))]
#if LANES_16 == 4
    return (vec)(vec64){P(0), P(1), P(2), P(3), P(4), P(5), P(6), P(7)};
#elif LANES_16 == 2
    return (vec)(vec64){P(0), P(1), P(2), P(3)};
#else
    return (vec)(vec64){P(0), P(1)};
#endif
#undef P
}

INLINE vec points4(const u32 *t, place_fn *at, const u8 *b, const size_t u, const size_t i) {
    typedef u32 vec32 __attribute__((vector_size(sizeof(vec))));
#define P(k) t[at(b, POINT4(u, i, k))]
#if LANES_16 == 4
    return (vec)(vec32){P(0), P(1), P(2),  P(3),  P(4),  P(5),  P(6),  P(7),
                        P(8), P(9), P(10), P(11), P(12), P(13), P(14), P(15)};
#elif LANES_16 == 2
    return (vec)(vec32){P(0), P(1), P(2), P(3), P(4), P(5), P(6), P(7)};
#else
    return (vec)(vec32){P(0), P(1), P(2), P(3)};
#endif
#undef P
}

/* ---- signs ---- */

/* Seven signs in each byte, bit 7 zero: it becomes their parity (lb_iq_signs). */
INLINE v32 with_parity(v32 s) {
    static const u8 odd[16] = {0, 128, 128, 0, 128, 0, 0, 128, 128, 0, 0, 128, 0, 128, 128, 0};
    return s | pick(odd, (s ^ right(s, 4, 15)) & all(15));
}

/* Of eight numbers of four times seven signs. */
INLINE v32 signs7(i32x8 aux) {
    return with_parity((v32)((aux & 0x7f) | ((aux << 1) & 0x7f00) | ((aux << 2) & 0x7f0000) |
                             ((aux << 3) & 0x7f000000)));
}

/* Magnitudes with the signs of a block, a byte for eight, + OFF. */
INLINE vec with_signs(vec x, v32 signs, const size_t u, const size_t i) {
#if LANES_16 == 4
    typedef u64 u64x4 __attribute__((vector_size(32)));
    const __m256i by_half = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    const u64 minus = ((u64x4)_mm256_shuffle_epi8((__m256i)signs, by_half))[2 * (u % 2) + i];
    const __m512i off = (__m512i)every(OFF);
    return (vec)_mm512_mask_sub_epi8((__m512i)(x + every(OFF)), minus, off, (__m512i)x);
#else
    const u64 h = 2 * HALF(i);
    const vec at =
        twice((0 + h) * ONES, (4 + h) * ONES, (8 + h) * ONES, (12 + h) * ONES, GROUP(i)) +
        low_high(0, ONES);
    const vec bit = low_high(0x8040201008040201u, 0x8040201008040201u);
#if LANES_16 == 2
    const vec of = (vec)(u % 2 ? _mm256_permute4x64_epi64((__m256i)signs, 0xee)
                               : _mm256_permute4x64_epi64((__m256i)signs, 0x44));
#else
    v16 of;
    memcpy(&of, (const u8 *)&signs + 16 * (u % 2), sizeof of);
#endif
    const vec minus = (vec)((shuffle(of, at) & bit) == bit);
    return (x ^ minus) - minus + every(OFF);
#endif
}

/* ---- the types ---- */

/* 2 sc + 1 of 8 bytes of two nibbles, low first. */
INLINE void scales_nibbles(float *s, const u8 *p, float d) {
    const v8 x = get8(p), lo = (x & 15) * 2 + 1, hi = (x >> 4) * 2 + 1;
    put_scales(s, __builtin_shufflevector(lo, hi, 0, 8, 1, 9, 2, 10, 3, 11), 0, d);
    put_scales(s + 8, __builtin_shufflevector(lo, hi, 4, 12, 5, 13, 6, 14, 7, 15), 0, d);
}

INLINE u32 place_iq2_xxs(const u8 *p, const size_t j) {
    return ((const lb_block_iq2_xxs *)(const void *)p)->qs[8 * (j / 4) + j % 4];
}
INLINE i32x8 aux_iq2_xxs(const lb_block_iq2_xxs *b) {
    i32x8 x, y;
    memcpy(&x, b->qs, sizeof x), memcpy(&y, b->qs + 32, sizeof y);
    return __builtin_shufflevector(x, y, 1, 3, 5, 7, 9, 11, 13, 15);
}
INLINE vec unit_iq2_xxs(const u8 *p, const size_t u, const size_t i) {
    const lb_block_iq2_xxs *b = (const lb_block_iq2_xxs *)(const void *)p + u / 2;
    return with_signs(points8(lb_iq2xxs_grid, place_iq2_xxs, (const u8 *)b, u, i),
                      signs7(aux_iq2_xxs(b)), u, i);
}
INLINE void scales_iq2_xxs(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_iq2_xxs *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++)
        put_times(s + 8 * n, ((aux_iq2_xxs(b) >> 28) & 15) * 2 + 1, f16_at(b->d) * 0.125f);
}

INLINE u32 place_iq2_xs(const u8 *p, const size_t j) {
    return lb_load_u16(((const lb_block_iq2_xs *)(const void *)p)->qs + 2 * j) & 511;
}
INLINE vec unit_iq2_xs(const u8 *p, const size_t u, const size_t i) {
    const lb_block_iq2_xs *b = (const lb_block_iq2_xs *)(const void *)p + u / 2;
    const v32 x = (v32)((v32w)get32(b->qs) >> 9), y = (v32)((v32w)get32(b->qs + 32) >> 9);
    const v32 signs =
        __builtin_shufflevector(x, y, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32,
                                34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62);
    return with_signs(points8(lb_iq2xs_grid, place_iq2_xs, (const u8 *)b, u, i), with_parity(signs),
                      u, i);
}
INLINE void scales_iq2_xs(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_iq2_xs *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++)
        scales_nibbles(s + 16 * n, b->scales, f16_at(b->d) * 0.125f);
}

INLINE u32 place_iq2_s(const u8 *p, const size_t j) {
    const lb_block_iq2_s *b = (const void *)p;
    return b->qs[j] | ((u32)b->qh[j / 4] >> (j % 4 * 2) & 3) << 8;
}
INLINE vec unit_iq2_s(const u8 *p, const size_t u, const size_t i) {
    const lb_block_iq2_s *b = (const lb_block_iq2_s *)(const void *)p + u / 2;
    return with_signs(points8(lb_iq2s_grid, place_iq2_s, (const u8 *)b, u, i), get32(b->signs), u,
                      i);
}
INLINE void scales_iq2_s(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_iq2_s *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++)
        scales_nibbles(s + 16 * n, b->scales, f16_at(b->d) * 0.125f);
}

INLINE u32 place_iq3_xxs(const u8 *p, const size_t j) {
    return ((const lb_block_iq3_xxs *)(const void *)p)->qs[j];
}
INLINE i32x8 aux_iq3_xxs(const lb_block_iq3_xxs *b) {
    return (i32x8)get32(b->aux);
}
INLINE vec unit_iq3_xxs(const u8 *p, const size_t u, const size_t i) {
    const lb_block_iq3_xxs *b = (const lb_block_iq3_xxs *)(const void *)p + u / 2;
    return with_signs(points4(lb_iq3xxs_grid, place_iq3_xxs, (const u8 *)b, u, i),
                      signs7(aux_iq3_xxs(b)), u, i);
}
INLINE void scales_iq3_xxs(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_iq3_xxs *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++)
        put_times(s + 8 * n, ((aux_iq3_xxs(b) >> 28) & 15) * 2 + 1, f16_at(b->d) * 0.25f);
}

INLINE u32 place_iq3_s(const u8 *p, const size_t j) {
    const lb_block_iq3_s *b = (const void *)p;
    return b->qs[j] | ((u32)b->qh[j / 8] >> j % 8 & 1) << 8;
}
INLINE vec unit_iq3_s(const u8 *p, const size_t u, const size_t i) {
    const lb_block_iq3_s *b = (const lb_block_iq3_s *)(const void *)p + u / 2;
    return with_signs(points4(lb_iq3s_grid, place_iq3_s, (const u8 *)b, u, i), get32(b->signs), u,
                      i);
}
INLINE void scales_iq3_s(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_iq3_s *b = (const void *)p;
    const i32x8 by = {0, 4, 8, 12, 16, 20, 24, 28};
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++) {
        const i32x8 x = (i32)lb_load_u32(b->scales) - (i32x8){0};
        put_times(s + 8 * n, ((x >> by) & 15) * 2 + 1, f16_at(b->d));
    }
}

/* 8 (-1, 0, 1) +- 1 in eighths, + OFF; minus: ff where it is - 1. */
INLINE vec ternary(vec point, vec minus) {
    return (point << 3) + (minus & every(0xfe)) + every(OFF + 1);
}

INLINE u32 place_iq1_s(const u8 *p, const size_t j) {
    const lb_block_iq1_s *b = (const void *)p;
    return b->qs[j] | ((u32)lb_load_u16(b->qh + j / 4 * 2) >> 3 * (j % 4) & 7) << 8;
}
INLINE vec unit_iq1_s(const u8 *p, const size_t u, const size_t i) {
    typedef i16 words __attribute__((vector_size(sizeof(vec))));
    const lb_block_iq1_s *b = (const lb_block_iq1_s *)(const void *)p + u / 2;
    const u64 pair = 0x0100010001000100u, two = 2 * ONES;
    const vec at = twice(pair, pair + two, pair + 2 * two, pair + 3 * two, GROUP(i));
    const vec minus = (vec)((words)shuffle(same(b->qh), at + every((u8)(8 * (u % 2)))) >> 15);
    return ternary(points8(lb_iq1s_grid, place_iq1_s, (const u8 *)b, u, i), minus);
}
INLINE void scales_iq1_s(float *s, float *m, const u8 *p, const size_t n_units) {
    typedef u16 u16x8 __attribute__((vector_size(16)));
    const lb_block_iq1_s *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++) {
        const u16x8 x = (u16x8)load16(b->qh) >> 12 & 7;
        put_times(s + 8 * n, __builtin_convertvector(x, i32x8) * 2 + 1, f16_at(b->d) * 0.125f);
    }
}

INLINE u32 place_iq1_m(const u8 *p, const size_t j) {
    const lb_block_iq1_m *b = (const void *)p;
    return b->qs[j] | ((u32)b->qh[j / 2] >> 4 * (j % 2) & 7) << 8;
}
INLINE vec unit_iq1_m(const u8 *p, const size_t u, const size_t i) {
    const lb_block_iq1_m *b = (const lb_block_iq1_m *)(const void *)p + u / 2;
    const vec at =
        twice(0, 2 * ONES, 4 * ONES, 6 * ONES, GROUP(i)) + every((u8)(8 * (u % 2) + HALF(i)));
    const vec bit = low_high(8 * ONES, 128 * ONES);
    const vec minus = (vec)((shuffle(same(b->qh), at) & bit) == bit);
    return ternary(points8(lb_iq1s_grid, place_iq1_m, (const u8 *)b, u, i), minus);
}
INLINE void scales_iq1_m(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_iq1_m *b = (const void *)p;
    const i32x8 by = {0, 3, 6, 9, 0, 3, 6, 9};
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++) {
        u8 h[2];
        lb_store_u16(h, lb_iq1m_d(b->scales));
        const float d = f16_at(h) * 0.125f;
        for (size_t j = 0; j < 2; j++) {
            const i32 x = lb_load_u16(b->scales + 4 * j), y = lb_load_u16(b->scales + 4 * j + 2);
            const i32x8 both = {x, x, x, x, y, y, y, y};
            put_times(s + 16 * n + 8 * j, ((both >> by) & 7) * 2 + 1, d);
        }
    }
}

#endif
