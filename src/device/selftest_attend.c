/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_attend.c: keys and values into pages, attention over them: against sums in double over
 * the positions that a token sees. */
#include "device/selftest_attend.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

static float stored(const u8 *row, u32 i, u32 type) {
    return type == LB_DEV_F32 ? lb_f32_from_bits(lb_load_u32(row + 4ull * i))
                              : lb_f16_to_f32(lb_load_u16(row + 2ull * i));
}

/* ---- kv_store ---- */

typedef struct kv_case {
    u32 n_tokens, n_heads, k_dim, v_dim, type;
} kv_case;
static const kv_case kv_cases[] = {{1, 1, 64, 64, LB_DEV_F16},
                                   {5, 2, 64, 32, LB_DEV_F32},
                                   {3, 3, 80, 80, LB_DEV_F16},
                                   {70, 1, 24, 40, LB_DEV_F16}};

static u32 kv_bytes(u32 dim, u32 type) {
    return (dim * (type == LB_DEV_F32 ? 4 : 2) + 15) & ~15u;
}

/* The places of a layer's rows in a page, with something before, between and behind them. */
static void lay_out(lb_kv_args *a) {
    a->k_bytes = kv_bytes(a->k_dim, a->type);
    a->v_bytes = kv_bytes(a->v_dim, a->type);
    a->k_off = 64;
    a->v_off = a->k_off + a->n_heads * LB_DEV_PAGE_ROWS * a->k_bytes + 32;
    a->page_bytes = a->v_off + a->n_heads * LB_DEV_PAGE_ROWS * a->v_bytes + 16;
}

static void put(u8 *to, float v, u32 type) {
    if (type == LB_DEV_F32)
        lb_store_u32(to, lb_f32_bits(v));
    else
        lb_store_u16(to, lb_f16_from_f32(v));
}

static lb_status check_store(lb_selftest *t, const kv_case *k, lb_err *err) {
    lb_kv_args a = {.n_tokens = k->n_tokens,
                    .n_heads = k->n_heads,
                    .k_dim = k->k_dim,
                    .v_dim = k->v_dim,
                    .n_pages = 3,
                    .type = k->type};
    const u32 n_k = a.n_heads * a.k_dim, n_v = a.n_heads * a.v_dim;
    lay_out(&a);
    a.v_first = 3;
    a.k_first = 3 + n_v;
    a.stride = a.k_first + n_k + 5;
    const u64 n = (u64)a.n_tokens * a.stride, bytes = (u64)a.n_pages * a.page_bytes;
    float *x = lb_selftest_floats(t, n, 3);
    u32 *place = lb_arena_new(&t->arena, u32, a.n_tokens);
    u8 *cache = lb_arena_push(&t->arena, bytes, 16), *out = lb_arena_push(&t->arena, bytes, 16);
    if (!x || !place || !cache || !out)
        return no_memory(err);
    for (u64 i = 0; i < bytes; i++)
        cache[i] = (u8)(lb_selftest_u32(t) >> 9);
    for (u32 i = 0; i < a.n_tokens; i++) /* all different, over a page's limit */
        place[i] = 60 + i;
    if (a.n_tokens > 4)
        place[a.n_tokens - 1] = a.n_pages * LB_DEV_PAGE_ROWS; /* not there */
    const lb_selftest_data bufs[] = {{x, n * 4}, {place, a.n_tokens * 4ull}, {cache, bytes}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, out, err));
    for (u32 i = 0; i < a.n_tokens; i++) {
        const u32 page = place[i] / LB_DEV_PAGE_ROWS, row = place[i] % LB_DEV_PAGE_ROWS;
        u8 *at = cache + (u64)page * a.page_bytes;
        const u32 size = a.type == LB_DEV_F32 ? 4 : 2;
        for (u32 e = 0; page < a.n_pages && e < n_k; e++)
            put(at + a.k_off + (u64)(e / a.k_dim * 64 + row) * a.k_bytes + e % a.k_dim * size,
                x[(u64)i * a.stride + a.k_first + e], a.type);
        for (u32 e = 0; page < a.n_pages && e < n_v; e++)
            put(at + a.v_off + (u64)(e / a.v_dim * 64 + row) * a.v_bytes + e % a.v_dim * size,
                x[(u64)i * a.stride + a.v_first + e], a.type);
    }
    for (u64 i = 0; i < bytes; i++)
        lb_selftest_compare(t, i, (float)out[i], (double)cache[i], 0);
    return LB_OK;
}

