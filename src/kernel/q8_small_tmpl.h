/* SPDX-License-Identifier: Apache-2.0 */
/* q8_small_tmpl.h: codes of blocks of 32 to 256 elements with one scale; part of q8_codes_tmpl.h.
 * Layouts: legacy_ref.c. */
#ifndef LB_KERNEL_Q8_SMALL_TMPL_H
#define LB_KERNEL_Q8_SMALL_TMPL_H

#include "kernel/q8_unit_vec.h"

/* ---- blocks of 32: four of them are a unit ---- */

INLINE vec unit_q4_0(const u8 *p, const size_t u, const size_t i) {
    return nibbles_of(p + 18 * 4 * u + 2, 18, i);
}
INLINE void scales_q4_0(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    put_f16s(s, 4 * n_units, p, 18);
}

INLINE vec unit_q4_1(const u8 *p, const size_t u, const size_t i) {
    return nibbles_of(p + 20 * 4 * u + 4, 20, i);
}
INLINE void scales_q4_1(float *s, float *m, const u8 *p, const size_t n_units) {
    put_f16s(s, 4 * n_units, p, 20);
    put_f16s(m, 4 * n_units, p + 2, 20);
}

INLINE vec unit_q5_0(const u8 *p, const size_t u, const size_t i) {
    const u8 *b = p + 22 * 4 * u;
    return nibbles_of(b + 6, 22, i) | bits_of(b + 2, 22, 16, i);
}
INLINE void scales_q5_0(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    put_f16s(s, 4 * n_units, p, 22);
}

INLINE vec unit_q5_1(const u8 *p, const size_t u, const size_t i) {
    const u8 *b = p + 24 * 4 * u;
    return nibbles_of(b + 8, 24, i) | bits_of(b + 4, 24, 16, i);
}
INLINE void scales_q5_1(float *s, float *m, const u8 *p, const size_t n_units) {
    put_f16s(s, 4 * n_units, p, 24);
    put_f16s(m, 4 * n_units, p + 2, 24);
}

INLINE vec unit_q8_0(const u8 *p, const size_t u, const size_t i) {
    return each(p + 34 * 4 * u + 2 + 16 * HALF(i), 34, GROUP(i)) ^ every(128);
}
INLINE void scales_q8_0(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    put_f16s(s, 4 * n_units, p, 34);
}

INLINE vec unit_q8_1(const u8 *p, const size_t u, const size_t i) {
    return each(p + 36 * 4 * u + 4 + 16 * HALF(i), 36, GROUP(i)) ^ every(128);
}
INLINE void scales_q8_1(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    put_f16s(s, 4 * n_units, p, 36);
}

/* lb_iq4_values + 128 */
static const u8 iq4_codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                 129, 141, 153, 166, 181, 197, 217, 241};

INLINE vec unit_iq4_nl(const u8 *p, const size_t u, const size_t i) {
    return pick_each(iq4_codes, unit_q4_0(p, u, i));
}
INLINE void scales_iq4_nl(float *s, float *m, const u8 *p, const size_t n_units) {
    scales_q4_0(s, m, p, n_units);
}

/* Doubled E2M1 + 16. */
static const u8 fp4_codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

INLINE vec unit_mxfp4(const u8 *p, const size_t u, const size_t i) {
    return pick_each(fp4_codes, nibbles_of(p + 17 * 4 * u + 1, 17, i));
}
INLINE void scales_mxfp4(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    for (size_t g = 0; g < 4 * n_units; g++, p += 17)
        s[g] = lb_f32_from_bits(p[0] < 2 ? 0x200000u << p[0] : (u32)(p[0] - 1) << 23);
}

INLINE vec unit_tq2_0(const u8 *p, const size_t u, const size_t i) {
    const vec x = same(p + 66 * (u / 2) + 32 * (u % 2) + 16 * HALF(i));
    return down(x, 0, 2, 4, 6, GROUP(i)) & every(3);
}
INLINE void scales_tq2_0(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    for (size_t n = 0; n < n_units / 2; n++)
        put_same(s + 8 * n, 8, f16_at(p + 66 * n + 64));
}

/* MLX: codes in the order of the elements. */
INLINE vec unit_mlx_q4(const u8 *p, const size_t u, const size_t i) {
    const vec x = each(p + 64 * u, 16, GROUP(i));
    return zip(x & every(15), down(x, 4, 4, 4, 4, 0) & every(15), HALF(i));
}
INLINE vec unit_mlx_q8(const u8 *p, const size_t u, const size_t i) {
    return each(p + 128 * u + 16 * HALF(i), 32, GROUP(i));
}

/* MLX: both fp4 modes. */
INLINE vec unit_mlx_fp4(const u8 *p, const size_t u, const size_t i) {
    return pick_each(fp4_codes, unit_mlx_q4(p, u, i));
}

/* Eight bytes are 16 codes: their low nibbles, then the high ones. */
INLINE vec unit_nvfp4(const u8 *p, const size_t u, const size_t i) {
    const u64 half = 0x0706050403020100u + 8 * HALF(i) * ONES;
    p += 72 * u + 4;
    const u8 *const at[4] = {p, p + 16, p + 36, p + 52};
    const vec64 x = (vec64)shuffle(lanes(at, GROUP(i)), low_high(half, half));
    return pick_each(fp4_codes, (vec)(x >> (vec64)low_high(0, 4)) & every(15));
}
/* UE4M3, halved, 0x7f is 0; the sign is not looked at. */
INLINE void scales_nvfp4(float *s, float *m, const u8 *p, const size_t n_units) {
    (void)m;
    for (size_t n = 0; n < n_units; n++) {
        const i32x8 x =
            wide8((v8)(lb_load_u32(p + 72 * n) | (u64)lb_load_u32(p + 72 * n + 36) << 32));
        const f32x8 y = (f32x8)((x & 127) << 20) * 0x1p119f;
        const i32x8 z = (i32x8)y & (i32x8)(x != 127);
        memcpy(s + 8 * n, &z, sizeof z);
    }
}

#endif
