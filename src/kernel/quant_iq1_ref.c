/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq1_ref.c: the searches of iq1_s and iq1_m, the scalar definition; quant_iq1.c has the
 * rest.
 */
#include "kernel/kernel.h"
#include "kernel/quant_iq1.h"

static void try_cuts(lb_iq1_cuts *best, float xq, float qq, u32 low, u32 high, i32 shift) {
    if (qq > 0 && xq * xq > best->score * qq) {
        best->scale = xq / qq;
        best->score = best->scale * xq;
        best->low = (i32)low;
        best->high = (i32)high;
        best->shift = shift;
    }
}

static void search_s(const lb_iq1_group *s, lb_iq1_cuts *best) {
    float sum_x[33], sum_w[33];
    sum_x[0] = sum_w[0] = 0;
    for (u32 j = 0; j < 32; j++) {
        const u32 i = s->order[j];
        sum_x[j + 1] = sum_x[j] + s->w[i] * s->x[i];
        sum_w[j + 1] = sum_w[j] + s->w[i];
    }
    for (u32 low = 0; low <= 32; low++)
        for (u32 high = low; high <= 32; high++) {
            const float x0 = sum_x[low], x1 = sum_x[high] - sum_x[low],
                        x2 = sum_x[32] - sum_x[high];
            const float w0 = sum_w[low], w1 = sum_w[high] - sum_w[low],
                        w2 = sum_w[32] - sum_w[high];
            for (i32 shift = LB_IQ1_UP; shift <= LB_IQ1_DOWN; shift++) {
                const float *v = lb_iq1_levels[shift];
                try_cuts(best, x0 * v[0] + x1 * v[1] + x2 * v[2],
                         w0 * v[0] * v[0] + w1 * v[1] * v[1] + w2 * v[2] * v[2], low, high, shift);
            }
        }
}

/* Prefix sums of one half, over the sorted order of both. */
typedef struct half_sums {
    float x[17], w[17];
} half_sums;

static void search_m(const lb_iq1_group *s, lb_iq1_cuts *best) {
    half_sums p[2];
    memset(p, 0, sizeof p);
    for (u32 j = 0; j < 16; j++) {
        const u32 i = s->order[j], h = i / 8;
        p[h].x[j + 1] = p[h].x[j] + s->w[i] * s->x[i];
        p[1 - h].x[j + 1] = p[1 - h].x[j];
        p[h].w[j + 1] = p[h].w[j] + s->w[i];
        p[1 - h].w[j + 1] = p[1 - h].w[j];
    }
    /* levels differ by 1, so their sum is that of level 2 for all less the two prefixes */
    float first[2], second[2]; /* differences of the squares */
    for (i32 k = LB_IQ1_UP; k <= LB_IQ1_DOWN; k++) {
        const float *v = lb_iq1_levels[k];
        first[k] = v[0] * v[0] - v[1] * v[1];
        second[k] = v[1] * v[1] - v[2] * v[2];
    }
    for (u32 low = 0; low <= 16; low++)
        for (u32 high = low; high <= 16; high++) {
            float xq[2][2], qq[2][2]; /* half, shift */
            for (u32 h = 0; h < 2; h++) {
                const float prefixes = p[h].x[low] + p[h].x[high];
                for (i32 k = LB_IQ1_UP; k <= LB_IQ1_DOWN; k++) {
                    const float top = lb_iq1_levels[k][2];
                    xq[h][k] = p[h].x[16] * top - prefixes;
                    qq[h][k] =
                        p[h].w[16] * top * top + p[h].w[low] * first[k] + p[h].w[high] * second[k];
                }
            }
            for (i32 shift = 0; shift < 4; shift++)
                try_cuts(best, xq[0][shift >> 1] + xq[1][shift & 1],
                         qq[0][shift >> 1] + qq[1][shift & 1], low, high, shift);
        }
}

static void cuts_s(lb_iq1_group *s, u32 n) {
    for (u32 j = 0; j < n; j++)
        if (!s[j].zero)
            search_s(s + j, &s[j].best);
}

static void cuts_m(lb_iq1_group *s, u32 n) {
    for (u32 j = 0; j < n; j++)
        if (!s[j].zero)
            search_m(s + j, &s[j].best);
}

static const lb_iq1_search search = {lb_iq1_sort, cuts_s, cuts_m, lb_grid_nearest};

void lb_k_quant_iq1_s_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    lb_iq1_quant_s(n_elems, out, in, importance, tables, &search);
}

void lb_k_quant_iq1_m_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    lb_iq1_quant_m(n_elems, out, in, importance, tables, &search);
}