/* ---- attend, attend_tile ---- */

static const lb_selftest_att_case att_cases[] = {
    {1, 1, 1, 64, 64, 1, 0, 64, LB_DEV_F16, 0, false},
    {2, 4, 2, 64, 64, 3, 0, 64, LB_DEV_F32, 0, false},
    {9, 2, 2, 80, 48, 5, 0, 128, LB_DEV_F16, 0, false},
    {3, 4, 1, 128, 128, 4, 100, 64, LB_DEV_F16, 30, false},
    {2, 1, 1, 256, 512, 2, 7, 64, LB_DEV_F32, 0, false},
    {11, 2, 1, 32, 32, 3, 0, 192, LB_DEV_F16, 0, true},
};

static const u8 *row_of(const lb_selftest_att *x, u32 seq, u32 row, u32 head, bool keys) {
    const u32 page = x->table[seq * x->a.n_table + row / LB_DEV_PAGE_ROWS];
    if (page >= x->a.n_pages)
        return NULL;
    return x->cache + (u64)page * x->a.page_bytes + (keys ? x->a.k_off : x->a.v_off) +
           (u64)(head * LB_DEV_PAGE_ROWS + row % LB_DEV_PAGE_ROWS) *
               (keys ? x->a.k_bytes : x->a.v_bytes);
}

static double score_of(const lb_selftest_att *x, const float *q, const u8 *k,
                       lb_selftest_att_sums *s) {
    double dot = 0, size = 0;
    for (u32 i = 0; i < x->a.k_dim; i++) {
        const double p = (double)q[i] * (double)stored(k, i, x->a.type);
        dot += p;
        size += fabs(p);
    }
    float score = (float)(dot * (double)x->a.scale);
    const double bound =
        (x->a.k_dim + 8.0) * ULP * size * (double)x->a.scale + 16 * ULP * (double)x->a.softcap;
    s->bound_score = fmax(s->bound_score, bound);
    if (x->a.softcap != 0)
        lb_k_softcap_f32_ref(1, &score, &score, x->a.softcap);
    return (double)score;
}

static lb_selftest_view view_of(const lb_selftest_att *x, u64 part) {
    const lb_attend_args *a = &x->a;
    const u32 split = (u32)(part % a->n_splits), token = (u32)(part / a->n_splits / a->n_heads);
    const u32 pos = x->tokens[2 * token];
    const u32 seen = a->window && pos >= a->window ? pos - a->window + 1 : 0;
    lb_selftest_view v = {.token = token, .head = (u32)(part / a->n_splits % a->n_heads)};
    v.from = LB_MAX(seen, split * a->split_rows);
    v.end = LB_MAX(v.from, LB_MIN(pos + 1, (split + 1) * a->split_rows));
    return v;
}

void lb_selftest_att_sum(const lb_selftest_att *x, const lb_selftest_view *w, float *weight,
                         lb_selftest_att_sums *s) {
    const lb_attend_args *a = &x->a;
    const u32 seq = x->tokens[2 * w->token + 1], from = w->from, end = w->end;
    const u32 kv_head = w->head / (a->n_heads / a->n_heads_kv);
    const float *q = x->q + (u64)w->token * a->stride + a->first + (u64)w->head * a->k_dim;
    *s = (lb_selftest_att_sums){.max = -INFINITY};
    for (u32 row = from; row < end; row++) {
        const u8 *k = row_of(x, seq, row, kv_head, true);
        s->nan |= !k;
        weight[row - from] = k ? (float)score_of(x, q, k, s) : 0;
        s->max = fmax(s->max, (double)weight[row - from]);
    }
    for (u32 row = from; row < end && !s->nan; row++) {
        const u8 *v = row_of(x, seq, row, kv_head, false);
        float e = (float)((double)weight[row - from] - s->max);
        lb_k_exp_f32_ref(1, &e, &e);
        s->sum += (double)e;
        for (u32 i = 0; i < a->v_dim; i++) {
            const double p = (double)e * (double)stored(v, i, a->type);
            s->value[i] += p;
            s->size[i] += fabs(p);
        }
    }
}

