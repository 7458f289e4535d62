/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_experts.c: which experts are chosen, what is made of their results. */
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

static const lb_route_args route_cases[] = {
    {1, 8, 2, 0, 0, LB_DEV_ROUTE_SOFTMAX, 0, 0, 0.01f, 1},
    {3, 60, 4, 0, 0, LB_DEV_ROUTE_SOFTMAX, 0, 1, 0.01f, 1},
    {2, 256, 8, 8, 4, LB_DEV_ROUTE_SIGMOID, 1, 1, 0.01f, 2.5f},
    {4, 32, 4, 0, 0, LB_DEV_ROUTE_SOFTMAX_TOP, 0, 0, 0.01f, 1},
    {2, 160, 6, 8, 3, LB_DEV_ROUTE_SOFTMAX, 0, 0, 0.01f, 16},
    {2, 1000, 1, 1, 1, LB_DEV_ROUTE_SIGMOID, 1, 1, 0.9f, 1},
};

/* Groups that are not among the best have no choice. */
static void drop_groups(const lb_route_args *a, float *choice) {
    const u32 per = a->n_experts / a->n_groups;
    double sum[LB_DEV_GROUPS_MAX];
    for (u32 g = 0; g < a->n_groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (u32 i = g * per; i < (g + 1) * per; i++) {
            second = choice[i] > first ? first : fmaxf(second, choice[i]);
            first = fmaxf(first, choice[i]);
        }
        sum[g] = (double)first + (a->how == LB_DEV_ROUTE_SOFTMAX ? 0 : (double)second);
    }
    for (u32 k = 0; k < a->n_groups - a->n_groups_used; k++) {
        u32 least = 0;
        for (u32 g = 1; g < a->n_groups; g++)
            least = sum[g] < sum[least] ? g : least;
        for (u32 i = 0; i < per; i++)
            choice[least * per + i] = -INFINITY;
        sum[least] = INFINITY;
    }
}

static void want_routes(const lb_route_args *a, float *score, const float *selection, float *choice,
                        u32 *expert, double *weight) {
    double sum = 0;
    if (a->how == LB_DEV_ROUTE_SOFTMAX)
        lb_k_softmax_f32_ref(a->n_experts, score);
    else if (a->how == LB_DEV_ROUTE_SIGMOID)
        lb_k_sigmoid_f32_ref(a->n_experts, score, score);
    for (u32 i = 0; i < a->n_experts; i++)
        choice[i] = score[i] + (a->has_selection ? selection[i] : 0);
    if (a->n_groups > 1)
        drop_groups(a, choice);
    for (u32 k = 0; k < a->n_used; k++) {
        u32 best = 0;
        for (u32 i = 1; i < a->n_experts; i++)
            best = choice[i] > choice[best] ? i : best;
        expert[k] = best;
        choice[best] = -INFINITY;
    }
    float top[64];
    for (u32 k = 0; k < a->n_used; k++)
        top[k] = score[expert[k]];
    if (a->how == LB_DEV_ROUTE_SOFTMAX_TOP)
        lb_k_softmax_f32_ref(a->n_used, top);
    for (u32 k = 0; k < a->n_used; k++)
        sum += (double)top[k];
    for (u32 k = 0; k < a->n_used; k++)
        weight[k] =
            (double)top[k] * (double)a->times / (a->norm ? fmax(sum, (double)a->least_sum) : 1);
}

