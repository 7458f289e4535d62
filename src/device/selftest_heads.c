/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_heads.c: parts of rows that move, factors on them, SparseMixer's choice. What lies
 * between the parts must be as it was. */
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

/* ---- move_heads ---- */

static const lb_move_args move_cases[] = {{1, 1, 1, 0, 1, 1, 0, 1, 1},
                                          {3, 4, 64, 5, 128, 600, 7, 80, 400},
                                          {2, 5, 16, 3, 0, 20, 0, 24, 120}, /* all have the same */
                                          {5, 3, 100, 100, 200, 700, 0, 100, 300}};

static u64 heads_end(u32 n_heads, u32 head, u32 n_cols) {
    return (u64)(n_heads - 1) * head + n_cols;
}

static lb_status check_move(lb_selftest *t, const lb_move_args *a, lb_err *err) {
    const u64 n_x =
        (u64)(a->n_tokens - 1) * a->stride + a->first + heads_end(a->n_heads, a->head, a->n_cols);
    const u64 n = (u64)(a->n_tokens - 1) * a->o_stride + a->o_first +
                  heads_end(a->n_heads, a->o_head, a->n_cols);
    float *x = lb_selftest_floats(t, n_x, 3), *was = lb_selftest_floats(t, n, 1);
    float *out = lb_selftest_floats(t, n, 0);
    if (!x || !was || !out)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{x, n_x * 4}, {was, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 r = 0; r < a->n_tokens; r++)
        for (u32 h = 0; h < a->n_heads; h++)
            memcpy(was + (u64)r * a->o_stride + a->o_first + (u64)h * a->o_head,
                   x + (u64)r * a->stride + a->first + (u64)h * a->head, a->n_cols * sizeof(float));
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, out[i], (double)was[i], 0);
    return LB_OK;
}

/* ---- times ---- */

static const lb_times_args times_cases[] = {{1, 1, 0, 1, 0, 1},
                                            {3, 255, 5, 262, 7, 300},
                                            {5, 64, 64, 192, 0, 64},
                                            {2, 1000, 1, 1001, 3, 1010}};

static lb_status check_times(lb_selftest *t, lb_dev_kernel k, const lb_times_args *a, lb_err *err) {
    const u64 n = (u64)(a->n_rows - 1) * a->stride + a->first + a->n_cols;
    const u64 n_y = (u64)(a->n_rows - 1) * a->y_stride + a->y_first + a->n_cols;
    float *x = lb_selftest_floats(t, n, 3), *y = lb_selftest_floats(t, n_y, 9);
    float *out = lb_selftest_floats(t, n, 0);
    double *bound = lb_arena_new(&t->arena, double, n);
    if (!x || !y || !out || !bound)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{y, n_y * 4}, {x, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 r = 0; r < a->n_rows; r++)
        for (u32 i = 0; i < a->n_cols; i++) {
            const u64 at = (u64)r * a->stride + a->first + i;
            float f = y[(u64)r * a->y_stride + a->y_first + i];
            if (k == LB_DK_times_sigmoid)
                lb_k_sigmoid_f32_ref(1, &f, &f);
            else if (k == LB_DK_times_silu)
                lb_k_silu_f32_ref(1, &f, &f);
            x[at] *= f;
            bound[at] = k == LB_DK_times_rows ? 0 : 12 * ULP * fabs((double)x[at]) + TINY;
        }
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, out[i], (double)x[i], bound[i]);
    return LB_OK;
}

/* ---- l2_norm_heads ---- */

static const lb_l2_args l2_cases[] = {{1, 1, 64, 0, 64, 0, 1e-6f, 1},
                                      {3, 20, 128, 256, 3000, 10, 1e-6f, 0.25f},
                                      {2, 9, 33, 7, 320, 4, 1e-5f, 2},
                                      {2, 2, 1000, 24, 2030, 2, 1e-6f, 0.5f}};

