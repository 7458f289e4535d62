/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_wide.c: the cache in every type: stored bytes are the references', attention against
 * sums in double over the positions that a token sees. */
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

static u32 bytes_of(u32 type, u32 dim) {
    const u32 n = type == LB_DEV_F32    ? 4 * dim
                  : type == LB_DEV_F16  ? 2 * dim
                  : type == LB_DEV_Q8_0 ? dim / 32 * 34
                                        : dim / 32 * 18;
    return (n + 15) & ~15u;
}

static void store(u8 *to, const float *x, u32 dim, u32 type) {
    u64 counts[2];
    if (type == LB_DEV_F32)
        memcpy(to, x, dim * sizeof *x);
    else if (type == LB_DEV_F16)
        lb_k_encode_f16_f32_ref(dim, to, x, counts);
    else if (type == LB_DEV_Q8_0)
        lb_k_quant_q8_0_f32_ref(dim, to, x, NULL, NULL);
    else
        lb_k_quant_q4_0_f32_ref(dim, to, x, NULL, NULL);
}

static void load(float *to, const u8 *row, u32 dim, u32 type) {
    if (type == LB_DEV_F32)
        memcpy(to, row, dim * sizeof *to);
    else if (type == LB_DEV_F16)
        lb_k_decode_f32_f16_ref(dim, to, row);
    else if (type == LB_DEV_Q8_0)
        lb_k_decode_f32_q8_0_ref(dim, to, row);
    else
        lb_k_decode_f32_q4_0_ref(dim, to, row);
}

/* Where a layer's rows lie in a page, with something before, between and behind them. */
static void lay_out(lb_kv_args *a) {
    a->k_bytes = bytes_of(a->type, a->k_dim);
    a->k_off = 64;
    a->v_off = a->k_off;
    a->v_bytes = a->k_bytes;
    u32 end = a->k_off + a->n_heads * LB_DEV_PAGE_ROWS * a->k_bytes;
    if (a->v_dim) {
        a->v_bytes = bytes_of(a->type, a->v_dim);
        a->v_off = end + 32;
        end = a->v_off + a->n_heads * LB_DEV_PAGE_ROWS * a->v_bytes;
    }
    a->page_bytes = end + 16;
}

/* ---- kv_put ---- */

typedef struct put_case {
    u32 n_tokens, n_heads, k_dim, v_dim, type;
} put_case;
static const put_case put_cases[] = {{1, 1, 576, 0, LB_DEV_F16},  {3, 2, 80, 40, LB_DEV_F32},
                                     {4, 2, 64, 32, LB_DEV_Q8_0}, {3, 3, 128, 96, LB_DEV_Q4_0},
                                     {9, 1, 320, 0, LB_DEV_Q8_0}, {2, 2, 24, 33, LB_DEV_F16}};

static lb_status check_put(lb_selftest *t, const put_case *k, lb_err *err) {
    lb_kv_args a = {.n_tokens = k->n_tokens,
                    .n_heads = k->n_heads,
                    .k_dim = k->k_dim,
                    .v_dim = k->v_dim,
                    .n_pages = 3,
                    .type = k->type};
    lay_out(&a);
    a.v_first = 3;
    a.k_first = 3 + a.n_heads * a.v_dim;
    a.stride = a.k_first + a.n_heads * a.k_dim + 5;
    const u64 n = (u64)a.n_tokens * a.stride, bytes = (u64)a.n_pages * a.page_bytes;
    float *x = lb_selftest_floats(t, n, 3);
    u32 *place = lb_arena_new(&t->arena, u32, a.n_tokens);
    u8 *cache = lb_arena_push(&t->arena, bytes, 16), *out = lb_arena_push(&t->arena, bytes, 16);
    if (!x || !place || !cache || !out)
        return no_memory(err);
    for (u64 i = 0; i < n; i += 7) /* some are zero, some as large as others */
        x[i] = i % 3 ? 0 : 3;
    if (a.n_tokens > 2) /* all of a token's */
        memset(x + a.stride, 0, a.stride * sizeof *x);
    for (u64 i = 0; i < bytes; i++)
        cache[i] = (u8)(lb_selftest_u32(t) >> 9);
    for (u32 i = 0; i < a.n_tokens; i++) /* all different, over a page's limit */
        place[i] = 62 + i;
    if (a.n_tokens > 3)
        place[a.n_tokens - 1] = a.n_pages * LB_DEV_PAGE_ROWS; /* not there */
    const lb_selftest_data bufs[] = {{x, n * 4}, {place, a.n_tokens * 4ull}, {cache, bytes}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, out, err));
    for (u32 i = 0; i < a.n_tokens; i++) {
        const u32 page = place[i] / LB_DEV_PAGE_ROWS, row = place[i] % LB_DEV_PAGE_ROWS;
        u8 *at = cache + (u64)page * a.page_bytes;
        const float *xs = x + (u64)i * a.stride;
        for (u32 h = 0; page < a.n_pages && h < a.n_heads; h++) {
            store(at + a.k_off + (u64)(h * 64 + row) * a.k_bytes, xs + a.k_first + h * a.k_dim,
                  a.k_dim, a.type);
            if (a.v_dim)
                store(at + a.v_off + (u64)(h * 64 + row) * a.v_bytes, xs + a.v_first + h * a.v_dim,
                      a.v_dim, a.type);
        }
    }
    for (u64 i = 0; i < bytes; i++)
        lb_selftest_compare(t, i, (float)out[i], (double)cache[i], 0);
    return LB_OK;
}

