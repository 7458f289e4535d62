/* SPDX-License-Identifier: Apache-2.0 */
/* q8_k_tmpl.h: codes of K-quants and iq4_xs, two units a block; part of q8_codes_tmpl.h. Layouts:
 * blocks_k.h. */
#ifndef LB_KERNEL_Q8_K_TMPL_H
#define LB_KERNEL_Q8_K_TMPL_H

#include "kernel/q8_small_tmpl.h"

/* x, and bit `first` + group of 16 bytes as bit `to`. */
INLINE vec with_bit(vec x, const u8 *p, const u64 first, const u64 to, const size_t i) {
    return with(x, moved(same(p), first, first + 1, first + 2, first + 3, to, GROUP(i)),
                (u8)(1u << to));
}

/* Pairs of bits of 16 bytes, as q2_k has them. */
INLINE vec twos_of(const u8 *p, const size_t i) {
    return down(same(p), 0, 2, 4, 6, GROUP(i)) & every(3);
}

INLINE v8 bytes8(u64 x) {
    return (v8)x;
}

INLINE vec unit_q2_k(const u8 *p, const size_t u, const size_t i) {
    const lb_block_q2_k *b = (const lb_block_q2_k *)(const void *)p + u / 2;
    return twos_of(b->qs + 32 * (u % 2) + 16 * HALF(i), i);
}
INLINE void scales_q2_k(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_q2_k *b = (const void *)p;
    for (size_t n = 0; n < n_units / 2; n++, b++, s += 16, m += 16) {
        const float d = f16_at(b->d), dmin = f16_at(b->dmin);
        for (size_t j = 0; j < 16; j += 8) {
            const v8 x = get8(b->scales + j);
            put_scales(s + j, x & 15, 0, d);
            put_scales(m + j, x >> 4, 0, -dmin);
        }
    }
}

INLINE vec unit_q3_k(const u8 *p, const size_t u, const size_t i) {
    const lb_block_q3_k *b = (const lb_block_q3_k *)(const void *)p + u / 2;
    return with_bit(twos_of(b->qs + 32 * (u % 2) + 16 * HALF(i), i), b->hmask + 16 * HALF(i),
                    4 * (u % 2), 2, i);
}
INLINE void scales_q3_k(float *s, float *m, const u8 *p, const size_t n_units) {
    const u64 low = 0x0f0f0f0f0f0f0f0fu, high = 0x3030303030303030u;
    const lb_block_q3_k *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++, s += 16) { /* lb_k3_scales */
        const u64 ab = lb_load_u64(b->scales), c = lb_load_u32(b->scales + 8);
        const float d = f16_at(b->d);
        put_scales(s, bytes8((ab & low) | ((c << 4 & 0x30303030u) | (c << 34 & high))), 32, d);
        put_scales(s + 8, bytes8((ab >> 4 & low) | ((c & 0x30303030u) | (c << 30 & high))), 32, d);
    }
}

/* Of q4_k and q5_k. */
INLINE void scales_k4(float *s, float *m, const u8 *p, const size_t bytes, const size_t n_units) {
    for (size_t n = 0; n < n_units / 2; n++, p += bytes, s += 8, m += 8) { /* lb_k4_scales */
        const u64 a = lb_load_u32(p + 4), b = lb_load_u32(p + 8), c = lb_load_u32(p + 12);
        const u64 sc = (a & 0x3f3f3f3fu) | ((c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u)) << 32;
        const u64 mn = (b & 0x3f3f3f3fu) | ((c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u)) << 32;
        put_scales(s, bytes8(sc), 0, f16_at(p));
        put_scales(m, bytes8(mn), 0, -f16_at(p + 2));
    }
}

/* Runs of 32 bytes are two groups. */
INLINE vec run_nibbles(const u8 *qs, const size_t u, const size_t i) {
#if LANES_16 == 4
    const vec x = whole(qs + 64 * (u % 2)), lo = x & every(15),
              hi = down(x, 4, 4, 4, 4, 0) & every(15);
    return (
        vec)(i ? _mm512_mask_shuffle_i32x4((__m512i)hi, 0x0f0f, (__m512i)lo, (__m512i)lo, 0xf5)
               : _mm512_mask_shuffle_i32x4((__m512i)lo, 0xf0f0, (__m512i)hi, (__m512i)hi, 0xa0));
#else
    const vec x = by_two(qs + 64 * (u % 2) + 16 * HALF(i), 32, GROUP(i));
    return down(x, 0, 4, 0, 4, GROUP(i)) & every(15);
#endif
}

