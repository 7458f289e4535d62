/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_maps.c: what is done in place with rows that lie apart, and activations. What lies
 * between the rows must be as it was. */
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY
#define ALPHA LB_SELFTEST_ALPHA
#define LIMIT LB_SELFTEST_LIMIT

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

/* What is compared: where, how far a result may be off. */
typedef struct wanted {
    float *value;
    double *bound;
} wanted;

/* Nothing is changed yet. */
static bool wanted_init(lb_selftest *t, wanted *w, const float *x, u64 n) {
    w->value = lb_selftest_floats(t, n, 0);
    w->bound = lb_arena_new(&t->arena, double, n);
    if (!w->value || !w->bound)
        return false;
    memcpy(w->value, x, n * sizeof *x);
    return true;
}

static void compare_all(lb_selftest *t, const wanted *w, const float *y, u64 n) {
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, y[i], (double)w->value[i], w->bound[i]);
}

/* ---- in place ---- */

typedef struct vec_shape {
    u32 n_rows, n_cols, first, gap;
} vec_shape;
static const vec_shape vec_shapes[] = {
    {1, 1, 0, 0}, {3, 255, 5, 2}, {1, 257, 0, 0}, {5, 64, 64, 64}, {2, 1000, 1, 0}};

typedef struct vec_case {
    lb_vec_args a;
    const float *y, *gate;
} vec_case;

static void want_row(lb_dev_kernel k, const vec_case *v, u32 r, const wanted *w, u64 at) {
    const lb_vec_args *a = &v->a;
    float gate = 0;
    if (k == LB_DK_add_gated)
        lb_k_sigmoid_f32_ref(1, &gate, v->gate + r);
    for (u32 i = 0; i < a->n_cols; i++) {
        float *x = w->value + at + i;
        double *bound = w->bound + at + i;
        const float was = *x;
        switch (k) {
        case LB_DK_bias_add:
            *x = was + v->y[i];
            break;
        case LB_DK_residual:
            *x =
                fmaf(v->y[(a->y_stride ? (u64)r * a->y_stride : at) + i], a->times, was) * a->scale;
            break;
        case LB_DK_scale:
            *x = was * a->times;
            break;
        case LB_DK_scale_rows:
            *x = was * v->y[r];
            break;
        case LB_DK_softcap:
            lb_k_softcap_f32_ref(1, x, &was, a->scale);
            *bound = 16 * ULP * fabs((double)*x) + TINY;
            break;
        default: /* add_gated */
            *x = fmaf(v->y[(u64)r * a->n_cols + i], gate, was);
            *bound = 16 * ULP * (fabs((double)v->y[(u64)r * a->n_cols + i]) + fabs((double)was));
        }
    }
}

static lb_status check_vec(lb_selftest *t, lb_dev_kernel k, const vec_shape *s, lb_err *err) {
    vec_case v = {.a = {.n_rows = s->n_rows,
                        .n_cols = s->n_cols,
                        .first = s->first,
                        .stride = s->first + s->n_cols + s->gap,
                        .times = 1.25f,
                        .scale = k == LB_DK_softcap ? 30.0f : 0.75f,
                        .y_stride = k == LB_DK_residual && s->first ? s->n_cols + 3 : 0}};
    const u64 n = (u64)(s->n_rows - 1) * v.a.stride + s->first + s->n_cols;
    const u64 n_y = v.a.y_stride            ? (u64)(s->n_rows - 1) * v.a.y_stride + s->n_cols
                    : k == LB_DK_residual   ? n
                    : k == LB_DK_bias_add   ? s->n_cols
                    : k == LB_DK_scale_rows ? s->n_rows
                                            : (u64)s->n_rows * s->n_cols;
    float *x = lb_selftest_floats(t, n, 40), *out = lb_selftest_floats(t, n, 0);
    wanted w;
    v.y = lb_selftest_floats(t, n_y, 3);
    v.gate = lb_selftest_floats(t, s->n_rows, 8);
    if (!x || !out || !v.y || !v.gate || !wanted_init(t, &w, x, n))
        return no_memory(err);
    const lb_selftest_data xs = {x, n * 4}, ys = {v.y, n_y * 4}, gates = {v.gate, s->n_rows * 4ull};
    const lb_selftest_data one[] = {xs}, two[] = {ys, xs}, three[] = {gates, ys, xs};
    const bool alone = k == LB_DK_scale || k == LB_DK_softcap;
    LB_TRY(lb_selftest_launch(t, alone ? one : k == LB_DK_add_gated ? three : two, &v.a, out, err));
    for (u32 r = 0; r < s->n_rows; r++)
        want_row(k, &v, r, &w, (u64)r * v.a.stride + s->first);
    compare_all(t, &w, out, n);
    return LB_OK;
}

