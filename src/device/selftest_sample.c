/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_sample.c: the first of a row of logits (top_*), against a sort of places by what their
 * logits count as. Nothing is rounded: keys are the same bits. */
#include "device/selftest_cases.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct top_case {
    u32 n_cols, k, kind; /* kind: see logit_of */
    bool large;          /* of a GPU alone */
} top_case;
static const top_case cases[] = {
    {1, 1, 0, false},       {5, 3, 1, false},     {2048, 40, 2, false},    {2049, 1, 3, false},
    {5000, 1024, 1, false}, {4100, 7, 3, false},  {18000, 65, 2, false},   {32000, 40, 0, true},
    {128256, 40, 0, true},  {128256, 1, 2, true}, {151936, 1024, 0, true},
};

/* Any; few that are different; what is no finite number among them; none that is a number. */
static float logit_of(lb_selftest *t, u32 kind) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 0.0f, -0.0f, 1e-42f};
    const u32 r = lb_selftest_u32(t);
    switch (kind) {
    case 1:
        return (float)(r % 7) - 3;
    case 2:
        return r % 3 ? 12 * lb_selftest_float(t) : odd[r / 3 % LB_LEN(odd)];
    case 3:
        return r % 2 ? NAN : -INFINITY;
    default:
        return 12 * lb_selftest_float(t);
    }
}

/* What comes first is smaller. The value is what the logit counts as. */
static u64 key_of(float x, u32 place) {
    const float v = isnan(x) ? -INFINITY : fminf(x, FLT_MAX);
    const u32 bits = v == 0 ? 0 : lb_f32_bits(v);
    return (u64)(v < 0 ? bits : 0x7fffffffu - bits) << 32 | place;
}

static int compare_keys(const void *a, const void *b) {
    const u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return (x > y) - (x < y);
}

/* Keys of the row's chunk in order, or of all of it. */
static u64 *sorted_keys(lb_selftest *t, const float *x, u32 n_cols, u32 first, u32 n) {
    u64 *key = lb_arena_new(&t->arena, u64, n);
    for (u32 i = 0; key && i < n; i++)
        key[i] = first + i < n_cols ? key_of(x[first + i], first + i)
                                    : (u64)UINT32_MAX << 32 | (first + i);
    if (key)
        qsort(key, n, sizeof *key, compare_keys);
    return key;
}

static void compare_all(lb_selftest *t, const u64 *got, const u64 *want, u64 n) {
    for (u64 i = 0; i < n; i++)
        for (u32 part = 0; part < 64; part += 16)
            lb_selftest_compare(t, t->at++, (float)(got[i] >> part & 0xffff),
                                (double)(want[i] >> part & 0xffff), 0);
}

/* Lists of the row's chunks as top_chunks leaves them. */
static u64 *lists_of(lb_selftest *t, const float *x, const lb_top_args *a) {
    u64 *lists = lb_arena_new(&t->arena, u64, (u64)a->n_lists * a->k);
    for (u32 c = 0; lists && c < a->n_lists; c++) {
        const u64 *key = sorted_keys(t, x, a->n_cols, c * LB_DEV_TOP_CHUNK, LB_DEV_TOP_CHUNK);
        if (!key)
            return NULL;
        memcpy(lists + (u64)c * a->k, key, a->k * sizeof *key);
    }
    return lists;
}

static lb_status check_chunks(lb_selftest *t, const float *x, const lb_top_args *a, lb_err *err) {
    const u64 n = (u64)a->n_lists * a->k;
    u64 *out = lb_arena_new(&t->arena, u64, n);
    const u64 *want = lists_of(t, x, a);
    if (!out || !want)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    LB_TRY(lb_selftest_launch(t, (lb_selftest_data[]){{x, 4ull * a->n_cols}, {NULL, 8 * n}}, a, out,
                              err));
    compare_all(t, out, want, n);
    return LB_OK;
}

/* All lists, LB_DEV_TOP_WAYS become one, until one is left. */
static lb_status check_merge(lb_selftest *t, const float *x, const lb_top_args *a, lb_err *err) {
    const u32 n_all = a->n_lists * LB_DEV_TOP_CHUNK;
    const u64 *want = sorted_keys(t, x, a->n_cols, 0, n_all), *lists = lists_of(t, x, a);
    lb_top_args now = *a;
    if (!want || !lists)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    do {
        const u64 n = lb_ceil_div_u64(now.n_lists, LB_DEV_TOP_WAYS);
        u64 *out = lb_arena_new(&t->arena, u64, n * a->k);
        if (!out)
            return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
        const lb_selftest_data bufs[] = {{lists, 8ull * now.n_lists * a->k}, {NULL, 8 * n * a->k}};
        LB_TRY(lb_selftest_launch(t, bufs, &now, out, err));
        lists = out;
        now.n_lists = (u32)n;
    } while (now.n_lists > 1);
    compare_all(t, lists, want, a->k);
    return LB_OK;
}

static lb_status check_take(lb_selftest *t, const float *x, const lb_top_args *a, lb_err *err) {
    u32 *place = lb_arena_new(&t->arena, u32, a->k);
    float *out = lb_selftest_floats(t, a->k, 0);
    if (!place || !out)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    for (u32 i = 0; i < a->k; i++) /* one behind the row's end among them */
        place[i] = lb_selftest_u32(t) % (a->n_cols + 1);
    const lb_selftest_data bufs[] = {
        {x, 4ull * a->n_cols}, {place, 4ull * a->k}, {NULL, 4ull * a->k}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 i = 0; i < a->k; i++)
        lb_selftest_compare(t, t->at++, out[i],
                            place[i] < a->n_cols ? (double)x[place[i]] : (double)NAN, 0);
    return LB_OK;
}

lb_status lb_selftest_sample(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const top_case *c = &cases[i];
    const lb_top_args a = {c->n_cols, c->k, (u32)lb_ceil_div_u64(c->n_cols, LB_DEV_TOP_CHUNK)};
    float *x = lb_selftest_floats(t, c->n_cols, 0);
    (void)snprintf(t->where, sizeof t->where, "%u of %u, kind %u", c->k, c->n_cols, c->kind);
    *more = i + 1 < LB_LEN(cases) && (t->opts->large || !cases[i + 1].large);
    if (!x)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    for (u32 j = 0; j < c->n_cols; j++)
        x[j] = logit_of(t, t->row->kernel == LB_DK_top_take && c->kind == 3 ? 0 : c->kind);
    return t->row->kernel == LB_DK_top_chunks  ? check_chunks(t, x, &a, err)
           : t->row->kernel == LB_DK_top_merge ? check_merge(t, x, &a, err)
                                               : check_take(t, x, &a, err);
}