INLINE vec unit_q4_k(const u8 *p, const size_t u, const size_t i) {
    const lb_block_q4_k *b = (const lb_block_q4_k *)(const void *)p + u / 2;
    return run_nibbles(b->qs, u, i);
}
INLINE void scales_q4_k(float *s, float *m, const u8 *p, const size_t n_units) {
    scales_k4(s, m, p, sizeof(lb_block_q4_k), n_units);
}

INLINE vec unit_q5_k(const u8 *p, const size_t u, const size_t i) {
    const lb_block_q5_k *b = (const lb_block_q5_k *)(const void *)p + u / 2;
    return with_bit(run_nibbles(b->qs, u, i), b->qh + 16 * HALF(i), 4 * (u % 2), 4, i);
}
INLINE void scales_q5_k(float *s, float *m, const u8 *p, const size_t n_units) {
    scales_k4(s, m, p, sizeof(lb_block_q5_k), n_units);
}

INLINE vec unit_q6_k(const u8 *p, const size_t u, const size_t i) {
    const lb_block_q6_k *b = (const lb_block_q6_k *)(const void *)p + u / 2;
    const u8 *const ql = b->ql + 64 * (u % 2), *const qh = b->qh + 32 * (u % 2);
#if LANES_16 == 4
    const vec x = whole(ql),
              h = whole32(qh); /* 16 bytes of a run and its second half, then the next */
    const vec lo = with(x & every(15), moved(h, 0, 0, 2, 2, 4, 0), 48);
    const vec hi = with(down(x, 4, 4, 4, 4, 0) & every(15), moved(h, 4, 4, 6, 6, 4, 0), 48);
    return (vec)(i ? _mm512_shuffle_i32x4((__m512i)lo, (__m512i)hi, 0xdd)
                   : _mm512_shuffle_i32x4((__m512i)lo, (__m512i)hi, 0x88));
#else
    const vec x = in_turn(ql + 16 * HALF(i), 32, GROUP(i));
    return with(down(x, 0, 0, 4, 4, GROUP(i)) & every(15),
                moved(same(qh + 16 * HALF(i)), 0, 2, 4, 6, 4, GROUP(i)), 48);
#endif
}
INLINE void scales_q6_k(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_q6_k *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++, s += 16) {
        const float d = f16_at(b->d);
        put_scales(s, get8(b->scales) ^ 128, 128, d);
        put_scales(s + 8, get8(b->scales + 8) ^ 128, 128, d);
    }
}

INLINE vec unit_q8_k(const u8 *p, const size_t u, const size_t i) {
    const lb_block_q8_k *b = (const lb_block_q8_k *)(const void *)p + u / 2;
    return each(b->qs + 128 * (u % 2) + 16 * HALF(i), 32, GROUP(i)) ^ every(128);
}
INLINE void scales_q8_k(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++)
        put_same(s + 8 * n, 8, lb_canon_f32(lb_f32_from_bits(lb_load_u32(p + 292 * n))));
}

INLINE vec unit_iq4_xs(const u8 *p, const size_t u, const size_t i) {
    const lb_block_iq4_xs *b = (const lb_block_iq4_xs *)(const void *)p + u / 2;
    return pick_each(iq4_codes, nibbles_of(b->qs + 64 * (u % 2), 16, i));
}
INLINE void scales_iq4_xs(float *s, float *m, const u8 *p, const size_t n_units) {
    const lb_block_iq4_xs *b = (const void *)p;
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++, b++) {
        const float d = f16_at(b->d);
        const u32 high = lb_load_u16(b->scales_h), low = lb_load_u32(b->scales_l);
        u64 sc = 0;
        for (u32 g = 0; g < 8; g++)
            sc |= (u64)((low >> 4 * g & 15) | (high >> 2 * g & 3) << 4) << 8 * g;
        put_scales(s + 8 * n, bytes8(sc), 32, d);
    }
}

#endif