/* ---- norms of heads ---- */

static const lb_heads_args head_shapes[] = {
    {1, 1, 64, 0, 64, 0, 1e-5f},
    {3, 4, 128, 256, 800, 0, 1e-6f},
    {2, 3, 80, 0, 250, 80, 1e-5f},
    {2, 1, 1000, 24, 1024, 0, 1e-5f},
};

static lb_status check_heads(lb_selftest *t, const lb_heads_args *a, bool layer, lb_err *err) {
    const u64 n = (u64)(a->n_tokens - 1) * a->stride + a->first + (u64)a->n_heads * a->n_cols;
    const u64 n_w = (u64)(a->n_heads - 1) * a->w_stride + a->n_cols;
    float *x = lb_selftest_floats(t, n, 4), *out = lb_selftest_floats(t, n, 0);
    float *weights = lb_selftest_floats(t, n_w, 2), *b = lb_selftest_floats(t, n_w, 1);
    wanted w;
    if (!x || !out || !weights || !b || !wanted_init(t, &w, x, n))
        return no_memory(err);
    const lb_selftest_data xs = {x, n * 4}, ws = {weights, n_w * 4}, bs = {b, n_w * 4};
    const lb_selftest_data rms[] = {ws, xs}, both[] = {ws, bs, xs};
    LB_TRY(lb_selftest_launch(t, layer ? both : rms, a, out, err));
    for (u32 token = 0; token < a->n_tokens; token++)
        for (u32 h = 0; h < a->n_heads; h++) {
            const u64 at = (u64)token * a->stride + a->first + (u64)h * a->n_cols;
            const u64 w_at = (u64)h * a->w_stride;
            float *to = w.value + at;
            double mean = 0, squares = 0;
            if (layer)
                lb_k_layer_norm_f32_ref(a->n_cols, to, x + at, weights + w_at, b + w_at, a->eps);
            else
                lb_k_rms_norm_f32_ref(a->n_cols, to, x + at, weights + w_at, a->eps);
            for (u32 i = 0; i < a->n_cols; i++)
                mean += (double)x[at + i] / a->n_cols;
            for (u32 i = 0; i < a->n_cols; i++) {
                const double d = (double)x[at + i] - (layer ? mean : 0);
                squares += d * d / a->n_cols;
            }
            for (u32 i = 0; i < a->n_cols; i++) /* roundings as in selftest_others.c */
                w.bound[at + i] = ((double)(a->n_cols / 256) + 32) * ULP *
                                      ((fabs((double)x[at + i]) + 4) / sqrt(squares) *
                                           fabs((double)weights[w_at + i]) +
                                       (layer ? fabs((double)b[w_at + i]) : 0)) +
                                  TINY;
        }
    compare_all(t, &w, out, n);
    return LB_OK;
}

/* ---- activations ---- */

static const lb_act_args act_shapes[] = {{1, 1, 0, 1, 2, 1, ALPHA, LIMIT},
                                         {3, 255, 0, 255, 510, 1, ALPHA, LIMIT},
                                         {2, 256, 0, 0, 256, 0, ALPHA, LIMIT},
                                         {2, 1000, 1000, 0, 2003, 1, ALPHA, LIMIT},
                                         {4, 64, 5, 0, 80, 0, ALPHA, LIMIT}};

