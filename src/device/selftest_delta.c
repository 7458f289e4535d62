/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_delta.c: gated delta nets through runs of several sequences: results and states against
 * the reference's steps, token by token, whether a kernel takes them one by one or in chunks. */
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP

/* Runs: the first begins a text, the last may name a sequence that is not there. */
enum { RUNS = 3, SEQS = 4 };
enum { ANY, LONG, MIXED }; /* decays: of any size, near 1, and with some that are 0 or nearly */

typedef struct delta_case {
    u32 n[RUNS]; /* tokens of each */
    u32 n_k, n_v, k_dim, v_dim;
    u32 decays;
    bool tiled, lost;
    bool alike; /* each token's keys are nearly those of the one before */
} delta_case;
static const delta_case steps_cases[] = {{{0, 0, 1}, 1, 1, 16, 16, ANY, false, false, false},
                                         {{1, 3, 2}, 2, 4, 32, 40, ANY, false, false, false},
                                         {{2, 4, 3}, 2, 4, 128, 64, MIXED, true, true, false},
                                         {{1, 2, 2}, 1, 3, 100, 33, LONG, false, false, false},
                                         {{1, 2, 1}, 1, 1, 256, 32, ANY, false, false, false}};
/* Less than a chunk, one, one and a token, several. */
#define C LB_DEV_DELTA_CHUNK
static const delta_case chunks_cases[] = {
    {{1, C + 1, 3 * C + 5}, 1, 2, 32, 40, ANY, false, false, false},
    {{C, C - 1, C + 1}, 2, 4, 128, 64, MIXED, true, true, false},
    {{3 * C + 5, 1, C - 1}, 1, 1, 16, 16, LONG, false, false, true},
    {{C - 1, 2 * C, 3}, 1, 3, 100, 33, MIXED, false, false, false},
    {{2 * C, 3 * C + 5, 0}, 1, 1, 256, 32, LONG, false, false, true},
    {{0, 5, 5 * C}, 1, 2, 128, 128, LONG, false, false, true},
    {{2 * C + 1, 0, C}, 1, 1, 200, 16, ANY, false, true, false},
    {{600, 37, 256}, 4, 8, 128, 128, LONG, false, false, false}}; /* large */

/* Of a column of a state: how far it may be off (a length), and the size of what is added up: the
 * column before the chunk and what its tokens have put in. */
typedef struct column {
    double off, size;
} column;

typedef struct delta {
    lb_delta_args a;
    u32 runs[4 * RUNS];
    u32 span; /* tokens that a kernel has at a time */
    float *x, *gates, *state, *want;
    float *off, *state_off; /* as want and state: how far they may be off */
    column *column;         /* [v_dim], of one head */
    u64 n_x, n_gates, n_state, n_out;
} delta;

static float decay_of(lb_selftest *t, u32 decays) {
    const u32 way = lb_selftest_u32(t) % 8;
    const float v = 0.5f + 0.5f * lb_selftest_float(t);
    if (decays == LONG)
        return 1.0f - v * (way == 0 ? 0.1f : way < 4 ? 0.01f : 1e-5f);
    if (decays == MIXED && way < 2)
        return way == 0 ? 0.0f : 1e-30f * v;
    return decays == MIXED && way < 6 ? 1.0f - 0.1f * v : v;
}

static void make_runs(const delta_case *k, delta *v) {
    const u32 seq[RUNS] = {2, 0, k->lost ? SEQS : 3}, pos[RUNS] = {0, 70, 9};
    for (u32 r = 0, first = 0; r < RUNS; first += k->n[r++])
        memcpy(v->runs + 4 * (u64)r, (u32[]){first, k->n[r], seq[r], pos[r]}, 16);
}

static bool make_delta(lb_selftest *t, const delta_case *k, delta *v) {
    const u32 row = 2 * k->n_k * k->k_dim + k->n_v * k->v_dim, all = k->n_v * k->k_dim * k->v_dim;
    const u32 n = k->n[0] + k->n[1] + k->n[2];
    v->a = (lb_delta_args){.n_tokens = n,
                           .n_k = k->n_k,
                           .n_v = k->n_v,
                           .k_dim = k->k_dim,
                           .v_dim = k->v_dim,
                           .tiled = k->tiled,
                           .stride = row + 5,
                           .n_runs = RUNS,
                           .n_seqs = SEQS,
                           .state_first = 11,
                           .state_stride = all + 13};
    v->span = t->row->kernel == LB_DK_delta_chunks ? C : 1;
    v->n_x = (u64)n * v->a.stride;
    v->n_gates = 2ull * n * k->n_v;
    v->n_state = (u64)SEQS * v->a.state_stride;
    v->n_out = (u64)n * k->n_v * k->v_dim;
    v->x = lb_selftest_floats(t, v->n_x, 1.7f / sqrtf((float)k->k_dim)); /* q and k of length 1 */
    v->gates = lb_selftest_floats(t, v->n_gates, 0.5f);
    v->state = lb_selftest_floats(t, v->n_state, 1);
    v->want = lb_selftest_floats(t, v->n_out, 0);
    v->off = lb_selftest_floats(t, v->n_out, 0);
    v->state_off = lb_selftest_floats(t, v->n_state, 0);
    v->column = lb_arena_new(&t->arena, column, k->v_dim);
    for (u64 i = v->a.stride; v->x && k->alike && i < v->n_x; i++)
        v->x[i] = 0.9f * v->x[i - v->a.stride] + 0.43f * v->x[i]; /* the size stays */
    for (u64 i = 0; v->gates && i < v->n_gates; i += 2) {
        v->gates[i] = decay_of(t, k->decays);
        v->gates[i + 1] += 0.5f;
    }
    make_runs(k, v);
    return v->x && v->gates && v->state && v->want && v->off && v->state_off && v->column;
}

