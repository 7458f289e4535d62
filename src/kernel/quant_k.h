/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k.h: what the K-quants' quantizers of all instruction sets share: the searches' parameters,
 * the codes of scales, and how fields go into blocks. */
#ifndef LB_KERNEL_QUANT_K_H
#define LB_KERNEL_QUANT_K_H

#include "kernel/blocks_k.h"
#include "kernel/quant.h"

/* The types with a minimum. */
typedef struct lb_affine_type {
    u32 group_elems, n_groups;
    i32 sc_max;                       /* largest code of a scale and of a minimum */
    float sigma;                      /* sigma2 is this often the mean square */
    lb_affine_search plain, weighted; /* without and with importance */
} lb_affine_type;

static const lb_affine_type lb_affine_q2_k = {
    16, 16, 15, 1, {3, -0.5f, 0.1f, 15, true}, {3, -0.9f, 0.05f, 36, false}};
static const lb_affine_type lb_affine_q4_k = {
    32, 8, 63, 2, {15, -1.0f, 0.1f, 20, false}, {15, -0.9f, 0.05f, 36, false}};
static const lb_affine_type lb_affine_q5_k = {
    32, 8, 63, 2, {31, -0.5f, 0.1f, 15, false}, {31, -0.9f, 0.05f, 36, false}};

/* Scales and minimums of the groups of a block, as codes and in f16, and the codes of its values.
 */
typedef struct lb_k_fit {
    u8 q[LB_QK];
    float scale[16], minus[16]; /* of the search */
    u8 sc[16], m[16];           /* codes */
    u16 d, dmin;
} lb_k_fit;

/* Codes 0..q_max of positive values in equal parts of their largest; returns a part. */
static inline float lb_k_scale_codes(size_t n, i32 q_max, const float *v, u8 *q) {
    float max = 0;
    for (size_t j = 0; j < n; j++)
        max = v[j] > max ? v[j] : max;
    const float inverse = max > 0 ? (float)q_max / max : 0;
    for (size_t j = 0; j < n; j++)
        q[j] = (u8)lb_nearest(inverse * v[j]);
    return max / (float)q_max;
}

/* The element of the largest magnitude, the first of equals. */
static inline float lb_k_extreme(const float *v, size_t n) {
    float most = 0, magnitude = 0;
    for (size_t j = 0; j < n; j++)
        if (fabsf(v[j]) > magnitude) {
            magnitude = fabsf(v[j]);
            most = v[j];
        }
    return most;
}

/* Two bits of every value: two halves of 128, runs of 32. */
static inline void lb_pack_2bit(u8 *qs, const u8 *q) {
    for (size_t h = 0; h < 2; h++, qs += 32, q += 128)
        for (size_t j = 0; j < 32; j++)
            qs[j] = (u8)(q[j] | q[j + 32] << 2 | q[j + 64] << 4 | q[j + 96] << 6);
}

/* The lower four bits of every value: four runs of 64. */
static inline void lb_pack_4bit(u8 *qs, const u8 *q) {
    for (size_t h = 0; h < 4; h++, qs += 32, q += 64)
        for (size_t j = 0; j < 32; j++)
            qs[j] = (u8)((q[j] & 15) | q[j + 32] << 4);
}

/* Bit `bit` of every value: bit j of byte l belongs to element 32 j + l. */
static inline void lb_pack_1bit(u8 *qh, const u8 *q, u32 bit) {
    for (size_t l = 0; l < 32; l++) {
        u32 bits = 0;
        for (u32 j = 0; j < 8; j++)
            bits |= (u32)(q[32 * j + l] >> bit & 1) << j;
        qh[l] = (u8)bits;
    }
}

/* Codes 0..63 of q3_k's 16 signed scales; returns the block's scale. */
static inline float lb_k3_scale_codes(const float *scale, u8 *sc) {
    const float most = lb_k_extreme(scale, 16);
    memset(sc, 0, 16); /* as in ggml, a block of zeros has the scales' bits zero, which is -32 */
    if (most == 0)
        return 0;
    const float inverse = -32.0f / most;
    for (size_t j = 0; j < 16; j++)
        sc[j] = (u8)(lb_clamp((i8)lb_nearest(inverse * scale[j]), -32, 31) + 32);
    return 1 / inverse;
}

static inline void lb_put_k3_scales(u8 *scales, const u8 *sc) {
    memset(scales, 0, 12);
    for (size_t j = 0; j < 16; j++) {
        scales[j % 8] |= (u8)((sc[j] & 15) << j / 8 * 4);
        scales[8 + j % 4] |= (u8)(sc[j] >> 4 << 2 * (j / 4));
    }
}

/* 6-bit scales and minimums (blocks_k.h). One above 63 is the code of a negative scale, which only
 * weights that are no importance make: q4_k with importance stores it as it is, as ggml does. */
static inline void lb_put_k4_scales(u8 *scales, const lb_k_fit *b, u8 limit) {
    u8 s[8], t[8];
    for (size_t j = 0; j < 8; j++) {
        s[j] = LB_MIN(b->sc[j], limit);
        t[j] = LB_MIN(b->m[j], limit);
    }
    for (size_t j = 0; j < 4; j++) {
        scales[j] = (u8)(s[j] | s[j + 4] >> 4 << 6);
        scales[j + 4] = (u8)(t[j] | t[j + 4] >> 4 << 6);
        scales[j + 8] = (u8)((s[j + 4] & 15) | (t[j + 4] & 15) << 4);
    }
}

static inline void lb_pack_q6(lb_block_q6_k *y, const u8 *q) {
    for (size_t h = 0; h < 2; h++, q += 128) {
        u8 *ql = y->ql + 64 * h, *qh = y->qh + 32 * h;
        for (size_t j = 0; j < 64; j++)
            ql[j] = (u8)((q[j] & 15) | q[j + 64] << 4);
        for (size_t j = 0; j < 32; j++)
            qh[j] =
                (u8)(q[j] >> 4 | q[j + 32] >> 4 << 2 | q[j + 64] >> 4 << 4 | q[j + 96] >> 4 << 6);
    }
}

#endif
