/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_state.c: convolutions through runs of several sequences: results and states against the
 * references' steps, token by token; decays and betas of delta nets. */
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

/* Runs over n tokens: the first begins a text, the last names a sequence that is not there. */
enum { RUNS = 3, SEQS = 4 };
typedef struct batch {
    u32 n;
    u32 runs[4 * RUNS];
    u32 *run; /* [n] */
    bool lost;
} batch;

static bool make_batch(lb_selftest *t, batch *b, u32 n, bool lost) {
    const u32 first = n / 4, second = n / 2;
    const u32 runs[] = {
        0, first, 2, 0, first, second, 0, 70, first + second, n - first - second, lost ? SEQS : 3,
        9};
    memcpy(b->runs, runs, sizeof runs);
    b->n = n;
    b->lost = lost;
    b->run = lb_arena_new(&t->arena, u32, n);
    for (u32 i = 0; b->run && i < n; i++)
        b->run[i] = i < first ? 0 : i < first + second ? 1 : 2;
    return b->run != NULL;
}

static bool run_is_there(const batch *b, u32 r) {
    return b->runs[4 * r + 2] < SEQS;
}

/* ---- convolutions ---- */

typedef struct conv_case {
    u32 n, channels, width;
    bool gated, silu, lost;
} conv_case;
static const conv_case conv_cases[] = {{1, 5, 3, true, false, false},
                                       {9, 300, 4, false, true, false},
                                       {13, 64, 3, true, false, true},
                                       {7, 256, 2, false, false, false},
                                       {40, 33, 6, true, true, false}};

typedef struct conv {
    lb_conv_args a;
    batch b;
    const float *x, *w, *bias;
    float *state, *want, *bound;
    u64 n_x, n_state;
} conv;

/* want, and states that go on; how far a result may be off. */
static void conv_reference(const conv *v, float *want, float *bound, float *state, float *in) {
    const lb_conv_args *a = &v->a;
    for (u32 t = 0; t < a->n_tokens; t++) {
        const u32 *run = v->b.runs + 4 * (u64)v->b.run[t], c_n = a->n_channels;
        const float *row = v->x + (u64)t * a->stride;
        const bool there = run_is_there(&v->b, v->b.run[t]);
        float *st = state + (there ? (u64)run[2] * a->state_stride + a->state_first : 0);
        if (there && t == run[0] && run[3] == 0)
            memset(st, 0, (u64)(a->width - 1) * c_n * sizeof *st);
        for (u32 c = 0; c < c_n; c++) {
            float size = fabsf(v->bias[c]);
            in[c] = a->gated ? row[a->first + c] * row[a->gate_in + c] : row[a->first + c];
            for (u32 k = 0; there && k < a->width; k++)
                size += fabsf((k + 1 < a->width ? st[(u64)k * c_n + c] : in[c]) *
                              v->w[(u64)c * a->width + k]);
            bound[(u64)t * c_n + c] = size;
        }
        float *to = want + (u64)t * c_n;
        for (u32 c = 0; c < c_n; c++)
            to[c] = NAN;
        if (!there)
            continue;
        lb_k_conv_step_f32_ref(c_n, a->width, to, st, in, v->w, v->bias);
        if (a->silu)
            lb_k_silu_f32_ref(c_n, to, to);
        for (u32 c = 0; a->gated && c < c_n; c++) {
            to[c] *= row[a->gate_out + c];
            bound[(u64)t * c_n + c] *= fabsf(row[a->gate_out + c]);
        }
    }
}

static bool make_conv(lb_selftest *t, const conv_case *k, conv *v) {
    const u32 c = k->channels;
    v->a = (lb_conv_args){.n_tokens = k->n,
                          .n_channels = c,
                          .width = k->width,
                          .first = 3,
                          .stride = 3 * c + 8,
                          .gated = k->gated,
                          .gate_in = c + 4,
                          .gate_out = 2 * c + 5,
                          .silu = k->silu,
                          .n_runs = RUNS,
                          .n_seqs = SEQS,
                          .state_first = 7,
                          .state_stride = (k->width - 1) * c + 10};
    v->n_x = (u64)k->n * v->a.stride;
    v->n_state = (u64)SEQS * v->a.state_stride;
    v->x = lb_selftest_floats(t, v->n_x, 2);
    v->w = lb_selftest_floats(t, (u64)c * k->width, 1);
    v->bias = lb_selftest_floats(t, c, 1);
    v->state = lb_selftest_floats(t, v->n_state, 2);
    v->want = lb_selftest_floats(t, (u64)k->n * c, 0);
    v->bound = lb_selftest_floats(t, (u64)k->n * c, 0);
    return v->x && v->w && v->bias && v->state && v->want && v->bound &&
           make_batch(t, &v->b, k->n, k->lost);
}

