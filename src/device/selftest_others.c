/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_others.c: norms, softmax, argmax, positions, sums, against the references. */
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

/* Roundings of a sum of n values by a threadgroup of 256, in its order; and a few around it. */
static double sum_roundings(u32 n) {
    return (double)(n / 256) + 32;
}

typedef struct row_shape {
    u32 n_rows, n_cols;
} row_shape;

static const row_shape row_shapes[] = {{1, 1}, {3, 300}, {2, 576}, {1, 31}, {2, 1025}, {5, 8192}};
enum { N_ROW_SHAPES = 6 };

static lb_status check_norm(lb_selftest *t, row_shape s, bool layer, lb_err *err) {
    const u64 n = (u64)s.n_rows * s.n_cols;
    const lb_row_args a = {s.n_rows, s.n_cols, 1e-5f};
    float *x = lb_selftest_floats(t, n, 4), *w = lb_selftest_floats(t, s.n_cols, 2);
    float *b = lb_selftest_floats(t, s.n_cols, 1), *y = lb_selftest_floats(t, n, 0);
    float *want = lb_selftest_floats(t, s.n_cols, 0);
    if (!x || !w || !b || !y || !want)
        return no_memory(err);
    for (u64 i = 0; i < n; i++)
        x[i] += 0.75f; /* a mean that is not 0 */
    const lb_selftest_data rms[] = {{x, n * 4}, {w, s.n_cols * 4u}, {NULL, n * 4}};
    const lb_selftest_data four[] = {
        {x, n * 4}, {w, s.n_cols * 4u}, {b, s.n_cols * 4u}, {NULL, n * 4}};
    LB_TRY(lb_selftest_launch(t, layer ? four : rms, &a, y, err));
    for (u32 r = 0; r < s.n_rows; r++) {
        const float *xr = x + (u64)r * s.n_cols;
        double mean = 0, squares = 0;
        for (u32 i = 0; i < s.n_cols; i++) {
            mean += fabs((double)xr[i]) / s.n_cols;
            squares += (double)xr[i];
        }
        const double centre = layer ? squares / s.n_cols : 0;
        squares = 0;
        for (u32 i = 0; i < s.n_cols; i++)
            squares += ((double)xr[i] - centre) * ((double)xr[i] - centre);
        const double scale = 1 / sqrt(squares / s.n_cols + (double)a.eps);
        if (layer)
            lb_k_layer_norm_f32_ref(s.n_cols, want, xr, w, b, a.eps);
        else
            lb_k_rms_norm_f32_ref(s.n_cols, want, xr, w, a.eps);
        for (u32 i = 0; i < s.n_cols; i++) {
            const double size =
                (fabs((double)xr[i]) + (layer ? mean : 0)) * scale * fabs((double)w[i]) +
                (layer ? fabs((double)b[i]) : 0);
            lb_selftest_compare(t, (u64)r * s.n_cols + i, y[(u64)r * s.n_cols + i], (double)want[i],
                                sum_roundings(s.n_cols) * ULP * size + TINY);
        }
    }
    return LB_OK;
}

/* variant 1: a value of -Inf, 2: a row of them, 3: a NaN in another row. */
static lb_status check_softmax(lb_selftest *t, row_shape s, u32 variant, lb_err *err) {
    const u64 n = (u64)s.n_rows * s.n_cols;
    const lb_row_args a = {s.n_rows, s.n_cols, 0};
    float *x = lb_selftest_floats(t, n, 30), *y = lb_selftest_floats(t, n, 0);
    if (!x || !y)
        return no_memory(err);
    for (u32 i = 0; variant == 2 && i < s.n_cols; i++)
        x[i] = -(float)INFINITY;
    if (variant == 1)
        x[n / 2] = -(float)INFINITY;
    if (variant == 3)
        x[n - 1] = (float)NAN;
    const lb_selftest_data bufs[] = {{x, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, y, err));
    for (u32 r = 0; r < s.n_rows; r++) {
        float *xr = x + (u64)r * s.n_cols;
        const float max = lb_k_max_f32_ref(s.n_cols, xr);
        float *before = lb_selftest_floats(t, s.n_cols, 0);
        if (!before)
            return no_memory(err);
        memcpy(before, xr, s.n_cols * sizeof *xr);
        lb_k_softmax_f32_ref(s.n_cols, xr);
        for (u32 i = 0; i < s.n_cols; i++) {
            const double c = sum_roundings(s.n_cols) + fabs((double)before[i] - (double)max);
            lb_selftest_compare(t, (u64)r * s.n_cols + i, y[(u64)r * s.n_cols + i], (double)xr[i],
                                isfinite(c) ? c * ULP * (double)xr[i] + TINY : 0);
        }
    }
    return LB_OK;
}

