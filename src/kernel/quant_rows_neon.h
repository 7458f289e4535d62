/* SPDX-License-Identifier: Apache-2.0 */
/* quant_rows_neon.h: the words of quant_legacy_tmpl.h beside quant_pack_neon.h's
 * (quant_rows_avx2.h says what each does). */
#ifndef LB_KERNEL_QUANT_ROWS_NEON_H
#define LB_KERNEL_QUANT_ROWS_NEON_H
#ifdef __aarch64__
#include "kernel/quant_pack_neon.h"

static inline vec v_max_rows(const vec r[4]) {
    return vpmaxq_f32(vpmaxq_f32(r[0], r[1]), vpmaxq_f32(r[2], r[3]));
}
static inline vint vi_max_rows(const vint r[4]) {
    return vpmaxq_s32(vpmaxq_s32(r[0], r[1]), vpmaxq_s32(r[2], r[3]));
}

static inline vec v_copy_sign(vec x, vec s) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), s, x);
}

static inline bytes64 b_min(bytes64 c, u8 most) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        c.val[i] = vminq_u8(c.val[i], vdupq_n_u8(most));
    return c;
}
static inline bytes64 b_upper(bytes64 c) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        c.val[i] = vshrq_n_u8(c.val[i], 4);
    return c;
}
static inline void b_put_bytes(u8 *p, u8 *q, bytes64 c) {
    vst1q_u8(p, c.val[0]);
    vst1q_u8(p + 16, c.val[1]);
    vst1q_u8(q, c.val[2]);
    vst1q_u8(q + 16, c.val[3]);
}
static inline void b_put_nibbles(u8 *p, u8 *q, bytes64 c) {
    vst1q_u8(p, vsliq_n_u8(c.val[0], c.val[1], 4));
    vst1q_u8(q, vsliq_n_u8(c.val[2], c.val[3], 4));
}

static inline void b_put_nibbles_16(u8 *p, bytes64 c) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        vst1_u8(p + 8 * i, vsli_n_u8(vget_low_u8(c.val[i]), vget_high_u8(c.val[i]), 4));
}
static inline vint vi_count(vint n, vmask m) {
    return vsubq_s32(n, vreinterpretq_s32_u32(m));
}

static inline bytes64 b_load(const u8 *p) {
    return (bytes64){{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
}
static inline bytes64 b_horner(bytes64 q, int base, bytes64 c) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        c.val[i] = vmlaq_u8(c.val[i], q.val[i], vdupq_n_u8((u8)base));
    return c;
}

#endif
#endif
