/* SPDX-License-Identifier: Apache-2.0 */
/* q8_bits_tmpl.h: codes of one to six bits in the order of their elements (MLX, q1_0, q2_0) and
 * trits; part of q8_codes_tmpl.h. Two codes of b bits lie in two bytes: a shuffle makes these a
 * word, products and shifts put the codes into its bytes. Layouts of blocks: legacy_ref.c. */
#ifndef LB_KERNEL_Q8_BITS_TMPL_H
#define LB_KERNEL_Q8_BITS_TMPL_H

#include "kernel/q8_unit_vec.h"

/* Where four pairs of codes have their words, 16 bytes from `first` on; of the low or the high
 * eight codes. */
INLINE u64 words_at(const u64 b, const u64 first, const u64 high) {
    u64 x = 0;
    UNROLL for (u64 j = 0; j < 4; j++) {
        const u64 at = first + 2 * b * (4 * high + j) / 8;
        x |= (at | LB_MIN(at + 1, (u64)15) << 8) << 16 * j;
    }
    return x;
}

/* What moves the codes of four words to their tops: powers of two. */
INLINE u64 to_top(const u64 b, const u64 high) {
    u64 x = 0;
    UNROLL for (u64 j = 0; j < 4; j++) x |= (u64)1
                                            << (16 - 2 * b - 2 * b * (4 * high + j) % 8 + 16 * j);
    return x;
}

/* 16 codes of each group; x has their bytes from the f of the group on. */
INLINE vec codes_in(vec x, const u64 b, const u64 f0, const u64 f1, const u64 f2, const u64 f3,
                    const size_t g) {
    const u16 mask = (u16)((1u << b) - 1);
    const u64 at[8] = {words_at(b, f0, 0), words_at(b, f0, 1), words_at(b, f1, 0),
                       words_at(b, f1, 1), words_at(b, f2, 0), words_at(b, f2, 1),
                       words_at(b, f3, 0), words_at(b, f3, 1)};
    const vec16 top =
        (vec16)shuffle(x, lanes64(at, g)) * (vec16)low_high(to_top(b, 0), to_top(b, 1));
    const vec16 t = top >> (16 - 2 * b);
    return (vec)((t & mask) | ((t << (8 - b)) & (u16)(mask << 8)));
}

/* MLX. Sixteen bytes are read from where a half begins, of the last two groups up to where it
 * ends: none outside of the unit. */
INLINE vec unit_mlx(const u8 *p, const size_t b, const size_t u, const size_t i) {
    const u8 *h = p + 16 * b * u + 2 * b * HALF(i);
    const size_t back = 16 - 2 * b;
    const u8 *const at[4] = {h, h + 4 * b, h + 8 * b - back, h + 12 * b - back};
    return codes_in(lanes(at, GROUP(i)), b, 0, 0, back, back, GROUP(i));
}
INLINE vec unit_mlx_q1(const u8 *p, const size_t u, const size_t i) {
    return bits_of(p + 16 * u, 4, 1, i);
}
INLINE vec unit_mlx_q2(const u8 *p, const size_t u, const size_t i) {
    return unit_mlx(p, 2, u, i);
}
INLINE vec unit_mlx_q3(const u8 *p, const size_t u, const size_t i) {
    return unit_mlx(p, 3, u, i);
}
INLINE vec unit_mlx_q5(const u8 *p, const size_t u, const size_t i) {
    return unit_mlx(p, 5, u, i);
}
INLINE vec unit_mlx_q6(const u8 *p, const size_t u, const size_t i) {
    return unit_mlx(p, 6, u, i);
}

INLINE vec unit_q1_0(const u8 *p, const size_t u, const size_t i) {
    return bits_of(p + 18 * u + 2, 4, 2, i);
}
INLINE void scales_q1_0(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    for (size_t n = 0; n < n_units; n++)
        put_same(s + 4 * n, 4, f16_at(p + 18 * n));
}

INLINE vec unit_q2_0(const u8 *p, const size_t u, const size_t i) {
    const u64 h = 4 * HALF(i);
    return codes_in(by_two(p + 36 * u + 2, 18, GROUP(i)), 2, h, h + 8, h, h + 8, GROUP(i));
}
INLINE void scales_q2_0(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    for (size_t n = 0; n < 2 * n_units; n++)
        put_same(s + 2 * n, 2, f16_at(p + 18 * n));
}

/* Bytes that are a fraction of 256 times a power of three: the next digit. Products of bytes are
 * those of words, of which the upper byte's has the word's upper byte alone. */
INLINE vec trits(vec x, vec16 pow3) {
    const vec16 w = (vec16)x, low = 255 - (vec16){0};
    const vec q = (vec)(((w * pow3) & low) | ((w & ~low) * pow3));
    return ((vec)(q >= 86) & every(1)) + ((vec)(q >= 171) & every(1));
}

INLINE vec unit_tq1_0(const u8 *p, const size_t u, const size_t i) {
#define P3(n) ((n) * (u64)0x0001000100010001u)
    const size_t g = GROUP(i);
    p += 54 * (u / 2);
    if (u % 2 == 0)
        return trits(same(p + 16 * HALF(i)), (vec16)twice(P3(1), P3(3), P3(9), P3(27), g));
    /* Of the first 32 bytes the last digit, of 16 all, of four all but the last. */
    const u8 *const at[4] = {p + 16 * HALF(i), p + 32, p + 32, HALF(i) ? p + 36 : p + 32};
    const vec x = lanes(at, g);
    if (HALF(i) == 0)
        return trits(x, (vec16)twice(P3(81), P3(1), P3(9), P3(81), g));
    const u64 last4 = 0x0f0e0d0c0f0e0d0cu, lo = 0x0706050403020100u, hi = lo + 8 * ONES;
    const u64 one = 0x0003000300010001u, two = 0x001b001b00090009u;
    const u64 places[8] = {lo, hi, lo, hi, lo, hi, last4, last4};
    const u64 pow3[8] = {P3(81), P3(81), P3(3), P3(3), P3(27), P3(27), one, two};
    return trits(shuffle(x, lanes64(places, g)), (vec16)lanes64(pow3, g));
#undef P3
}
INLINE void scales_tq1_0(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++)
        put_same(s + 8 * n, 8, f16_at(p + 54 * n + 52));
}

#endif