/* variant 1: the largest twice, 2: NaN among them, 3: nothing but NaN or -Inf. */
static lb_status check_argmax(lb_selftest *t, row_shape s, u32 variant, lb_err *err) {
    const u64 n = (u64)s.n_rows * s.n_cols;
    const lb_row_args a = {s.n_rows, s.n_cols, 0};
    float *x = lb_selftest_floats(t, n, 30);
    u32 *y = lb_arena_new(&t->arena, u32, s.n_rows);
    if (!x || !y)
        return no_memory(err);
    for (u64 i = 0; i < n; i++) {
        if (variant == 1 && i % 7 == 3)
            x[i] = 31;
        if (variant == 2 && i % 5 == 0)
            x[i] = (float)NAN;
        if (variant == 3)
            x[i] = i % 2 && i / s.n_cols == 0 ? -(float)INFINITY : (float)NAN;
    }
    const lb_selftest_data bufs[] = {{x, n * 4}, {NULL, s.n_rows * 4u}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, y, err));
    for (u32 r = 0; r < s.n_rows; r++) {
        const float *xr = x + (u64)r * s.n_cols;
        u32 best = UINT32_MAX;
        for (u32 i = 0; i < s.n_cols; i++)
            if (!isnan(xr[i]) && (best == UINT32_MAX || xr[i] > xr[best]))
                best = i;
        lb_selftest_compare(t, r, (float)y[r], best == UINT32_MAX ? 0 : (double)best, 0);
    }
    return LB_OK;
}

/* Rows lie apart: what is not a head's is as it was. */
static lb_status check_rope(lb_selftest *t, const lb_rope_args *a, lb_err *err) {
    const u64 per = (u64)a->n_heads * a->head_dim, stride = a->stride ? a->stride : per;
    const u64 n = (a->n_tokens - 1) * stride + a->first + per;
    const u64 n_angles = (u64)a->n_tokens * (a->n_rot / 2);
    float *x = lb_selftest_floats(t, n, 3), *y = lb_selftest_floats(t, n, 0);
    float *c = lb_selftest_floats(t, n_angles, 1), *s = lb_selftest_floats(t, n_angles, 1);
    float *size = lb_selftest_floats(t, n, 0);
    if (!x || !y || !c || !s || !size)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{c, n_angles * 4}, {s, n_angles * 4}, {x, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, y, err));
    for (u32 token = 0; token < a->n_tokens; token++) {
        const u64 half = a->n_rot / 2, at = token * stride + a->first;
        for (u64 i = 0; i < per; i++) /* of a pair: no more than twice the larger of the head */
            for (u32 j = 0; j < a->head_dim; j++)
                size[at + i] =
                    fmaxf(size[at + i], fabsf(x[at + i / a->head_dim * a->head_dim + j]));
        (a->pairs ? lb_k_rope_pairs_f32_ref : lb_k_rope_half_f32_ref)(
            a->n_heads, a->head_dim, a->n_rot, x + at, c + token * half, s + token * half);
    }
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, y[i], (double)x[i], 3 * ULP * (double)size[i]);
    return LB_OK;
}

static lb_status check_add(lb_selftest *t, u32 n, lb_err *err) {
    const lb_map_args a = {n};
    float *x = lb_selftest_floats(t, n, 12), *up = lb_selftest_floats(t, n, 3);
    float *y = lb_selftest_floats(t, n, 0), *want = lb_selftest_floats(t, n, 0);
    if (!x || !up || !y || !want)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{x, n * 4ull}, {up, n * 4ull}, {NULL, n * 4ull}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, y, err));
    lb_k_map_add_f32_ref(n, want, x, up);
    for (u32 i = 0; i < n; i++)
        lb_selftest_compare(t, i, y[i], (double)want[i], 0);
    return LB_OK;
}

static const lb_rope_args rope_shapes[] = {
    {1, 1, 2, 2, 0, 0, 0},         {3, 5, 64, 64, 0, 0, 0},   {2, 4, 80, 32, 1, 0, 0},
    {1, 40, 128, 128, 0, 0, 5121}, {2, 3, 64, 64, 1, 7, 200}, {3, 2, 96, 64, 0, 192, 400},
};
static const u32 map_sizes[] = {1, 255, 256, 5000};

lb_status lb_selftest_others(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    if (k == LB_DK_rope) {
        const lb_rope_args *a = &rope_shapes[i];
        *more = i + 1 < LB_LEN(rope_shapes);
        (void)snprintf(t->where, sizeof t->where, "%u tokens, %u heads of %u, %u turned%s",
                       a->n_tokens, a->n_heads, a->head_dim, a->n_rot, a->pairs ? ", pairs" : "");
        return check_rope(t, a, err);
    }
    if (k == LB_DK_add) {
        *more = i + 1 < LB_LEN(map_sizes);
        (void)snprintf(t->where, sizeof t->where, "%u values", map_sizes[i]);
        return check_add(t, map_sizes[i], err);
    }
    /* softmax and argmax: every shape with four kinds of values */
    const u32 n_variants = k == LB_DK_softmax || k == LB_DK_argmax ? 4 : 1;
    const row_shape s = row_shapes[i / n_variants];
    *more = i + 1 < N_ROW_SHAPES * n_variants;
    (void)snprintf(t->where, sizeof t->where, "[%u,%u], values %u", s.n_rows, s.n_cols,
                   i % n_variants);
    switch (k) {
    case LB_DK_rms_norm:
        return check_norm(t, s, false, err);
    case LB_DK_layer_norm:
        return check_norm(t, s, true, err);
    case LB_DK_softmax:
        return check_softmax(t, s, i % 4, err);
    case LB_DK_argmax:
        return check_argmax(t, s, i % 4, err);
    default:
        *more = false;
        return lb_fail(err, LB_E_UNSUPPORTED, "kernel %s: the self-test does not know it",
                       lb_dev_kernel_name(k));
    }
}