static lb_status check_l2(lb_selftest *t, const lb_l2_args *a, lb_err *err) {
    const u64 n = (u64)(a->n_tokens - 1) * a->stride + a->first + (u64)a->n_heads * a->n_cols;
    float *x = lb_selftest_floats(t, n, 4), *out = lb_selftest_floats(t, n, 0);
    double *bound = lb_arena_new(&t->arena, double, n);
    if (!x || !out || !bound)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{x, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 r = 0; r < a->n_tokens; r++)
        for (u32 h = 0; h < a->n_heads; h++) {
            float *at = x + (u64)r * a->stride + a->first + (u64)h * a->n_cols;
            lb_k_l2_norm_f32_ref(a->n_cols, at, at, a->eps);
            for (u32 i = 0; i < a->n_cols; i++) {
                at[i] *= h < a->n_times ? a->times : 1;
                bound[at - x + i] = (a->n_cols / 64.0 + 8) * ULP * fabs((double)at[i]) +
                                    TINY; /* half of the sum's */
            }
        }
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, out[i], (double)x[i], bound[i]);
    return LB_OK;
}

/* ---- route_two ---- */

static const lb_route_args two_cases[] = {
    {1, 2, 2, 0, 0, LB_DEV_ROUTE_MIXER, 0, 0, 0, 1},
    {3, 16, 2, 0, 0, LB_DEV_ROUTE_MIXER, 0, 0, 0, 1},
    {3, 32, 2, 0, 0, LB_DEV_ROUTE_MIXER, 0, 0, 0, 1},
    {3, 33, 2, 0, 0, LB_DEV_ROUTE_MIXER, 0, 0, 0, 1},
    {4, 34, 2, 0, 0, LB_DEV_ROUTE_MIXER, 0, 0, 0, 1},
    {2, 300, 2, 0, 0, LB_DEV_ROUTE_MIXER, 0, 0, 0, 1},
    {4, 1024, 2, 0, 0, LB_DEV_ROUTE_MIXER, 0, 0, 0, 1},
};

static u32 near_best(const lb_route_args *a, const float *score, u32 without, double *weight) {
    u32 best = a->n_experts;
    double sum = 0;
    for (u32 e = 0; e < a->n_experts; e++)
        if (e != without && (best == a->n_experts || score[e] > score[best] ||
                             (isnan(score[best]) && !isnan(score[e]))))
            best = e;
    for (u32 e = 0; e < a->n_experts; e++) {
        const float far = (score[best] - score[e]) / fmaxf(fabsf(score[e]), score[best]);
        float d = score[e] - score[best];
        lb_k_exp_f32_ref(1, &d, &d);
        if (e != without && !(far > 2 * LB_DEV_MIXER_NOISE))
            sum += (double)d;
    }
    *weight = 1 / sum;
    return best;
}

/* Scores that are near enough to the best one, and some that are equal; a third row has some NaN, a
 * fourth nothing else. */
static lb_status check_two(lb_selftest *t, const lb_route_args *a, lb_err *err) {
    const u64 n = (u64)a->n_tokens * a->n_experts, n_out = 4ull * a->n_tokens;
    float *score = lb_selftest_floats(t, n, 0.05f);
    u32 *out = lb_arena_new(&t->arena, u32, n_out);
    if (!score || !out)
        return no_memory(err);
    for (u64 i = 0; i < n; i++)
        score[i] = i % 7 == 3 ? 2.5f : 2.5f + score[i];
    for (u64 i = 2ull * a->n_experts; i < n; i++)
        score[i] = i % 5 == 0 || i >= 3ull * a->n_experts ? NAN : score[i];
    const lb_selftest_data bufs[] = {{score, n * 4}, {NULL, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 r = 0; r < a->n_tokens; r++) {
        u32 without = a->n_experts;
        for (u32 k = 0; k < 2; k++) {
            const u64 at = 4ull * r + 2 * k;
            double weight;
            without = near_best(a, score + (u64)r * a->n_experts, without, &weight);
            lb_selftest_compare(t, at, (float)out[at], (double)without, 0);
            lb_selftest_compare(t, at + 1, lb_f32_from_bits(out[at + 1]), weight,
                                (a->n_experts / 256.0 + 40) * ULP * weight);
        }
    }
    return LB_OK;
}

lb_status lb_selftest_heads(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    (void)snprintf(t->where, sizeof t->where, "case %u", i);
    *more = i + 1 < (k == LB_DK_route_two ? LB_LEN(two_cases) : 4); /* of all others 4 */
    if (k == LB_DK_route_two)
        return check_two(t, &two_cases[i], err);
    if (k == LB_DK_move_heads)
        return check_move(t, &move_cases[i], err);
    return k == LB_DK_l2_norm_heads ? check_l2(t, &l2_cases[i], err)
                                    : check_times(t, k, &times_cases[i], err);
}