/* ---- attend_wide ---- */

typedef struct wide_case {
    u32 n_tokens, n_heads, n_heads_kv, k_dim, v_dim, n_table, window, split_rows, n_together, type;
    float softcap;
    bool shared, hole; /* values are in keys; a page that the table does not have */
} wide_case;
static const wide_case wide_cases[] = {
    {1, 4, 1, 576, 512, 2, 0, 64, 4, LB_DEV_F16, 0, true, false},
    {2, 16, 1, 640, 64, 2, 0, 128, 8, LB_DEV_F32, 0, true, false},
    {3, 4, 2, 64, 64, 3, 0, 64, 2, LB_DEV_Q8_0, 0, false, false},
    {9, 2, 2, 96, 32, 3, 70, 192, 8, LB_DEV_Q4_0, 30, false, false},
    {2, 1, 1, 64, 64, 3, 0, 64, 1, LB_DEV_Q8_0, 0, true, true},
    {5, 3, 1, 40, 24, 2, 0, 128, 8, LB_DEV_F16, 0, false, false},
};

typedef struct wide {
    lb_wide_args a;
    const float *q;
    const u8 *cache;
    const u32 *table, *tokens;
    float *row;    /* [LB_DEV_WIDE_MAX] */
    float *weight; /* of each position */
} wide;

/* Sums of a query over positions [from, end), and how far they may be off. */
typedef struct wide_sums {
    double max, sum, bound;
    double value[LB_DEV_WIDE_MAX], size[LB_DEV_WIDE_MAX];
    bool nan;
} wide_sums;

static const u8 *row_of(const wide *x, u32 seq, u32 row, u32 head, bool keys) {
    const u32 page = x->table[seq * x->a.n_table + row / LB_DEV_PAGE_ROWS];
    return page >= x->a.n_pages
               ? NULL
               : x->cache + (u64)page * x->a.page_bytes + (keys ? x->a.k_off : x->a.v_off) +
                     (u64)(head * LB_DEV_PAGE_ROWS + row % LB_DEV_PAGE_ROWS) *
                         (keys ? x->a.k_bytes : x->a.v_bytes);
}

static double score_of(const wide *x, const float *q, wide_sums *s) {
    const lb_wide_args *a = &x->a;
    double dot = 0, size = 0;
    for (u32 i = 0; i < a->k_dim; i++) {
        const double p = (double)q[i] * (double)x->row[i];
        dot += p;
        size += fabs(p);
    }
    float score = (float)(dot * (double)a->scale);
    if (a->softcap != 0)
        lb_k_softcap_f32_ref(1, &score, &score, a->softcap);
    s->bound = fmax(s->bound, (a->k_dim + 8.0) * ULP * size * (double)a->scale +
                                  16 * ULP * (double)a->softcap);
    return (double)score;
}