static lb_status check_route(lb_selftest *t, const lb_route_args *a, lb_err *err) {
    const u64 n = (u64)a->n_tokens * a->n_experts, n_out = 2ull * a->n_tokens * a->n_used;
    float *score = lb_selftest_floats(t, n, 6);
    float *selection = lb_selftest_floats(t, a->n_experts, 0.5f);
    float *choice = lb_selftest_floats(t, a->n_experts, 0);
    u32 *out = lb_arena_new(&t->arena, u32, n_out), expert[64];
    double weight[64];
    if (!score || !selection || !choice || !out)
        return no_memory(err);
    const lb_selftest_data bufs[] = {
        {score, n * 4}, {selection, a->n_experts * 4ull}, {NULL, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 r = 0; r < a->n_tokens; r++) {
        want_routes(a, score + (u64)r * a->n_experts, selection, choice, expert, weight);
        for (u32 k = 0; k < a->n_used; k++) {
            const u64 at = 2 * ((u64)r * a->n_used + k);
            lb_selftest_compare(t, at, (float)out[at], (double)expert[k], 0);
            lb_selftest_compare(t, at + 1, lb_f32_from_bits(out[at + 1]), weight[k],
                                (a->n_experts / 256.0 + 64) * ULP * fabs(weight[k]) + TINY);
        }
    }
    return LB_OK;
}

static const lb_experts_args experts_cases[] = {
    {1, 1, 1, 1, 0, 1}, {3, 255, 2, 4, 5, 261}, {2, 1000, 8, 3, 0, 1000}, {5, 64, 4, 60, 64, 130}};

static lb_status check_sum(lb_selftest *t, const lb_experts_args *a, lb_err *err) {
    const u64 rows = (u64)a->n_tokens * a->n_used, n_out = (u64)a->n_tokens * a->n_cols;
    float *x = lb_selftest_floats(t, rows * a->n_cols, 4), *out = lb_selftest_floats(t, n_out, 0);
    float *w = lb_selftest_floats(t, rows, 1);
    u32 *routes = lb_arena_new(&t->arena, u32, 2 * rows);
    if (!x || !out || !w || !routes)
        return no_memory(err);
    for (u64 i = 0; i < rows; i++)
        routes[2 * i + 1] = lb_f32_bits(w[i]);
    const lb_selftest_data bufs[] = {
        {x, rows * a->n_cols * 4}, {routes, rows * 8}, {NULL, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n_out; i++) {
        double sum = 0, size = 0;
        for (u32 k = 0; k < a->n_used; k++) {
            const u64 row = i / a->n_cols * a->n_used + k;
            const double p = (double)w[row] * (double)x[row * a->n_cols + i % a->n_cols];
            sum += p;
            size += fabs(p);
        }
        lb_selftest_compare(t, i, out[i], sum, (a->n_used + 1.0) * ULP * size + TINY);
    }
    return LB_OK;
}

static lb_status check_bias(lb_selftest *t, const lb_experts_args *a, lb_err *err) {
    const u64 n = (u64)(a->n_tokens - 1) * a->stride + a->first + a->n_cols;
    float *x = lb_selftest_floats(t, n, 4), *out = lb_selftest_floats(t, n, 0);
    float *b = lb_selftest_floats(t, (u64)a->n_mats * a->n_cols, 2);
    u32 *routes = lb_arena_new(&t->arena, u32, 2ull * a->n_tokens);
    if (!x || !out || !b || !routes)
        return no_memory(err);
    for (u32 i = 0; i < a->n_tokens; i++)
        routes[2 * i] = lb_selftest_u32(t) % a->n_mats;
    const lb_selftest_data bufs[] = {
        {b, (u64)a->n_mats * a->n_cols * 4}, {routes, a->n_tokens * 8ull}, {x, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n; i++) {
        const u64 at = i % a->stride, row = i / a->stride;
        const bool in = at >= a->first && at < (u64)a->first + a->n_cols;
        const float plus = in ? b[(u64)routes[2 * row] * a->n_cols + at - a->first] : 0;
        lb_selftest_compare(t, i, out[i], (double)(in ? x[i] + plus : x[i]), 0);
    }
    return LB_OK;
}

static lb_status check_scale(lb_selftest *t, const lb_experts_args *k, lb_err *err) {
    const lb_experts_args a = {.n_cols = k->n_cols, .n_mats = k->n_mats};
    float *y = lb_selftest_floats(t, a.n_mats, 2), *w = lb_selftest_floats(t, a.n_cols, 1);
    u32 *routes = lb_arena_new(&t->arena, u32, 2ull * a.n_cols);
    u32 *out = lb_arena_new(&t->arena, u32, 2ull * a.n_cols);
    if (!y || !w || !routes || !out)
        return no_memory(err);
    for (u32 i = 0; i < a.n_cols; i++) {
        routes[2 * i] = lb_selftest_u32(t) % a.n_mats;
        routes[2 * i + 1] = lb_f32_bits(w[i]);
    }
    const lb_selftest_data bufs[] = {{y, a.n_mats * 4ull}, {routes, a.n_cols * 8ull}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, out, err));
    for (u32 i = 0; i < a.n_cols; i++) {
        lb_selftest_compare(t, 2 * i, (float)out[2 * i], (double)routes[2 * i], 0);
        lb_selftest_compare(t, 2 * i + 1, lb_f32_from_bits(out[2 * i + 1]),
                            (double)(w[i] * y[routes[2 * i]]), 0);
    }
    return LB_OK;
}

static const lb_group_args group_cases[] = {{1, 1},    {130, 3}, {64, 1},
                                            {700, 60}, {515, 4}, {40, 1024}};

/* Every route once, those of a matrix in their order; whose tiles they are, and no others. */
static lb_status check_group(lb_selftest *t, const lb_group_args *a, lb_err *err) {
    const u32 n_tiles = a->n_routes / LB_DEV_MM_TOKENS + a->n_mats + 1;
    const u64 n_out = 4ull * n_tiles + a->n_routes;
    u32 *routes = lb_arena_new(&t->arena, u32, 2ull * a->n_routes);
    u32 *out = lb_arena_new(&t->arena, u32, n_out), *want = lb_arena_new(&t->arena, u32, n_out);
    if (!routes || !out || !want)
        return no_memory(err);
    for (u32 i = 0; i < a->n_routes; i++) /* some of no matrix; in the last case most have none */
        routes[2 * i] = lb_selftest_u32(t) % 9 ? lb_selftest_u32(t) % a->n_mats
                                               : lb_selftest_u32(t) | a->n_mats | 1u << 31;
    for (u32 m = 0, at = 0, tile = 0; m <= a->n_mats; m++) {
        const u32 first = at;
        for (u32 i = 0; i < a->n_routes; i++)
            if (LB_MIN(routes[2 * i], a->n_mats) == m)
                want[4 * n_tiles + at++] = i;
        const u32 end = m == a->n_mats ? n_tiles : at / LB_DEV_MM_TOKENS + m + 1;
        for (u32 from = first; tile < end; tile++, from += LB_DEV_MM_TOKENS) {
            want[4 * tile] = m;
            want[4 * tile + 1] = from;
            want[4 * tile + 2] = from < at ? LB_MIN(at - from, LB_DEV_MM_TOKENS) : 0;
        }
    }
    const lb_selftest_data bufs[] = {{routes, a->n_routes * 8ull}, {NULL, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n_out; i++)
        lb_selftest_compare(t, i, (float)out[i], (double)want[i], 0);
    return LB_OK;
}

lb_status lb_selftest_experts(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    (void)snprintf(t->where, sizeof t->where, "case %u", i);
    if (k == LB_DK_route) {
        *more = i + 1 < LB_LEN(route_cases);
        return check_route(t, &route_cases[i], err);
    }
    if (k == LB_DK_routes_group) {
        *more = i + 1 < LB_LEN(group_cases);
        return check_group(t, &group_cases[i], err);
    }
    *more = i + 1 < LB_LEN(experts_cases);
    if (k == LB_DK_scale_routes)
        return check_scale(t, &experts_cases[i], err);
    return k == LB_DK_experts_sum ? check_sum(t, &experts_cases[i], err)
                                  : check_bias(t, &experts_cases[i], err);
}
