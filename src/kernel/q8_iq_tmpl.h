/* SPDX-License-Identifier: Apache-2.0 */
/* q8_iq_tmpl.h: codes of IQ-quants; part of q8_codes_tmpl.h. Layouts: blocks_k.h. */
#ifndef LB_KERNEL_Q8_IQ_TMPL_H
#define LB_KERNEL_Q8_IQ_TMPL_H

#include "kernel/q8_vec.h"

#define OFF 64u /* of signed magnitudes up to 62 */

/* Bytes of ff where the bit of the byte is set. */
INLINE u64 spread8(u32 bits) {
    const u64 one = (bits * 0x0101010101010101u & 0x8040201008040201u);
    return (((one + 0x7f7f7f7f7f7f7f7fu) | one) >> 7 & 0x0101010101010101u) * 255u;
}

/* 8 magnitudes with their signs + OFF: no byte carries into the next. */
INLINE void signed8(u8 *q, u64 point, u32 signs) {
    const u64 neg = spread8(signs);
    const u64 plus = point & ~neg, minus = point & neg;
    lb_store_u64(q, OFF * 0x0101010101010101u + plus - minus);
}

INLINE void block_iq2_xxs(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_iq2_xxs *b = (const void *)p;
    const float d = f16_at(b->d);
    (void)m;
    for (size_t g = 0; g < 8; g++) {
        const u8 *x = b->qs + 8 * g;
        const u32 aux = lb_load_u32(x + 4);
        s[g] = lb_canon_f32(d * (0.5f + (float)(aux >> 28)) * 0.25f);
        for (u32 l = 0; l < 4; l++)
            signed8(q + lb_q8_at(32 * g + 8 * l), lb_iq2xxs_grid[x[l]],
                    lb_iq_signs[aux >> 7 * l & 127]);
    }
}

INLINE void scales_iq2(float *s, const u8 *scales, float d) {
    for (size_t g = 0; g < 8; g++) {
        s[2 * g] = lb_canon_f32(d * (0.5f + (float)(scales[g] & 15)) * 0.25f);
        s[2 * g + 1] = lb_canon_f32(d * (0.5f + (float)(scales[g] >> 4)) * 0.25f);
    }
}

INLINE void block_iq2_xs(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_iq2_xs *b = (const void *)p;
    (void)m;
    scales_iq2(s, b->scales, f16_at(b->d));
    for (size_t j = 0; j < 32; j++) {
        const u32 x = lb_load_u16(b->qs + 2 * j);
        signed8(q + lb_q8_at(8 * j), lb_iq2xs_grid[x & 511], lb_iq_signs[x >> 9]);
    }
}

INLINE void block_iq2_s(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_iq2_s *b = (const void *)p;
    (void)m;
    scales_iq2(s, b->scales, f16_at(b->d));
    for (size_t j = 0; j < 32; j++) {
        const u32 x = b->qs[j] | ((u32)b->qh[j / 4] >> (j % 4 * 2) & 3) << 8;
        signed8(q + lb_q8_at(8 * j), lb_iq2s_grid[x], b->signs[j]);
    }
}

INLINE void block_iq3_xxs(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_iq3_xxs *b = (const void *)p;
    const float d = f16_at(b->d);
    (void)m;
    for (size_t g = 0; g < 8; g++) {
        const u32 aux = lb_load_u32(b->aux + 4 * g);
        s[g] = lb_canon_f32(d * (0.5f + (float)(aux >> 28)) * 0.5f);
        for (u32 l = 0; l < 4; l++) {
            const u8 *x = b->qs + 8 * g + 2 * l;
            signed8(q + lb_q8_at(32 * g + 8 * l),
                    (u64)lb_iq3xxs_grid[x[1]] << 32 | lb_iq3xxs_grid[x[0]],
                    lb_iq_signs[aux >> 7 * l & 127]);
        }
    }
}

INLINE void block_iq3_s(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_iq3_s *b = (const void *)p;
    const float d = f16_at(b->d);
    (void)m;
    for (size_t g = 0; g < 8; g++) {
        const u32 sc = b->scales[g / 2] >> (g % 2 * 4) & 15, high = b->qh[g];
        s[g] = lb_canon_f32(d * (float)(1 + 2 * sc));
        for (u32 l = 0; l < 4; l++) {
            const u8 *x = b->qs + 8 * g + 2 * l;
            const u64 lo = lb_iq3s_grid[x[0] | (high >> 2 * l & 1) << 8];
            const u64 hi = lb_iq3s_grid[x[1] | (high >> (2 * l + 1) & 1) << 8];
            signed8(q + lb_q8_at(32 * g + 8 * l), hi << 32 | lo, b->signs[4 * g + l]);
        }
    }
}

/* 8 (-1, 0, 1) +- 1 in eighths, + OFF. */
INLINE void ternary8(u8 *q, u64 point, bool minus) {
    const u64 ones = 0x0101010101010101u, plus = point & ones, neg = point >> 7 & ones;
    const u64 base = (minus ? OFF - 1 : OFF + 1) * ones; /* -1 is ff: its lowest bit is set too */
    lb_store_u64(q, base + ((plus & ~neg) << 3) - (neg << 3));
}

INLINE void block_iq1_s(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_iq1_s *b = (const void *)p;
    const float d = f16_at(b->d);
    (void)m;
    for (size_t g = 0; g < 8; g++) {
        const u32 high = lb_load_u16(b->qh + 2 * g);
        s[g] = lb_canon_f32(d * (float)(2 * (high >> 12 & 7) + 1) * 0.125f);
        for (u32 l = 0; l < 4; l++)
            ternary8(q + lb_q8_at(32 * g + 8 * l),
                     lb_iq1s_grid[b->qs[4 * g + l] | (high >> 3 * l & 7) << 8], high & 0x8000);
    }
}

INLINE void block_iq1_m(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_iq1_m *b = (const void *)p;
    u8 h[2];
    lb_store_u16(h, lb_iq1m_d(b->scales));
    const float d = f16_at(h);
    (void)m;
    for (size_t g = 0; g < 16; g++) {
        const u32 sc = (u32)lb_load_u16(b->scales + g / 4 * 2) >> (g % 4 * 3) & 7;
        s[g] = lb_canon_f32(d * (float)(2 * sc + 1) * 0.125f);
        for (u32 l = 0; l < 2; l++) {
            const u32 high = (u32)b->qh[g] >> 4 * l;
            ternary8(q + lb_q8_at(16 * g + 8 * l), lb_iq1s_grid[b->qs[2 * g + l] | (high & 7) << 8],
                     high & 8);
        }
    }
}

#endif
