/* SPDX-License-Identifier: Apache-2.0 */
/* q8_small_tmpl.h: codes of blocks of 32 to 256 elements with one scale; part of q8_codes_tmpl.h.
 * Layouts: legacy_ref.c. */
#ifndef LB_KERNEL_Q8_SMALL_TMPL_H
#define LB_KERNEL_Q8_SMALL_TMPL_H

#include "kernel/q8_vec.h"

INLINE void block_q4_0(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    *s = f16_at(p);
    put32(q, nibbles(p + 2));
}

INLINE void block_q4_1(u8 *q, float *s, float *m, const u8 *p) {
    *s = f16_at(p);
    *m = f16_at(p + 2);
    put32(q, nibbles(p + 4));
}

INLINE void block_q5_0(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    *s = f16_at(p);
    put32(q, nibbles(p + 6) | bits32(lb_load_u32(p + 2), 16));
}

INLINE void block_q5_1(u8 *q, float *s, float *m, const u8 *p) {
    *s = f16_at(p);
    *m = f16_at(p + 2);
    put32(q, nibbles(p + 8) | bits32(lb_load_u32(p + 4), 16));
}

INLINE void block_q8_0(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    *s = f16_at(p);
    put32(q, get32(p + 2) ^ all(128));
}

INLINE void block_q8_1(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    *s = f16_at(p);
    put32(q, get32(p + 4) ^ all(128));
}

INLINE void block_q1_0(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    put_same(s, 4, f16_at(p));
    for (size_t j = 0; j < 4; j++)
        put32(q + 32 * j, bits32(lb_load_u32(p + 2 + 4 * j), 2));
}

INLINE void block_q2_0(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    s[0] = s[1] = f16_at(p);
    for (size_t j = 0; j < 64; j++)
        q[j] = p[2 + j / 4] >> (2 * (j % 4)) & 3;
}

/* Doubled E2M1 + 16. */
static const u8 fp4_codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

INLINE void block_mxfp4(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    *s = lb_f32_from_bits(p[0] < 2 ? 0x200000u << p[0] : (u32)(p[0] - 1) << 23);
    put32(q, pick(fp4_codes, nibbles(p + 1)));
}

INLINE void block_nvfp4(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    for (size_t g = 0; g < 4; g++) {
        const u32 e = p[g] >> 3 & 15, f = p[g] & 7;
        s[g] = p[g] == 0x7f ? 0
               : e          ? lb_f32_from_bits((e + 127 - 8) << 23 | f << 20)
                            : (float)f * 0x1p-10f;
        for (size_t j = 0; j < 8; j++) {
            q[16 * g + j] = fp4_codes[p[4 + 8 * g + j] & 15];
            q[16 * g + j + 8] = fp4_codes[p[4 + 8 * g + j] >> 4];
        }
    }
}

INLINE void trits(u8 *q, const u8 *p, const size_t n, const u32 pow3) {
    for (size_t j = 0; j < n; j++)
        q[j] = (u8)((u16)((u8)(p[j] * pow3) * 3u) >> 8);
}

INLINE void block_tq1_0(u8 *q, float *s, float *m, const u8 *p) {
    static const u8 pow3[5] = {1, 3, 9, 27, 81};
    (void)m;
    put_same(s, 8, f16_at(p + 52));
    for (size_t n = 0; n < 5; n++) {
        trits(q + 32 * n, p, 32, pow3[n]);
        trits(q + 160 + 16 * n, p + 32, 16, pow3[n]);
    }
    for (size_t n = 0; n < 4; n++)
        trits(q + 240 + 4 * n, p + 48, 4, pow3[n]);
}

/* Codes of two bits, as q2_k has them. */
INLINE void twos(u8 *q, const u8 *p) {
    for (size_t h = 0; h < 2; h++, q += 128) {
        const v32 x = get32(p + 32 * h);
        put32(q, x & all(3));
        put32(q + 32, right(x, 2, 3));
        put32(q + 64, right(x, 4, 3));
        put32(q + 96, right(x, 6, 3));
    }
}

INLINE void block_tq2_0(u8 *q, float *s, float *m, const u8 *p) {
    (void)m;
    put_same(s, 8, f16_at(p + 64));
    twos(q, p);
}

#endif