static void sums_of(const wide *x, u32 token, u32 head, u32 from, u32 end, wide_sums *s) {
    const lb_wide_args *a = &x->a;
    const u32 seq = x->tokens[2 * token + 1], kv_head = head / (a->n_heads / a->n_heads_kv);
    const float *q = x->q + (u64)token * a->stride + a->first + (u64)head * a->k_dim;
    *s = (wide_sums){.max = -INFINITY};
    for (u32 row = from; row < end; row++) {
        const u8 *k = row_of(x, seq, row, kv_head, true);
        s->nan |= !k;
        if (k)
            load(x->row, k, a->k_dim, a->type);
        x->weight[row - from] = k ? (float)score_of(x, q, s) : 0;
        s->max = fmax(s->max, (double)x->weight[row - from]);
    }
    for (u32 row = from; row < end && !s->nan; row++) {
        float e = (float)((double)x->weight[row - from] - s->max);
        lb_k_exp_f32_ref(1, &e, &e);
        load(x->row, row_of(x, seq, row, kv_head, false), a->v_dim, a->type);
        s->sum += (double)e;
        for (u32 i = 0; i < a->v_dim; i++) {
            s->value[i] += (double)e * (double)x->row[i];
            s->size[i] += fabs((double)e * (double)x->row[i]);
        }
    }
}

static void compare_part(lb_selftest *t, const wide *x, u64 part, const float *got) {
    const lb_wide_args *a = &x->a;
    const u32 split = (u32)(part % a->n_splits), head = (u32)(part / a->n_splits % a->n_heads);
    const u32 token = (u32)(part / a->n_splits / a->n_heads), pos = x->tokens[2 * token];
    const u32 seen = a->window && pos >= a->window ? pos - a->window + 1 : 0;
    const u32 from = LB_MAX(seen, split * a->split_rows);
    const u32 end = LB_MAX(from, LB_MIN(pos + 1, (split + 1) * a->split_rows));
    wide_sums s;
    sums_of(x, token, head, from, end, &s);
    /* as in selftest_attend.c */
    const double relative = 2.1 * s.bound + (4.0 * (end - from) + 40) * ULP;
    for (u32 i = 0; i < a->v_dim && !s.nan; i++)
        lb_selftest_compare(t, t->at++, got[i], s.value[i], relative * s.size[i] + TINY);
    if (!s.nan)
        lb_selftest_compare(t, t->at, got[a->v_dim], s.max, s.bound);
    lb_selftest_compare(t, t->at, got[a->v_dim + 1], s.nan ? NAN : s.sum, relative * s.sum + TINY);
    t->at += 2;
}

/* Rows of random values in every page. */
static void fill(lb_selftest *t, u8 *cache, const lb_kv_args *kv, float *row) {
    for (u32 r = 0; r < kv->n_pages * kv->n_heads * LB_DEV_PAGE_ROWS; r++) {
        u8 *page = cache + (u64)(r / (kv->n_heads * LB_DEV_PAGE_ROWS)) * kv->page_bytes;
        const u64 at = r % (kv->n_heads * LB_DEV_PAGE_ROWS);
        for (u32 i = 0; i < kv->k_dim; i++)
            row[i] = 2 * lb_selftest_float(t);
        store(page + kv->k_off + at * kv->k_bytes, row, kv->k_dim, kv->type);
        for (u32 i = 0; i < kv->v_dim; i++)
            row[i] = 2 * lb_selftest_float(t);
        if (kv->v_dim)
            store(page + kv->v_off + at * kv->v_bytes, row, kv->v_dim, kv->type);
    }
}