static lb_status check_conv(lb_selftest *t, const conv_case *k, bool keep, lb_err *err) {
    conv v;
    const u64 n = (u64)k->n * k->channels;
    if (!make_conv(t, k, &v))
        return no_memory(err);
    float *was = lb_selftest_floats(t, v.n_state, 0), *in = lb_selftest_floats(t, k->channels, 0);
    float *out = lb_selftest_floats(t, LB_MAX(n, v.n_state), 0);
    if (!was || !in || !out)
        return no_memory(err);
    memcpy(was, v.state, v.n_state * sizeof *was);
    conv_reference(&v, v.want, v.bound, v.state, in);
    const lb_selftest_data x = {v.x, v.n_x * 4}, runs = {v.b.runs, sizeof v.b.runs},
                           state = {was, v.n_state * 4};
    if (keep) {
        LB_TRY(lb_selftest_launch(t, (lb_selftest_data[]){x, runs, state}, &v.a, out, err));
        for (u64 i = 0; i < v.n_state; i++)
            lb_selftest_compare(t, i, out[i], (double)v.state[i], 0);
        return LB_OK;
    }
    const lb_selftest_data bufs[] = {x,
                                     {v.w, (u64)k->channels * k->width * 4},
                                     {v.bias, k->channels * 4ull},
                                     state,
                                     {v.b.run, k->n * 4ull},
                                     runs,
                                     {NULL, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, &v.a, out, err));
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, i, out[i], (double)v.want[i],
                            (k->width + 14.0) * ULP * (double)v.bound[i] + TINY);
    return LB_OK;
}

/* ---- gates ---- */

static const lb_gates_args gates_cases[] = {{1, 2, 0, 2, 4, 2, 0},
                                            {3, 48, 7, 60, 110, 48, 0},
                                            {5, 32, 3, 5, 70, 2, 4}, /* beta and alpha in turn */
                                            {2, 300, 0, 300, 600, 300, 0}};

static lb_status check_gates(lb_selftest *t, const lb_gates_args *a, lb_err *err) {
    const u64 n_x = (u64)a->n_tokens * a->stride, n = 2ull * a->n_tokens * a->n_heads;
    float *x = lb_selftest_floats(t, n_x, 25), *out = lb_selftest_floats(t, n, 0);
    float *decay = lb_selftest_floats(t, a->n_heads, 8), *dt = lb_selftest_floats(t, a->n_heads, 2);
    if (!x || !out || !decay || !dt)
        return no_memory(err);
    for (u32 h = 0; h < a->n_heads; h++)
        decay[h] = -fabsf(decay[h]);
    const lb_selftest_data bufs[] = {
        {x, n_x * 4}, {decay, a->n_heads * 4ull}, {dt, a->n_heads * 4ull}, {NULL, n * 4}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    for (u64 i = 0; i < n / 2; i++) {
        const u32 h = (u32)(i % a->n_heads);
        const float *row = x + i / a->n_heads * a->stride + h / a->group * a->step + h % a->group;
        const double v = (double)row[a->alpha] + (double)dt[h];
        const double plus = v > 0 ? v + log1p(exp(-v)) : log1p(exp(v));
        const double want = exp((double)decay[h] * plus);
        float beta = row[a->beta];
        lb_k_sigmoid_f32_ref(1, &beta, &beta);
        /* of the exponent: the sum's rounding and a few of softplus' own; then of e^x */
        const double off = fabs((double)decay[h]) * (8 * plus + 2 * fabs(v) + 1) + 8;
        lb_selftest_compare(t, 2 * i, out[2 * i], want, off * ULP * want + TINY);
        lb_selftest_compare(t, 2 * i + 1, out[2 * i + 1], (double)beta,
                            8 * ULP * (double)beta + TINY);
    }
    return LB_OK;
}

lb_status lb_selftest_state(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    (void)snprintf(t->where, sizeof t->where, "case %u", i);
    if (k == LB_DK_delta_gates) {
        *more = i + 1 < LB_LEN(gates_cases);
        return check_gates(t, &gates_cases[i], err);
    }
    *more = i + 1 < LB_LEN(conv_cases);
    return check_conv(t, &conv_cases[i], k == LB_DK_conv_keep, err);
}
