/* SPDX-License-Identifier: Apache-2.0 */
/* graft_trained.c: which tokens a model hardly saw (--magikarp). */
#include "ops/graft.h"
#include <math.h>
#include <stdlib.h>

#define TILE_ROWS 64
#define QUANTILE 0.01

typedef struct look {
    const lb_trained_in *in;
    u8 *unused; /* u8 [n_rows] */
    u64 n_rows, n_unused;
    u8 *bad;    /* u8 [n_rows] */
    double *by; /* [n_rows] norms or cosines; [n_rows] to sort */
    u8 *memory; /* a tile as stored, a tile of f32, a mean */
    lb_arena *arena;
} look;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for --magikarp");
}

static bool contains(lb_str s, const char *part) {
    size_t at;
    return lb_str_find(s, lb_str_c(part), &at);
}

static void find_unused(look *x) {
    const lb_token_set *t = x->in->tokens;
    for (u64 i = 0; i < x->n_rows; i++) {
        lb_str s = i < t->n_ids ? lb_texts_get(&t->text, i) : LB_STR_NONE;
        x->unused[i] =
            !s.ptr || contains(s, "unused_token") || contains(s, "reserved_special_token");
        x->n_unused += x->unused[i];
        x->bad[i] = x->unused[i];
    }
}

static double dot(const lb_kernels *k, const float *a, const float *b, u64 n) {
    double s = 0;
    for (u64 i = 0; i < n; i += LB_FOLD_LEAF)
        s += k->fold_dot_f32((size_t)LB_MIN(n - i, LB_FOLD_LEAF), a + i, b + i);
    return s;
}

/* ---- passes over the rows ---- */

typedef void row_fn(look *x, u64 row, const float *values, void *ctx);

static lb_status each_row(look *x, const lb_rows *r, row_fn *fn, void *ctx, lb_err *err) {
    float *values = (float *)(void *)(x->memory + (TILE_ROWS * r->row_bytes + 63) / 64 * 64);
    for (u64 i = 0, n; i < x->n_rows; i += n) {
        n = LB_MIN(TILE_ROWS, x->n_rows - i);
        LB_TRY(lb_rows_read(r, i, n, x->memory, values, err));
        for (u64 k = 0; k < n; k++)
            fn(x, i + k, values + k * r->n_cols, ctx);
    }
    return LB_OK;
}

typedef struct mean {
    double *sum;
    float *value;
    double norm;
    u64 n_cols;
} mean;

static void add_unused(look *x, u64 row, const float *values, void *ctx) {
    mean *m = ctx;
    for (u64 c = 0; x->unused[row] && c < m->n_cols; c++)
        m->sum[c] += (double)values[c];
}

static void note_norm(look *x, u64 row, const float *values, void *ctx) {
    const u64 *n_cols = ctx;
    x->by[row] = sqrt(dot(x->in->env->kernels, values, values, *n_cols));
}

static void note_cosine(look *x, u64 row, const float *values, void *ctx) {
    const mean *m = ctx;
    const lb_kernels *k = x->in->env->kernels;
    double norm = sqrt(dot(k, values, values, m->n_cols));
    x->by[row] = dot(k, values, m->value, m->n_cols) / (fmax(norm, 1e-8) * fmax(m->norm, 1e-8));
}

/* ---- thresholds ---- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between neighbours linearly, as torch.quantile. */
static double quantile(look *x, double q) {
    double *sorted = x->by + x->n_rows, at = q * (double)(x->n_rows - 1);
    u64 i = (u64)at;
    memcpy(sorted, x->by, x->n_rows * sizeof *sorted);
    qsort(sorted, x->n_rows, sizeof *sorted, compare);
    double next = sorted[LB_MIN(i + 1, x->n_rows - 1)];
    return sorted[i] + (at - (double)i) * (next - sorted[i]);
}

static lb_status drop_short(look *x, const lb_rows *r, lb_err *err) {
    u64 n_cols = r->n_cols;
    LB_TRY(each_row(x, r, note_norm, &n_cols, err));
    double least = quantile(x, QUANTILE);
    for (u64 i = 0; i < x->n_rows; i++)
        x->bad[i] |= x->by[i] < least;
    return LB_OK;
}

static lb_status drop_alike(look *x, const lb_rows *r, lb_err *err) {
    mean m = {.n_cols = r->n_cols};
    m.sum = lb_arena_new(x->arena, double, r->n_cols + 1);
    m.value = lb_arena_new(x->arena, float, r->n_cols + 1);
    if (!m.sum || !m.value)
        return oom(err);
    memset(m.sum, 0, r->n_cols * sizeof *m.sum);
    LB_TRY(each_row(x, r, add_unused, &m, err));
    for (u64 c = 0; c < r->n_cols; c++)
        m.value[c] = (float)(m.sum[c] / (double)x->n_unused);
    m.norm = sqrt(dot(x->in->env->kernels, m.value, m.value, r->n_cols));
    LB_TRY(each_row(x, r, note_cosine, &m, err));
    double most = fmax(quantile(x, 1 - QUANTILE), 0.5);
    for (u64 i = 0; i < x->n_rows; i++)
        x->bad[i] |= x->by[i] > most;
    return LB_OK;
}

static lb_status look_at(look *x, lb_err *err) {
    const lb_rows *embed = x->in->embed, *head = x->in->head;
    if (head)
        LB_TRY(drop_short(x, embed, err));
    if (x->n_unused)
        LB_TRY(drop_alike(x, embed, err));
    return head && x->n_unused ? drop_alike(x, head, err) : LB_OK;
}

lb_status lb_graft_trained(const lb_trained_in *in, lb_arena *perm, u8 **good, lb_err *err) {
    lb_arena arena = {0};
    look x = {.in = in, .n_rows = in->embed->n_rows, .arena = &arena};
    u64 row_bytes = in->embed->row_bytes, n_cols = in->embed->n_cols;
    if (in->head) {
        row_bytes = LB_MAX(row_bytes, in->head->row_bytes);
        n_cols = LB_MAX(n_cols, in->head->n_cols);
        x.n_rows = LB_MIN(x.n_rows, in->head->n_rows);
    }
    *good = lb_arena_new(perm, u8, in->tokens->n_ids + 1);
    x.unused = lb_arena_new(&arena, u8, x.n_rows + 1);
    x.bad = lb_arena_new(&arena, u8, x.n_rows + 1);
    x.by = lb_arena_new(&arena, double, 2 * x.n_rows + 1);
    x.memory =
        lb_arena_push(&arena, (size_t)(TILE_ROWS * (row_bytes + n_cols * sizeof(float)) + 64), 64);
    lb_status st = *good && x.unused && x.bad && x.by && x.memory ? LB_OK : oom(err);
    if (st == LB_OK && x.n_rows) {
        find_unused(&x);
        st = look_at(&x, err);
    }
    for (u64 i = 0; i < in->tokens->n_ids && st == LB_OK; i++)
        (*good)[i] = lb_texts_has(&in->tokens->key, i) && i < x.n_rows && !x.bad[i];
    lb_arena_deinit(&arena);
    return st;
}
