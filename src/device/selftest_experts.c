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

/* Experts, groups, groups used: of each all ways and kinds of scores, up to 16 experts used. */
static const u32 route_shapes[][3] = {
    {1, 0, 0},   {8, 0, 0},    {31, 0, 0},   {32, 0, 0},       {33, 1, 1},
    {60, 0, 0},  {128, 0, 0},  {256, 0, 0},  {1000, 0, 0},     {LB_DEV_EXPERTS_MAX, 0, 0},
    {8, 8, 3},   {60, 4, 2},   {96, 48, 20}, {160, 8, 3},      {256, 8, 4},
    {256, 2, 1}, {512, 16, 1}, {512, 4, 4},  {1024, 256, 100},
};
#define ROUTE_USED_MAX 16u

/* What scores are like, one row of each. */
enum { RANDOM, EQUAL, ZERO, SOME_NAN, ALL_NAN, INFINITE, LOWEST, ONE, ROUTE_KINDS };

static float route_score(lb_selftest *t, u32 kind, bool middle) {
    const float v = 6 * lb_selftest_float(t);
    const u32 r = lb_selftest_u32(t) >> 8;
    switch (kind) {
    case EQUAL:
        return (float)(r % 5) - 2;
    case ZERO:
        return r % 2 ? 0.0f : -0.0f;
    case SOME_NAN:
        return r % 3 ? v : NAN;
    case INFINITE:
        return r % 6 == 0 ? INFINITY : r % 6 == 1 ? -INFINITY : r % 6 == 2 ? NAN : v;
    case LOWEST:
        return -INFINITY;
    case ONE:
        return middle ? v : NAN;
    default:
        return kind == ALL_NAN ? NAN : v;
    }
}

/* Groups are taken one by one: the first that is left, and what is larger than it. */
static void drop_groups(const lb_route_args *a, float *choice) {
    const u32 per = a->n_experts / a->n_groups;
    float sum[LB_DEV_GROUPS_MAX];
    bool kept[LB_DEV_GROUPS_MAX] = {0};
    for (u32 g = 0; g < a->n_groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (u32 i = g * per; i < (g + 1) * per; i++) {
            second = choice[i] > first ? first : fmaxf(second, choice[i]);
            first = fmaxf(first, choice[i]);
        }
        sum[g] = a->how == LB_DEV_ROUTE_SOFTMAX ? first : first + second;
    }
    for (u32 k = 0; k < a->n_groups_used; k++) {
        u32 top = a->n_groups;
        for (u32 g = 0; g < a->n_groups; g++)
            if (!kept[g] && (top == a->n_groups || sum[g] > sum[top]))
                top = g;
        kept[top] = true;
    }
    for (u32 i = 0; i < a->n_experts; i++)
        choice[i] = kept[i / per] ? choice[i] : -INFINITY;
}

/* Added as the kernel's threads and simdgroups do. */
static float sum_in_order(u32 n, const float *x) {
    float sum = 0, lane[256] = {0};
    for (u32 i = 0; i < n; i++)
        lane[i % 256] += x[i];
    for (u32 from = 0; from < 256; from += 32) {
        for (u32 half = 16; half; half /= 2)
            for (u32 i = from; i < from + half; i++)
                lane[i] += lane[i + half];
        sum += lane[from];
    }
    return sum;
}

/* The bits of the kernel's text as C11: of all experts' scores, or of those that are used, whose
 * sum has their order. */