static bool make_wide(lb_selftest *t, const wide_case *k, wide *x) {
    const u32 n_seqs = 2, n_q = k->n_heads * k->k_dim;
    lb_kv_args kv = {.n_heads = k->n_heads_kv,
                     .k_dim = k->k_dim,
                     .v_dim = k->shared ? 0 : k->v_dim,
                     .n_pages = n_seqs * k->n_table + 1,
                     .type = k->type};
    lay_out(&kv);
    x->a = (lb_wide_args){.n_tokens = k->n_tokens,
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
                          .n_pages = kv.n_pages,
                          .type = k->type,
                          .n_seqs = n_seqs,
                          .n_table = k->n_table,
                          .window = k->window,
                          .split_rows = k->split_rows,
                          .n_splits =
                              (k->n_table * LB_DEV_PAGE_ROWS + k->split_rows - 1) / k->split_rows,
                          .n_together = k->n_together,
                          .scale = 0.1f,
                          .softcap = k->softcap};
    u32 *table = lb_arena_new(&t->arena, u32, n_seqs * k->n_table);
    u32 *tokens = lb_arena_new(&t->arena, u32, 2ull * k->n_tokens);
    u8 *cache = lb_arena_push(&t->arena, (u64)kv.n_pages * kv.page_bytes, 16);
    x->q = lb_selftest_floats(t, (u64)k->n_tokens * x->a.stride, 1.5f);
    x->row = lb_selftest_floats(t, LB_DEV_WIDE_MAX, 0);
    x->weight = lb_selftest_floats(t, (u64)k->n_table * LB_DEV_PAGE_ROWS, 0);
    if (!table || !tokens || !cache || !x->q || !x->row || !x->weight)
        return false;
    fill(t, cache, &kv, x->row);
    for (u32 i = 0; i < n_seqs * k->n_table; i++)
        table[i] = kv.n_pages - 1 - i;
    if (k->hole)
        table[1] = kv.n_pages;
    for (u32 i = 0; i < k->n_tokens; i++) {
        tokens[2 * i] = lb_selftest_u32(t) % (k->n_table * LB_DEV_PAGE_ROWS);
        tokens[2 * i + 1] = i ? lb_selftest_u32(t) % n_seqs : 0;
    }
    tokens[0] = k->n_table * LB_DEV_PAGE_ROWS - 1;
    x->table = table;
    x->tokens = tokens;
    x->cache = cache;
    return true;
}

static lb_status check_wide(lb_selftest *t, const wide_case *k, lb_err *err) {
    wide x;
    if (!make_wide(t, k, &x))
        return no_memory(err);
    const lb_wide_args *a = &x.a;
    const u64 n_parts = (u64)a->n_tokens * a->n_heads * a->n_splits, width = a->v_dim + 2ull;
    float *out = lb_selftest_floats(t, n_parts * width, 0);
    if (!out)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{x.q, (u64)a->n_tokens * a->stride * 4},
                                     {x.cache, (u64)a->n_pages * a->page_bytes},
                                     {x.table, (u64)a->n_seqs * a->n_table * 4},
                                     {x.tokens, a->n_tokens * 8ull},
                                     {NULL, n_parts * width * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n_parts; i++)
        compare_part(t, &x, i, out + i * width);
    return LB_OK;
}

/* ---- mix_rows ---- */

static const lb_mix_args mix_cases[] = {{1, 64, 0, 64, 64, 0},
                                        {3, 640, 5, 700, 128, 0},
                                        {2, 512, 0, 512, 512, 0},
                                        {2, 1056, 7, 1100, 32, 0}};

static lb_status check_mix(lb_selftest *t, const lb_mix_args *k, lb_err *err) {
    lb_mix_args a = *k;
    const u64 n = (u64)a.n_rows * a.stride;
    float *x = lb_selftest_floats(t, n, 3), *out = lb_selftest_floats(t, n, 0);
    if (!x || !out)
        return no_memory(err);
    a.scale = 1.0f / sqrtf((float)a.mix);
    LB_TRY(lb_selftest_launch(t, &(lb_selftest_data){x, n * 4}, &a, out, err));
    for (u32 r = 0; r < a.n_rows; r++)
        for (u32 i = 0; i < a.n_cols; i += a.mix)
            lb_k_hadamard_f32_ref(a.mix, x + (u64)r * a.stride + a.first + i);
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, out[i], (double)x[i], 0);
    return LB_OK;
}

/* ---- kv_take, kv_move ---- */

static const put_case take_cases[] = {{1, 1, 576, 0, LB_DEV_F16},
                                      {3, 2, 80, 0, LB_DEV_F32},
                                      {4, 2, 64, 0, LB_DEV_Q8_0},
                                      {9, 3, 128, 0, LB_DEV_Q4_0}};

/* Pages of rows of keys. */
static u8 *make_cache(lb_selftest *t, const put_case *k, lb_kv_args *a) {
    *a = (lb_kv_args){.n_tokens = k->n_tokens,
                      .n_heads = k->n_heads,
                      .k_dim = k->k_dim,
                      .n_pages = 3,
                      .type = k->type};
    lay_out(a);
    float *row = lb_selftest_floats(t, LB_DEV_WIDE_MAX, 0);
    u8 *cache = lb_arena_push(&t->arena, (u64)a->n_pages * a->page_bytes, 16);
    if (!row || !cache)
        return NULL;
    memset(cache, 0x3c, (size_t)((u64)a->n_pages * a->page_bytes));
    fill(t, cache, a, row);
    return cache;
}