static void compare_part(lb_selftest *t, const lb_selftest_att *x, const lb_selftest_view *w,
                         const float *part, float *weight) {
    const lb_attend_args *a = &x->a;
    lb_selftest_att_sums s;
    lb_selftest_att_sum(x, w, weight, &s);
    /* each position's weight feels its score's error and the largest one's, and is rescaled when
     * there is a larger one */
    const double relative = 2.1 * s.bound_score + (4.0 * (w->end - w->from) + 40) * ULP;
    for (u32 i = 0; i < a->v_dim && !s.nan; i++)
        lb_selftest_compare(t, t->at++, part[i], s.value[i], relative * s.size[i] + TINY);
    if (!s.nan)
        lb_selftest_compare(t, t->at, part[a->v_dim], s.max, s.bound_score);
    lb_selftest_compare(t, t->at, part[a->v_dim + 1],
                        s.nan ? NAN : s.sum, /* by which all is divided */
                        relative * s.sum + TINY);
    t->at += 2;
}

bool lb_selftest_att_make(lb_selftest *t, const lb_selftest_att_case *k, bool tile,
                          lb_selftest_att *x) {
    lb_kv_args kv = {
        .n_heads = k->n_heads_kv, .k_dim = k->k_dim, .v_dim = k->v_dim, .type = k->type};
    const u32 n_seqs = 2, n_pages = n_seqs * k->n_table + 1, n_q = k->n_heads * k->k_dim;
    lay_out(&kv);
    x->a = (lb_attend_args){.n_tokens = k->n_tokens,
                            .n_heads = k->n_heads,
                            .n_heads_kv = k->n_heads_kv,
                            .k_dim = k->k_dim,
                            .v_dim = k->v_dim,
                            .first = 2,
                            .stride = n_q + 9,
                            .k_off = kv.k_off,
                            .v_off = kv.v_off,
                            .k_bytes = kv.k_bytes,
                            .v_bytes = kv.v_bytes,
                            .page_bytes = kv.page_bytes,
                            .n_pages = n_pages,
                            .type = k->type,
                            .n_seqs = n_seqs,
                            .n_table = k->n_table,
                            .window = k->window,
                            .split_rows = tile ? k->n_table * LB_DEV_PAGE_ROWS : k->split_rows,
                            .n_splits = 1,
                            .scale = 0.2f,
                            .softcap = k->softcap};
    if (!tile)
        x->a.n_splits = (k->n_table * LB_DEV_PAGE_ROWS + k->split_rows - 1) / k->split_rows;
    const u64 bytes = (u64)n_pages * kv.page_bytes, step = k->type == LB_DEV_F32 ? 4 : 2;
    float *q = lb_selftest_floats(t, (u64)k->n_tokens * x->a.stride, 1.5f);
    u32 *table = lb_arena_new(&t->arena, u32, n_seqs * k->n_table);
    u32 *tokens = lb_arena_new(&t->arena, u32, 2ull * k->n_tokens);
    u8 *cache = lb_arena_push(&t->arena, bytes, 16);
    if (!q || !table || !tokens || !cache)
        return false;
    for (u64 i = 0; i + step <= bytes; i += step)
        put(cache + i, 2 * lb_selftest_float(t), k->type);
    for (u32 i = 0; i < n_seqs * k->n_table; i++)
        table[i] = n_pages - 1 - i;
    if (k->hole)
        table[1] = n_pages;
    for (u32 i = 0; i < k->n_tokens; i++) {
        tokens[2 * i] = lb_selftest_u32(t) % (k->n_table * LB_DEV_PAGE_ROWS);
        tokens[2 * i + 1] = lb_selftest_u32(t) % n_seqs;
    }
    tokens[0] = k->n_table * LB_DEV_PAGE_ROWS - 1;
    x->q = q;
    x->table = table;
    x->tokens = tokens;
    x->cache = cache;
    return true;
}