void lb_selftest_act(lb_dev_kernel act, u32 n, float *out, const float *gate, const float *up) {
    switch (act) {
    case LB_DK_act_silu:
        up ? lb_k_silu_mul_f32_ref(n, out, gate, up) : lb_k_silu_f32_ref(n, out, gate);
        return;
    case LB_DK_act_gelu:
        up ? lb_k_gelu_mul_f32_ref(n, out, gate, up) : lb_k_gelu_f32_ref(n, out, gate);
        return;
    case LB_DK_act_gelu_erf:
        up ? lb_k_gelu_erf_mul_f32_ref(n, out, gate, up) : lb_k_gelu_erf_f32_ref(n, out, gate);
        return;
    case LB_DK_act_relu2:
        up ? lb_k_relu2_mul_f32_ref(n, out, gate, up) : lb_k_relu2_f32_ref(n, out, gate);
        return;
    default:
        lb_k_swiglu_oai_mul_f32_ref(n, out, gate, up ? up : gate, ALPHA, LIMIT);
    }
}

/* The exponent has a few roundings of its own size, which e^u turns into relative ones; up + 1 has
 * one of 1's size. */
double lb_selftest_act_bound(lb_dev_kernel act, float gate, float want) {
    const double v = fabs((double)gate);
    const double u = act == LB_DK_act_gelu       ? 1.6 * (v + 0.045 * v * v * v)
                     : act == LB_DK_act_gelu_erf ? v * v / 2
                                                 : v;
    const double size = act == LB_DK_act_oai ? LB_MIN(v, (double)LIMIT) : 0;
    return (24 + 8 * u) * ULP * (fabs((double)want) + 2 * size) + TINY;
}

static lb_status check_act(lb_selftest *t, lb_dev_kernel k, const lb_act_args *a, lb_err *err) {
    const u32 last = a->gated ? LB_MAX(a->first, a->second) : a->first;
    const u64 n = (u64)(a->n_rows - 1) * a->stride + last + a->n_cols;
    const u64 n_out = (u64)a->n_rows * a->n_cols;
    float *x = lb_selftest_floats(t, n, 12), *out = lb_selftest_floats(t, n_out, 0);
    float *want = lb_selftest_floats(t, n_out, 0);
    if (!x || !out || !want)
        return no_memory(err);
    if (a->n_cols > 8) {
        x[a->first + 3] = 0;
        x[a->first + 4] = -90;
        x[a->first + 5] = 80;
    }
    const lb_selftest_data bufs[] = {{x, n * 4}, {NULL, n_out * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u32 r = 0; r < a->n_rows; r++) {
        const float *row = x + (u64)r * a->stride;
        lb_selftest_act(k, a->n_cols, want + (u64)r * a->n_cols, row + a->first,
                        a->gated ? row + a->second : NULL);
        for (u32 i = 0; i < a->n_cols; i++) {
            const u64 at = (u64)r * a->n_cols + i;
            lb_selftest_compare(t, at, out[at], (double)want[at],
                                lb_selftest_act_bound(k, row[a->first + i], want[at]));
        }
    }
    return LB_OK;
}

lb_status lb_selftest_maps(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    (void)snprintf(t->where, sizeof t->where, "shape %u", i);
    switch (k) {
    case LB_DK_rms_norm_heads:
    case LB_DK_layer_norm_heads:
        *more = i + 1 < LB_LEN(head_shapes);
        return check_heads(t, &head_shapes[i], k == LB_DK_layer_norm_heads, err);
    case LB_DK_act_silu:
    case LB_DK_act_gelu:
    case LB_DK_act_gelu_erf:
    case LB_DK_act_relu2:
    case LB_DK_act_oai:
        *more = i + 1 < LB_LEN(act_shapes);
        return check_act(t, k, &act_shapes[i], err);
    case LB_DK_bias_add:
    case LB_DK_residual:
    case LB_DK_scale:
    case LB_DK_scale_rows:
    case LB_DK_softcap:
    case LB_DK_add_gated:
        *more = i + 1 < LB_LEN(vec_shapes);
        return check_vec(t, k, &vec_shapes[i], err);
    default:
        *more = false;
        return lb_fail(err, LB_E_UNSUPPORTED, "kernel %s: the self-test does not know it",
                       lb_dev_kernel_name(k));
    }
}