static double length(const float *v, u32 n, u64 stride) {
    double sum = 0;
    for (u32 i = 0; i < n; i++)
        sum += (double)v[i * stride] * (double)v[i * stride];
    return sqrt(sum);
}

/* What one more token makes of it; in->v is the column's. Keys are no longer than the root of 2, so
 * that what a token leaves of a state, decay (1 - beta k k), lets no error grow; it adds roundings
 * of two sums, the reference's and the kernel's, of n_terms at most. Returns how far its result may
 * be off. */
static double carry(column *c, const lb_delta *in, const float *s, const lb_delta_args *a,
                    u32 n_terms) {
    const double key = length(in->k, a->k_dim, 1), step = 2.0 * n_terms * ULP;
    const double v = (double)*in->v, beta = (double)*in->beta, decay = (double)*in->decay;
    double dot = 0;
    for (u32 i = 0; i < a->k_dim; i++)
        dot += (double)in->k[i] * (double)s[(u64)i * a->v_dim];
    const double put = key * fabs(beta * (v - decay * dot));
    c->size += put;
    c->off = decay * c->off + step * (beta * key * (key * c->size + fabs(v)) + put);
    c->off += 8 * ULP * c->size;
    return length(in->q, a->k_dim, 1) * (c->off + step * c->size);
}

/* One head's run: want, the state behind it, and what both may be off by. */
static void reference_run(const delta *v, const u32 *run, u32 h) {
    const lb_delta_args *a = &v->a;
    const u32 key = a->tiled ? h % a->n_k : h / (a->n_v / a->n_k);
    const u64 size = (u64)a->k_dim * a->v_dim;
    float *st = v->state + (u64)run[2] * a->state_stride + a->state_first + h * size;
    if (run[3] == 0 && run[1])
        memset(st, 0, size * sizeof *st);
    for (u32 c = 0; c < a->v_dim; c++)
        v->column[c] = (column){0, 0};
    for (u32 i = 0; i < run[1]; i++) {
        const u64 t = run[0] + (u64)i, to = (t * a->n_v + h) * a->v_dim;
        const float *x = v->x + t * a->stride, *g = v->gates + 2 * (t * a->n_v + h);
        lb_delta in = {.q = x + (u64)key * a->k_dim,
                       .k = x + (u64)(a->n_k + key) * a->k_dim,
                       .v = x + 2ull * a->n_k * a->k_dim + (u64)h * a->v_dim,
                       .decay = g,
                       .beta = g + 1};
        const float *values = in.v;
        for (u32 c = 0; c < a->v_dim; c++) {
            if (i % v->span == 0)
                v->column[c].size = length(st + c, a->k_dim, a->v_dim);
            in.v = values + c;
            v->off[to + c] =
                (float)carry(&v->column[c], &in, st + c, a, a->k_dim + 3 * v->span + 12);
        }
        in.v = values;
        lb_k_delta_steps_f32_ref(1, a->k_dim, a->v_dim, st, v->want + to, &in);
    }
    for (u64 i = 0; i < size; i++)
        v->state_off[st - v->state + (i64)i] = (float)v->column[i % a->v_dim].off;
}

/* Results of a run that is not there are not written: the bytes that were there are NaN. */
static void reference(const delta *v) {
    const lb_delta_args *a = &v->a;
    const u64 row = (u64)a->n_v * a->v_dim;
    for (u32 r = 0; r < RUNS; r++) {
        const u32 *run = v->runs + 4 * (u64)r;
        for (u32 h = 0; h < a->n_v && run[2] < SEQS; h++)
            reference_run(v, run, h);
        for (u64 i = run[0] * row; run[2] >= SEQS && i < (run[0] + (u64)run[1]) * row; i++)
            v->want[i] = NAN;
    }
}

static lb_status check(lb_selftest *t, const delta_case *k, lb_err *err) {
    delta v;
    if (!make_delta(t, k, &v))
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    float *was = lb_selftest_floats(t, v.n_state, 0), *out = lb_selftest_floats(t, v.n_out, 0);
    float *state = lb_selftest_floats(t, v.n_state, 0);
    if (!was || !out || !state)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    memcpy(was, v.state, v.n_state * sizeof *was);
    reference(&v);
    const lb_selftest_data bufs[] = {{v.x, v.n_x * 4},
                                     {v.gates, v.n_gates * 4},
                                     {v.runs, sizeof v.runs},
                                     {was, v.n_state * 4},
                                     {NULL, v.n_out * 4}};
    void *const outs[LB_DEV_BUFS_MAX] = {[3] = state, [4] = out};
    LB_TRY(lb_selftest_launch_all(t, bufs, &v.a, outs, err));
    for (u64 i = 0; i < v.n_out; i++)
        lb_selftest_compare(t, i, out[i], (double)v.want[i], (double)v.off[i]);
    for (u64 i = 0; i < v.n_state; i++) /* what no run has changed has a bound of 0 */
        lb_selftest_compare(t, v.n_out + i, state[i], (double)v.state[i], (double)v.state_off[i]);
    return LB_OK;
}

lb_status lb_selftest_delta(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const bool chunks = t->row->kernel == LB_DK_delta_chunks;
    const u32 n = chunks ? (u32)LB_LEN(chunks_cases) - !t->opts->large : LB_LEN(steps_cases);
    (void)snprintf(t->where, sizeof t->where, "case %u", i);
    *more = i + 1 < n;
    return check(t, chunks ? &chunks_cases[i] : &steps_cases[i], err);
}
