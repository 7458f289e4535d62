/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq1.c: f32 to iq1_s and iq1_m (quant.h), around the searches of quant_iq1_ref.c and its
 * faster versions.
 *
 * A value is scale * (-1, 0 or 1, plus or minus 1/8), the shift being one for 32 (iq1_s) or 8
 * (iq1_m) values. With three levels the best rounding of a group is a pair of cuts through its
 * sorted values: all pairs and shifts are tried, by prefix sums. Then each 8 values move to the
 * codebook. */
#include "kernel/quant_iq1.h"
#include "kernel/blocks_k.h"
#include "kernel/kernel.h"

/* Sorts the indices of x by value, equal ones (and NaN, which no comparison moves) in their order:
 * by halves, as the C library's qsort of ggml's Linux builds does. */
static void sort_halves(const float *x, u8 *order, u32 n) {
    u8 merged[LB_IQ1_GROUP];
    if (n < 2)
        return;
    const u32 half = n / 2;
    sort_halves(x, order, half);
    sort_halves(x, order + half, n - half);
    u32 a = 0, b = half, k = 0;
    while (a < half && b < n)
        merged[k++] = x[order[a]] > x[order[b]] ? order[b++] : order[a++];
    while (a < half)
        merged[k++] = order[a++];
    memcpy(order, merged, k);
}

void lb_iq1_sort(const float *x, u8 *order, u32 n) {
    for (u32 i = 0; i < n; i++)
        order[i] = (u8)i;
    sort_halves(x, order, n);
}

/* Weights and sorted order. */
static void start_group(const lb_iq1_search *f, lb_iq1_group *s, const float *x, u32 n,
                        const float *importance, float sigma2, float tiny) {
    s->x = x;
    s->n = n;
    if (importance)
        lb_quant_weights(s->w, importance, x, n, sigma2);
    float max = fabsf(x[0]);
    for (u32 i = 0; i < n; i++) {
        if (!importance)
            s->w[i] = x[i] * x[i];
        max = max > fabsf(x[i]) ? max : fabsf(x[i]);
    }
    s->scale = 0;
    s->shift = 0;
    memset(s->index, 0, sizeof s->index);
    s->zero = max < tiny;
    if (!s->zero)
        f->sort(x, s->order, n);
    s->best = (lb_iq1_cuts){-1, -1, 0, max, -0x1.fffffep127f};
}

/* Codes of the cuts; a negative scale turns them over. Returns whether it did. */
static bool set_codes(lb_iq1_group *s, lb_iq1_cuts *c) {
    for (i32 j = 0; j < (i32)s->n; j++)
        s->code[s->order[j]] = j < c->low ? 0 : j < c->high ? 1 : 2;
    if (!(c->scale < 0))
        return false;
    for (u32 j = 0; j < s->n; j++)
        s->code[j] = (u8)(2 - s->code[j]);
    c->scale = -c->scale;
    return true;
}

/* The point of 8 values from element `at` on; true if they had to move. */
static bool choose_point(const lb_iq1_search *f, const lb_grid *g, lb_iq1_group *s, u32 at,
                         float scale, const float *value) {
    u32 key = 0, power = 1;
    for (u32 i = 0; i < 8; i++, power *= 3)
        key += power * s->code[at + i];
    if (g->at[key] >= 0) {
        s->index[at / 8] = (u16)g->at[key];
        return false;
    }
    s->index[at / 8] = (u16)(f->nearest(g, key, s->x + at, s->w + at, scale, value) >> 16);
    return true;
}

typedef struct sums {
    float xq, qq;
} sums;

/* Adds the sums of 8 values at their point, whose levels count `times`. */
static void add_sums(sums *t, const lb_grid *g, const lb_iq1_group *s, u32 at, const float *value,
                     float times) {
    const u32 packed = g->point[s->index[at / 8]];
    for (u32 i = 0; i < 8; i++) {
        const float q = value[packed >> 2 * i & 3] * times;
        t->xq += s->w[at + i] * q * s->x[at + i];
        t->qq += s->w[at + i] * q * q;
    }
}

/* ---- iq1_s ---- */

/* Codes, points, scale and shift of a group by its best cuts; else they stay zero. */
static void fit_s(const lb_iq1_search *f, const lb_grid *g, lb_iq1_group *s) {
    lb_iq1_cuts best = s->best;
    if (s->zero || best.low < 0)
        return;
    if (set_codes(s, &best))
        best.shift = best.shift == LB_IQ1_UP ? LB_IQ1_DOWN : LB_IQ1_UP;
    const float *value = lb_iq1_levels[best.shift];
    bool moved = false;
    for (u32 at = 0; at < 32; at += 8)
        moved |= choose_point(f, g, s, at, best.scale, value);
    if (moved) {
        sums t = {0, 0};
        for (u32 at = 0; at < 32; at += 8)
            add_sums(&t, g, s, at, value, 1);
        if (t.xq > 0 && t.qq > 0)
            best.scale = t.xq / t.qq;
    }
    s->scale = best.scale;
    s->shift = best.shift;
}

