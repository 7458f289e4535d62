/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_lanes.h: what the K-quants' quantizers in lanes share.
 *
 * LANES blocks at a time: the searches take LANES groups of 16 or 32 values each time, transposed;
 * the searches over a block's scales take the LANES blocks. Blocks with an odd lane go to the
 * reference. */
#ifndef LB_KERNEL_QUANT_K_LANES_H
#define LB_KERNEL_QUANT_K_LANES_H
#ifdef LANES_INLINE

#include "kernel/kernel.h"
#include "kernel/quant_fit_affine_lanes.h"
#include "kernel/quant_fit_scale_lanes.h"
#include "kernel/quant_k.h"

enum { MAX_GROUPS = 16 * LANES };

/* What the searches found for the groups of LANES blocks, block by block. */
typedef struct groups {
    size_t n_blocks;
    float scale[MAX_GROUPS], minus[MAX_GROUPS], cut[MAX_GROUPS], from[MAX_GROUPS],
        sum_w[MAX_GROUPS];
    bool zero[MAX_GROUPS], odd[LANES]; /* odd: a block for the reference */
    float sigma2[LANES];
    u8 sc[LANES][16], m[LANES][16];
    float d[LANES], dmin[LANES];
} groups;

/* sigma * mean square of each block. */
LANES_INLINE void mean_squares(groups *g, const float *x, float sigma) {
    alignas(64) float t[LANES * LANES];
    const float *src[LANES];
    vf sum = vf_all(0);
    for (size_t i = 0; i < LB_QK; i += LANES) {
        for (size_t k = 0; k < LANES; k++)
            src[k] = x + LB_QK * LB_MIN(k, g->n_blocks - 1) + i;
        lanes_transpose(t, src, LANES);
        for (size_t j = 0; j < LANES; j++)
            sum = vf_add(sum, vf_square(vf_load(t + LANES * j)));
    }
    vf_store(g->sigma2, vf_div(vf_mul(vf_all(sigma), sum), vf_all(LB_QK)));
}

/* LANES groups of n values from group `first` on, transposed; lanes beyond the last repeat it. */
LANES_INLINE void load_groups(float *t, const float *x, size_t n, size_t first, size_t n_groups) {
    const float *src[LANES];
    for (size_t k = 0; k < LANES; k++)
        src[k] = x + n * LB_MIN(first + k, n_groups - 1);
    lanes_transpose(t, src, n);
}

/* Weights by importance, in w, which holds the transposed importance. */
LANES_INLINE void weigh(const groups *g, float *w, const float *t, size_t n, size_t first,
                        size_t groups_a_block) {
    float sigma2[LANES];
    for (size_t k = 0; k < LANES; k++)
        sigma2[k] = g->sigma2[LB_MIN((first + k) / groups_a_block, g->n_blocks - 1)];
    const vf mean = vf_load(sigma2);
    for (size_t i = 0; i < n; i++) {
        const vf size = vf_sqrt(vf_add(mean, vf_square(vf_load(t + LANES * i))));
        vf_store(w + LANES * i, vf_mul(vf_load(w + LANES * i), size));
    }
}

LANES_INLINE void add_weights(groups *g, const float *w, size_t n, size_t first) {
    vf sum = vf_all(0);
    for (size_t i = 0; i < n; i++)
        sum = vf_add(sum, vf_load(w + LANES * i));
    vf_store(g->sum_w + first, sum);
}

LANES_INLINE void note_odd(groups *g, u32 odd, size_t first, size_t groups_a_block) {
    for (size_t k = 0; odd; k++, odd >>= 1)
        if (odd & 1 && (first + k) / groups_a_block < g->n_blocks)
            g->odd[(first + k) / groups_a_block] = true;
}

/* [n][LANES] of [LANES][n], n = 8 or 16: values of a block's groups for a search over blocks. */
LANES_INLINE void by_block(float *t, const float *v, size_t n, size_t n_blocks) {
    for (size_t k = 0; k < LANES; k++)
        for (size_t j = 0; j < n; j++)
            t[LANES * j + k] = v[n * LB_MIN(k, n_blocks - 1) + j];
}

#endif
#endif
