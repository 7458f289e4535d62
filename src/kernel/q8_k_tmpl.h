/* SPDX-License-Identifier: Apache-2.0 */
/* q8_k_tmpl.h: codes of K-quants; part of q8_codes_tmpl.h. Layouts: blocks_k.h. */
#ifndef LB_KERNEL_Q8_K_TMPL_H
#define LB_KERNEL_Q8_K_TMPL_H

#include "kernel/q8_small_tmpl.h"

INLINE void block_q2_k(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_q2_k *b = (const void *)p;
    const float d = f16_at(b->d), dmin = f16_at(b->dmin);
    for (size_t j = 0; j < 16; j += 8) {
        const v8 x = get8(b->scales + j);
        put_scales(s + j, x & 15, 0, d);
        put_scales(m + j, x >> 4, 0, -dmin);
    }
    twos(q, b->qs);
}

INLINE void block_q3_k(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_q3_k *b = (const void *)p;
    const float d = f16_at(b->d);
    u8 sc[16];
    (void)m;
    lb_k3_scales(b->scales, sc);
    put_scales(s, get8(sc), 32, d);
    put_scales(s + 8, get8(sc + 8), 32, d);
    const v32 high = get32(b->hmask), x = get32(b->qs), y = get32(b->qs + 32);
    put32(q, (x & all(3)) | (left(high, 2) & all(4)));
    put32(q + 32, right(x, 2, 3) | (left(high, 1) & all(4)));
    put32(q + 64, right(x, 4, 3) | (high & all(4)));
    put32(q + 96, right(x, 6, 3) | right(high, 1, 4));
    put32(q + 128, (y & all(3)) | right(high, 2, 4));
    put32(q + 160, right(y, 2, 3) | right(high, 3, 4));
    put32(q + 192, right(y, 4, 3) | right(high, 4, 4));
    put32(q + 224, right(y, 6, 3) | right(high, 5, 4));
}

INLINE void scales_k4(float *s, float *m, const u8 *head) {
    const float d = f16_at(head), dmin = f16_at(head + 2);
    u8 sc[8], mn[8];
    lb_k4_scales(head + 4, sc, mn);
    put_scales(s, get8(sc), 0, d);
    put_scales(m, get8(mn), 0, -dmin);
}

INLINE void block_q4_k(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_q4_k *b = (const void *)p;
    scales_k4(s, m, p);
    for (size_t n = 0; n < 4; n++) {
        const v32 x = get32(b->qs + 32 * n);
        put32(q + 64 * n, x & all(15));
        put32(q + 64 * n + 32, right(x, 4, 15));
    }
}

INLINE void block_q5_k(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_q5_k *b = (const void *)p;
    scales_k4(s, m, p);
    v32 high = get32(b->qh); /* the bits of a run are always its lowest two */
    for (size_t n = 0; n < 4; n++) {
        const v32 x = get32(b->qs + 32 * n);
        put32(q + 64 * n, (x & all(15)) | (left(high, 4) & all(16)));
        put32(q + 64 * n + 32, right(x, 4, 15) | (left(high, 3) & all(16)));
        high = (v32)((v32w)high >> 2);
    }
}

INLINE void block_q6_k(u8 *q, float *s, float *m, const u8 *p) {
    const lb_block_q6_k *b = (const void *)p;
    const float d = f16_at(b->d);
    (void)m;
    put_scales(s, get8(b->scales) ^ 128, 128, d);
    put_scales(s + 8, get8(b->scales + 8) ^ 128, 128, d);
    for (size_t h = 0; h < 2; h++, q += 128) {
        const v32 lo = get32(b->ql + 64 * h), hi = get32(b->ql + 64 * h + 32);
        const v32 t = get32(b->qh + 32 * h);
        put32(q, (lo & all(15)) | (left(t, 4) & all(48)));
        put32(q + 32, (hi & all(15)) | (left(t, 2) & all(48)));
        put32(q + 64, right(lo, 4, 15) | (t & all(48)));
        put32(q + 96, right(hi, 4, 15) | right(t, 2, 48));
    }
}

INLINE void block_q8_k(u8 *q, float *s, float *m, const u8 *p) {
    const float d = lb_canon_f32(lb_f32_from_bits(lb_load_u32(p)));
    (void)m;
    put_same(s, 8, d);
    for (size_t j = 0; j < 256; j += 32)
        put32(q + j, get32(p + 4 + j) ^ all(128));
}

#endif