static lb_status check_take(lb_selftest *t, const put_case *k, lb_err *err) {
    lb_kv_args a;
    u8 *cache = make_cache(t, k, &a);
    a.k_first = 3;
    a.stride = a.n_heads * a.k_dim + 8;
    const u64 n = (u64)a.n_tokens * a.stride;
    float *was = lb_selftest_floats(t, n, 1), *out = lb_selftest_floats(t, n, 0);
    u32 *place = lb_arena_new(&t->arena, u32, a.n_tokens);
    if (!cache || !was || !out || !place)
        return no_memory(err);
    for (u32 i = 0; i < a.n_tokens; i++)
        place[i] = i == 2 ? a.n_pages * LB_DEV_PAGE_ROWS : 61 + 5 * i;
    const lb_selftest_data bufs[] = {
        {cache, (u64)a.n_pages * a.page_bytes}, {place, a.n_tokens * 4ull}, {was, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, out, err));
    for (u32 i = 0; i < a.n_tokens; i++)
        for (u32 h = 0; h < a.n_heads; h++) {
            float *to = was + (u64)i * a.stride + a.k_first + (u64)h * a.k_dim;
            const u32 page = place[i] / LB_DEV_PAGE_ROWS, row = place[i] % LB_DEV_PAGE_ROWS;
            for (u32 e = 0; e < a.k_dim; e++)
                to[e] = NAN;
            if (page < a.n_pages)
                load(to,
                     cache + (u64)page * a.page_bytes + a.k_off +
                         (u64)(h * LB_DEV_PAGE_ROWS + row) * a.k_bytes,
                     a.k_dim, a.type);
        }
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, out[i], (double)was[i], 0);
    return LB_OK;
}

static lb_status check_move(lb_selftest *t, const put_case *k, lb_err *err) {
    lb_kv_args kv;
    u8 *cache = make_cache(t, k, &kv);
    const u64 bytes = (u64)kv.n_pages * kv.page_bytes;
    const lb_move_rows_args a = {kv.n_tokens, kv.n_heads,    kv.k_off,
                                 kv.k_bytes,  kv.page_bytes, kv.n_pages};
    u8 *out = lb_arena_push(&t->arena, bytes, 16);
    u32 *from = lb_arena_new(&t->arena, u32, a.n_tokens),
        *to = lb_arena_new(&t->arena, u32, a.n_tokens);
    if (!cache || !out || !from || !to)
        return no_memory(err);
    for (u32 i = 0; i < a.n_tokens; i++) {
        from[i] = i == 2 ? a.n_pages * LB_DEV_PAGE_ROWS : 62 + i; /* one is not there */
        to[i] = 120 + i;
    }
    const lb_selftest_data bufs[] = {
        {from, a.n_tokens * 4ull}, {to, a.n_tokens * 4ull}, {cache, bytes}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, out, err));
    for (u32 i = 0; i < a.n_tokens; i++)
        for (u32 h = 0; h < a.n_heads && i != 2; h++)
            memcpy(cache + (u64)(to[i] / 64) * a.page_bytes + a.off +
                       (u64)(h * 64 + to[i] % 64) * a.row_bytes,
                   cache + (u64)(from[i] / 64) * a.page_bytes + a.off +
                       (u64)(h * 64 + from[i] % 64) * a.row_bytes,
                   a.row_bytes);
    for (u64 i = 0; i < bytes; i++)
        lb_selftest_compare(t, i, (float)out[i], (double)cache[i], 0);
    return LB_OK;
}

lb_status lb_selftest_wide(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    (void)snprintf(t->where, sizeof t->where, "case %u", i);
    if (k == LB_DK_mix_rows) {
        *more = i + 1 < LB_LEN(mix_cases);
        return check_mix(t, &mix_cases[i], err);
    }
    if (k == LB_DK_kv_take || k == LB_DK_kv_move) {
        *more = i + 1 < LB_LEN(take_cases);
        return (k == LB_DK_kv_take ? check_take : check_move)(t, &take_cases[i], err);
    }
    if (k == LB_DK_kv_put) {
        *more = i + 1 < LB_LEN(put_cases);
        return check_put(t, &put_cases[i], err);
    }
    *more = i + 1 < LB_LEN(wide_cases);
    return check_wide(t, &wide_cases[i], err);
}