static lb_status check_attend(lb_selftest *t, const lb_selftest_att_case *k, bool tile,
                              lb_err *err) {
    lb_selftest_att x;
    if (!lb_selftest_att_make(t, k, tile, &x))
        return no_memory(err);
    const lb_attend_args *a = &x.a;
    const u64 n_parts = (u64)a->n_tokens * a->n_heads * a->n_splits, width = a->v_dim + 2ull;
    float *out = lb_selftest_floats(t, n_parts * width, 0);
    float *weight = lb_selftest_floats(t, (u64)a->n_table * LB_DEV_PAGE_ROWS, 0);
    if (!out || !weight)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{x.q, (u64)a->n_tokens * a->stride * 4},
                                     {x.cache, (u64)a->n_pages * a->page_bytes},
                                     {x.table, (u64)a->n_seqs * a->n_table * 4},
                                     {x.tokens, a->n_tokens * 8ull},
                                     {NULL, n_parts * width * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n_parts; i++) {
        const lb_selftest_view w = view_of(&x, i);
        compare_part(t, &x, &w, out + i * width, weight);
    }
    return LB_OK;
}

/* ---- attend_join ---- */

static const lb_join_args join_cases[] = {
    {1, 1, 64, 1, 0}, {3, 4, 128, 1, 1}, {2, 3, 80, 7, 0}, {2, 2, 512, 5, 1}};

static lb_status check_join(lb_selftest *t, const lb_join_args *a, lb_err *err) {
    const u64 n = (u64)a->n_tokens * a->n_heads, width = a->v_dim + 2ull;
    const u64 n_in = n * a->n_splits * width, n_out = n * a->v_dim;
    float *part = lb_selftest_floats(t, n_in, 3), *out = lb_selftest_floats(t, n_out, 0);
    float *sinks = lb_selftest_floats(t, a->n_heads, 4);
    if (!part || !out || !sinks)
        return no_memory(err);
    for (u64 i = 0; i < n * a->n_splits;
         i++) { /* sums are positive; some parts have seen nothing */
        float *p = part + i * width;
        p[a->v_dim + 1] = 4 + p[a->v_dim + 1];
        if (i % a->n_splits == 3) {
            memset(p, 0, (size_t)width * sizeof *p);
            p[a->v_dim] = -INFINITY;
        }
    }
    const lb_selftest_data bufs[] = {
        {part, n_in * 4}, {sinks, a->n_heads * 4ull}, {NULL, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n_out; i++) {
        const float *p = part + i / a->v_dim * a->n_splits * width;
        const float sink = sinks[i / a->v_dim % a->n_heads];
        float max = a->has_sinks ? sink : -INFINITY, e = (float)((double)sink);
        double sum = 0, value = 0, size = 0;
        for (u32 s = 0; s < a->n_splits; s++)
            max = fmaxf(max, p[s * width + a->v_dim]);
        for (u32 s = 0; s < a->n_splits; s++) {
            e = p[s * width + a->v_dim] - max;
            lb_k_exp_f32_ref(1, &e, &e);
            sum += (double)e * (double)p[s * width + a->v_dim + 1];
            value += (double)e * (double)p[s * width + i % a->v_dim];
            size += fabs((double)e * (double)p[s * width + i % a->v_dim]);
        }
        e = sink - max;
        lb_k_exp_f32_ref(1, &e, &e);
        sum += a->has_sinks ? (double)e : 0;
        lb_selftest_compare(t, i, out[i], value / sum,
                            (2.0 * a->n_splits + 32) * ULP * size / sum + TINY);
    }
    return LB_OK;
}

lb_status lb_selftest_attend(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    (void)snprintf(t->where, sizeof t->where, "case %u", i);
    if (k == LB_DK_kv_store) {
        *more = i + 1 < LB_LEN(kv_cases);
        return check_store(t, &kv_cases[i], err);
    }
    if (k == LB_DK_attend_join) {
        *more = i + 1 < LB_LEN(join_cases);
        return check_join(t, &join_cases[i], err);
    }
    *more = i + 1 < LB_LEN(att_cases);
    return check_attend(t, &att_cases[i], k == LB_DK_attend_tile, err);
}