static void put_iq1_s(lb_block_iq1_s *y, const lb_iq1_group *s) {
    float max_scale = 0;
    memset(y, 0, sizeof *y);
    for (u32 j = 0; j < 8; j++) {
        u32 high = 0;
        for (u32 k = 0; k < 4; k++) {
            y->qs[4 * j + k] = (u8)s[j].index[k];
            high |= (u32)s[j].index[k] >> 8 << 3 * k;
        }
        lb_store_u16(y->qh + 2 * j, (u16)high);
        max_scale = max_scale > s[j].scale ? max_scale : s[j].scale;
    }
    if (max_scale == 0)
        return;
    const float d = max_scale / 15, inverse = 1 / d;
    lb_store_u16(y->d, lb_quant_f16(d * 1.125f));
    for (u32 j = 0; j < 8; j++) {
        u32 sc = (u32)lb_clamp(lb_nearest(0.5f * (inverse * s[j].scale - 1)), 0, 7);
        sc |= s[j].shift == LB_IQ1_DOWN ? 8 : 0;
        lb_store_u16(y->qh + 2 * j, (u16)(lb_load_u16(y->qh + 2 * j) | sc << 12));
    }
}

/* Two blocks at a time, which are LB_IQ1_BATCH groups. */
void lb_iq1_quant_s(size_t n_elems, void *out, const float *in, const float *importance,
                    const void *tables, const lb_iq1_search *f) {
    LB_ASSERT(importance);
    lb_block_iq1_s *y = out;
    for (size_t at = 0; at < n_elems; at += 2 * LB_QK) {
        const u32 n_groups = n_elems - at > LB_QK ? 16 : 8;
        lb_iq1_group s[LB_IQ1_BATCH];
        float sigma2 = 0;
        for (u32 j = 0; j < n_groups; j++) {
            const float *x = in + at + 32 * j;
            if (j % 8 == 0)
                sigma2 = 2 * lb_sum_squares(x, LB_QK) / LB_QK;
            start_group(f, s + j, x, 32, importance + at + 32 * j, sigma2, 1e-12f);
        }
        f->cuts_s(s, n_groups);
        for (u32 j = 0; j < n_groups; j++)
            fit_s(f, tables, s + j);
        for (u32 j = 0; j < n_groups; j += 8)
            put_iq1_s(y++, s + j);
    }
}

/* ---- iq1_m: two halves of 8, each with its own shift: bit 1 of `shift` that of the first, bit 0
 * that of the second ---- */

static const float *half_levels(i32 shift, u32 half) {
    return lb_iq1_levels[half ? shift & 1 : shift >> 1];
}

static void fit_m(const lb_iq1_search *f, const lb_grid *g, lb_iq1_group *s) {
    lb_iq1_cuts best = s->best;
    if (s->zero || best.low < 0)
        return;
    if (set_codes(s, &best))
        best.shift = 3 - best.shift;
    bool moved = false;
    for (u32 h = 0; h < 2; h++)
        moved |= choose_point(f, g, s, 8 * h, best.scale, half_levels(best.shift, h));
    if (moved) {
        sums t = {0, 0};
        for (u32 h = 0; h < 2; h++)
            add_sums(&t, g, s, 8 * h, half_levels(best.shift, h), 1);
        if (t.xq > 0 && t.qq > 0)
            best.scale = t.xq / t.qq;
    }
    s->scale = best.scale;
    s->shift = best.shift;
}

/* The block's scale by least squares over all groups, and the fields of a group. */
static float finish_m(lb_block_iq1_m *y, const lb_grid *g, const lb_iq1_group *groups,
                      float max_scale) {
    static const u8 minus[4] = {0x00, 0x80, 0x08, 0x88};
    const float d = max_scale / 15, inverse = 1 / d;
    sums t = {0, 0};
    for (u32 j = 0; j < 16; j++) {
        const u32 sc = (u32)lb_clamp(lb_nearest(0.5f * (inverse * groups[j].scale - 1)), 0, 7);
        u8 *field = y->scales + j / 4 * 2;
        lb_store_u16(field, (u16)(lb_load_u16(field) | sc << 3 * (j % 4)));
        y->qh[j] |= minus[groups[j].shift];
        for (u32 h = 0; h < 2; h++)
            add_sums(&t, g, groups + j, 8 * h, half_levels(groups[j].shift, h),
                     (float)(2 * sc + 1));
    }
    return t.qq > 0 ? t.xq / t.qq : d;
}

void lb_iq1_quant_m(size_t n_elems, void *out, const float *in, const float *importance,
                    const void *tables, const lb_iq1_search *f) {
    lb_block_iq1_m *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const float *x = in + at;
        const float sigma2 = 2 * lb_sum_squares(x, LB_QK) / LB_QK;
        lb_iq1_group s[LB_IQ1_BATCH];
        float max_scale = 0;
        memset(y, 0, sizeof *y);
        memset(s, 0, sizeof s);
        for (u32 j = 0; j < 16; j++)
            start_group(f, s + j, x + 16 * j, 16, importance ? importance + at + 16 * j : NULL,
                        sigma2, 1e-7f);
        f->cuts_m(s, 16);
        for (u32 j = 0; j < 16; j++) {
            fit_m(f, tables, s + j);
            y->qs[2 * j] = (u8)s[j].index[0];
            y->qs[2 * j + 1] = (u8)s[j].index[1];
            y->qh[j] = (u8)(s[j].index[0] >> 8 | s[j].index[1] >> 8 << 4);
            max_scale = max_scale > s[j].scale ? max_scale : s[j].scale;
        }
        if (max_scale == 0)
            continue;
        const u16 d = lb_quant_f16(finish_m(y, tables, s, max_scale) * 1.1125f);
        for (u32 i = 0; i < 4; i++) {
            u8 *field = y->scales + 2 * i;
            lb_store_u16(field, (u16)(lb_load_u16(field) | (d >> 4 * i & 15) << 12));
        }
    }
}