static void softmax_in_order(u32 n, float *x, bool by_threads) {
    float max = -INFINITY, sum = 0;
    for (u32 i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (u32 i = 0; i < n; i++) {
        float d = x[i] - max;
        lb_k_exp_f32_ref(1, &d, &d);
        x[i] = max > -INFINITY ? d : x[i] == x[i] ? 0 : x[i];
    }
    if (by_threads)
        sum = sum_in_order(n, x);
    for (u32 i = 0; i < n && !by_threads; i++)
        sum += x[i];
    for (u32 i = 0; i < n && sum != 0; i++)
        x[i] = by_threads ? x[i] * (1 / sum) : x[i] / sum;
}

/* From an expert's own score to its weight; exact: rounded where the kernel does. */
static void want_weights(const lb_route_args *a, bool exact, float *top, double *weight) {
    const bool norm = a->norm && a->how != LB_DEV_ROUTE_SOFTMAX_TOP;
    double sum = 0;
    float rounded = 0;
    if (a->how == LB_DEV_ROUTE_SOFTMAX_TOP && exact)
        softmax_in_order(a->n_used, top, false);
    else if (a->how == LB_DEV_ROUTE_SOFTMAX_TOP)
        lb_k_softmax_f32_ref(a->n_used, top);
    for (u32 k = 0; k < a->n_used; k++) {
        sum += (double)top[k];
        rounded += top[k];
    }
    sum = sum < (double)a->least_sum ? (double)a->least_sum : sum;
    rounded = rounded < a->least_sum ? a->least_sum : rounded;
    for (u32 k = 0; k < a->n_used; k++)
        weight[k] = exact ? (double)((norm ? top[k] / rounded : top[k]) * a->times)
                          : (double)top[k] * (double)a->times / (norm ? sum : 1);
}

static void want_routes(const lb_route_args *a, bool exact, float *score, const float *selection,
                        u32 *expert, double *weight) {
    float choice[LB_DEV_EXPERTS_MAX], top[ROUTE_USED_MAX];
    if (a->how == LB_DEV_ROUTE_SOFTMAX && exact)
        softmax_in_order(a->n_experts, score, true);
    else if (a->how == LB_DEV_ROUTE_SOFTMAX)
        lb_k_softmax_f32_ref(a->n_experts, score);
    else if (a->how == LB_DEV_ROUTE_SIGMOID)
        lb_k_sigmoid_f32_ref(a->n_experts, score, score);
    for (u32 i = 0; i < a->n_experts; i++)
        choice[i] = score[i] + (a->has_selection ? selection[i] : 0);
    if (a->n_groups > 1)
        drop_groups(a, choice);
    for (u32 k = 0; k < a->n_used; k++) {
        u32 best = a->n_experts;
        for (u32 i = 0; i < a->n_experts; i++)
            if (!isnan(choice[i]) && (best == a->n_experts || choice[i] > choice[best]))
                best = i;
        expert[k] = best < a->n_experts ? best : k;
        choice[expert[k]] = NAN;
        top[k] = score[expert[k]];
    }
    want_weights(a, exact, top, weight);
}

/* Scores of all kinds, a row of each, or random ones. */
static lb_status check_route(lb_selftest *t, const lb_route_args *a, bool kinds, lb_err *err) {
    const u64 n = (u64)a->n_tokens * a->n_experts, n_out = 2ull * a->n_tokens * a->n_used;
    const bool exact = lb_dev_info_get(t->dev)->kind == LB_DEV_CPU;
    float *score = lb_selftest_floats(t, n, 6);
    float *selection = lb_selftest_floats(t, a->n_experts, 0.5f);
    u32 *out = lb_arena_new(&t->arena, u32, n_out), expert[ROUTE_USED_MAX];
    double weight[ROUTE_USED_MAX];
    if (!score || !selection || !out)
        return no_memory(err);
    for (u64 i = 0; kinds && i < n; i++)
        score[i] = route_score(t, (u32)(i / a->n_experts), i % a->n_experts == a->n_experts / 2);
    const lb_selftest_data bufs[] = {
        {score, n * 4}, {selection, a->n_experts * 4ull}, {NULL, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 r = 0; r < a->n_tokens; r++) {
        want_routes(a, exact, score + (u64)r * a->n_experts, selection, expert, weight);
        for (u32 k = 0; k < a->n_used; k++) {
            const u64 at = 2 * ((u64)r * a->n_used + k);
            const double bound = (a->n_experts / 256.0 + 64) * ULP * fabs(weight[k]) + TINY;
            lb_selftest_compare(t, at, (float)out[at], (double)expert[k], 0);
            lb_selftest_compare(t, at + 1, lb_f32_from_bits(out[at + 1]), weight[k],
                                exact ? 0 : bound);
        }
    }
    return LB_OK;
}

/* Biases where no rounding of a GPU's exp makes another expert the best: of scores as they are, or
 * few of them. */
static lb_status check_route_shape(lb_selftest *t, const u32 shape[3], lb_err *err) {
    const u32 most = LB_MIN(shape[0], ROUTE_USED_MAX);
    for (u32 how = LB_DEV_ROUTE_SOFTMAX; how <= LB_DEV_ROUTE_SOFTMAX_TOP; how++) {
        const bool plain = how == LB_DEV_ROUTE_SOFTMAX_TOP || shape[0] <= 60;
        for (u32 used = 1; used <= most; used += plain ? 1 : 3) {
            const lb_route_args a = {.n_tokens = ROUTE_KINDS,
                                     .n_experts = shape[0],
                                     .n_used = used,
                                     .n_groups = shape[1],
                                     .n_groups_used = shape[2],
                                     .how = how,
                                     .has_selection = plain && used % 2,
                                     .norm = used % 3 != 0,
                                     .least_sum = used % 4 ? 0.01f : 0.9f,
                                     .times = used % 5 ? 1 : 2.5f};
            (void)snprintf(t->where, sizeof t->where, "%u of %u experts, %u of %u groups, way %u",
                           used, a.n_experts, a.n_groups_used, a.n_groups, how);
            LB_TRY(check_route(t, &a, true, err));
        }
    }
    return LB_OK;
}

static const lb_experts_args experts_cases[] = {{1, 1, 1, 1, 0, 1, 0, 0, 0},
                                                {3, 255, 2, 4, 5, 261, 1, 0.75f, 1.25f},
                                                {2, 1000, 8, 3, 0, 1000, 0, 0, 0},
                                                {5, 64, 4, 60, 64, 130, 1, 1, 1}};

static lb_status check_sum(lb_selftest *t, const lb_experts_args *a, lb_err *err) {
    const u64 rows = (u64)a->n_tokens * a->n_used, n_out = (u64)a->n_tokens * a->n_cols;
    float *x = lb_selftest_floats(t, rows * a->n_cols, 4), *out = lb_selftest_floats(t, n_out, 0);
    float *w = lb_selftest_floats(t, rows, 1), *was = lb_selftest_floats(t, n_out, 2);
    u32 *routes = lb_arena_new(&t->arena, u32, 2 * rows);
    if (!x || !out || !w || !was || !routes)
        return no_memory(err);
    for (u64 i = 0; i < rows; i++)
        routes[2 * i + 1] = lb_f32_bits(w[i]);
    const lb_selftest_data bufs[] = {
        {x, rows * a->n_cols * 4}, {routes, rows * 8}, {was, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n_out; i++) {
        double sum = 0, size = 0, scale = 1;
        for (u32 k = 0; k < a->n_used; k++) {
            const u64 row = i / a->n_cols * a->n_used + k;
            const double p = (double)w[row] * (double)x[row * a->n_cols + i % a->n_cols];
            sum += p;
            size += fabs(p);
        }
        if (a->add) {
            sum = (double)was[i] + (double)a->add_times * sum;
            size = fabs((double)was[i]) + (double)a->add_times * size;
            scale = (double)a->add_scale;
        }
        lb_selftest_compare(t, i, out[i], sum * scale,
                            (a->n_used + (a->add ? 3.0 : 1.0)) * ULP * size * scale + TINY);
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
        *more = i + 1 < LB_LEN(route_cases) + LB_LEN(route_shapes);
        return i < LB_LEN(route_cases)
                   ? check_route(t, &route_cases[i], false, err)
                   : check_route_shape(t, route_shapes[i - LB_LEN(route_cases)], err);
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
