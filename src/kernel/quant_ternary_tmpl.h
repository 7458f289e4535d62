/* SPDX-License-Identifier: Apache-2.0 */
/* quant_ternary_tmpl.h: the quantizers of one and two bits, q1_0, q2_0, tq1_0 and tq2_0
 * (quant_legacy_ref.c), in the words of quant_batch_tmpl.h; q1_0, whose scale is an ordered sum, in
 * lanes of blocks (quant_lanes.h). */
#ifndef LB_KERNEL_QUANT_TERNARY_TMPL_H
#define LB_KERNEL_QUANT_TERNARY_TMPL_H
#include "kernel/quant_batch_tmpl.h"
#include "kernel/quant_lanes.h"

V_INLINE void ternary_scales(batch *b) {
    batch_magnitudes(b);
    for (size_t g = 0; g < BATCH; g += V_LANES)
        batch_scale(b, g, v_load(b->high + g));
}

/* 0, 1, 2 of 64 values: the nearest of -1, 0, 1, halves away from zero, plus 1. */
V_INLINE bytes64 ternary_codes(const float *x, float inverse) {
    vint c[N_VEC];
#pragma GCC unroll 16
    for (size_t k = 0; k < N_VEC; k++) {
        const vec t = v_mul(v_load(x + k * V_LANES), v_set(inverse));
        const vint q = v_to_int_trunc(v_add(t, v_copy_sign(v_set(0x1.fffffep-2f), t)));
        c[k] = vi_add(q, vi_set(1));
    }
    return b_unsigned(c);
}

V_INLINE void batch_q2_0(batch *b) {
    ternary_scales(b);
    for (size_t g = 0; g < BATCH; g++) {
        u8 *y = b->y + 18 * g;
        memcpy(y, b->d + 2 * g, 2);
        b_pack(y + 2, ternary_codes(b->x + 64 * g, b->inverse[g]), 2);
    }
}

/* The 256 codes of a row, and room for loads behind them. */
typedef struct trits {
    u8 t[256 + 64];
} trits;

V_INLINE void trits_of(const batch *b, size_t g, trits *t) {
#pragma GCC unroll 4
    for (size_t i = 0; i < 256; i += 64)
        b_store(t->t + i, ternary_codes(b->x + 256 * g + i, b->inverse[g]));
}

V_INLINE void batch_tq2_0(batch *b) {
    ternary_scales(b);
    for (size_t g = 0; g < BATCH; g++) {
        u8 *y = b->y + 66 * g, rest[32];
        trits t;
        memset(t.t + 256, 0, 64);
        trits_of(b, g, &t);
        for (size_t h = 0; h < 2; h++) {
            const u8 *p = t.t + 128 * h;
            bytes64 q = b_load(p + 96);
            q = b_horner(q, 4, b_load(p + 64));
            q = b_horner(q, 4, b_load(p + 32));
            b_put_bytes(y + 32 * h, rest, b_horner(q, 4, b_load(p)));
        }
        memcpy(y + 64, b->d + 2 * g, 2);
    }
}

/* Bytes of up to 64 columns of five digits, as the fraction byte / 256 rounded up. */
V_INLINE void put_trits(u8 *y, size_t n, const u8 *t, size_t stride) {
    u8 digits[64];
    bytes64 q = b_load(t);
#pragma GCC unroll 4
    for (size_t i = 1; i < 5; i++)
        q = b_horner(q, 3, b_load(t + i * stride));
    b_store(digits, q);
    for (size_t i = 0; i < n; i++)
        y[i] = (u8)(((u32)digits[i] * 256 + 242) / 243);
}

V_INLINE void batch_tq1_0(batch *b) {
    ternary_scales(b);
    for (size_t g = 0; g < BATCH; g++) {
        u8 *y = b->y + 54 * g;
        trits t;
        memset(t.t + 256, 0, 64); /* the fifth digit of the last four bytes */
        trits_of(b, g, &t);
        put_trits(y, 32, t.t, 32);
        put_trits(y + 32, 16, t.t + 160, 16);
        put_trits(y + 48, 4, t.t + 240, 4);
        memcpy(y + 52, b->d + 2 * g, 2);
    }
}

#define TERNARY(name, elems, bytes)                                                               \
    static void quant_##name(size_t n_elems, void *out, const float *in, const float *importance, \
                             const void *tables) {                                                \
        static const batch_type type = {elems, elems, bytes, lb_k_quant_##name##_f32_ref};        \
        (void)importance;                                                                         \
        (void)tables;                                                                             \
        quant_batches(n_elems, out, in, &type, batch_##name);                                     \
    }
TERNARY(q2_0, 64, 18)
TERNARY(tq1_0, 256, 54)
TERNARY(tq2_0, 256, 66)
#undef TERNARY

/* ---- q1_0: signs, and the mean magnitude ---- */

/* Sums of the magnitudes of n <= LANES blocks of 128, each from its first to its last. */
LANES_INLINE void sums_of_magnitudes(const float *x, size_t n, float sums[LANES]) {
    alignas(64) float t[HALF * LANES];
    const float *src[LANES];
    vf sum = vf_all(0);
    for (size_t k = 0; k < LANES; k++)
        src[k] = x + 128 * LB_MIN(k, n - 1);
    for (size_t i = 0; i < 128; i += HALF) {
        lanes_transpose(t, src, HALF);
        for (size_t j = 0; j < HALF; j++)
            sum = vf_add(sum, vf_abs(vf_load(t + LANES * j)));
        for (size_t k = 0; k < LANES; k++)
            src[k] += HALF;
    }
    vf_store(sums, sum);
}

static void quant_q1_0(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables) {
    u8 *y = out;
    (void)importance;
    (void)tables;
    for (size_t rest = n_elems / 128, n; rest; rest -= n) {
        float sums[LANES];
        n = LB_MIN(rest, (size_t)LANES);
        sums_of_magnitudes(in, n, sums);
        for (size_t k = 0; k < n; k++, y += 18, in += 128) {
            lb_store_u16(y, lb_quant_f16(sums[k] / 128));
            for (u32 i = 0; i < 128; i += 32) {
                u32 bits = 0;
                for (u32 j = 0; j < 32; j += HALF) /* 0 and -0 are positive */
                    bits |= vhm_bits(vh_less(vh_all(-0x1p-149f), vh_load(in + i + j))) << j;
                lb_store_u32(y + 2 + i / 8, bits);
            }
        }
    }
}

#endif
