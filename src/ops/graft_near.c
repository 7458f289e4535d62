/* SPDX-License-Identifier: Apache-2.0 */
/* graft_near.c: tokens by their nearest neighbours among those that both models know
 * (common_interpolation): neighbours and weights in the donor's space, the weights on the model's
 * rows.
 *
 * Products of f32 find a few more neighbours than are wanted; their distances are then taken anew,
 * in double, and the nearest kept: of equals the one with the lower number. */
#include "merge/landmarks.h"
#include "ops/graft.h"
#include "ops/scan.h"
#include "ops/work.h"
#include <math.h>

#define BATCH_MAX 1024
#define MORE 8 /* neighbours that may change places once their distances are exact */

typedef struct near {
    double far; /* what grows with the distance */
    u64 shared; /* index into the shared tokens */
} near;

typedef struct search {
    const lb_graft *g;
    lb_scan scan;
    u64 first, n, batch;
    u64 k, n_found; /* wanted; looked for */
    u8 *memory;
    float *targets; /* [batch, d] */
    double *norm;   /* [batch] of the targets */
    near *found;    /* [threads, batch, n_found] a heap, the farthest first */
    u32 *have;      /* [threads, batch] */
    u8 *own;        /* [threads, own_bytes] */
    u64 own_bytes;
} search;

static double norm_of(const lb_kernels *k, const float *x, u64 d) {
    double s = 0;
    for (u64 i = 0; i < d; i += LB_FOLD_LEAF)
        s += k->fold_dot_f32((size_t)LB_MIN(d - i, LB_FOLD_LEAF), x + i, x + i);
    return sqrt(s);
}

static bool is_nearer(near a, near b) {
    return a.far < b.far || (a.far == b.far && a.shared < b.shared);
}

/* ---- the n_found nearest ---- */

static void sink(near *heap, u64 n, u64 i) {
    for (u64 child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && is_nearer(heap[child], heap[child + 1]);
        if (!is_nearer(heap[i], heap[child]))
            return;
        near t = heap[i];
        heap[i] = heap[child];
        heap[child] = t;
    }
}

static void add(near *heap, u32 *n, u64 max, near x) {
    if (*n == max) {
        if (!is_nearer(x, heap[0]))
            return;
        heap[0] = x;
        sink(heap, max, 0);
        return;
    }
    u64 i = (*n)++;
    for (; i && is_nearer(heap[(i - 1) / 2], x); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = x;
}

static void look(void *ctx, const lb_scan_tile *t) {
    const search *x = ctx;
    const lb_graft *g = x->g;
    double norm[LB_SCAN_TILE];
    u64 d = g->donor->n_cols, lists = t->worker * x->batch;
    for (u64 i = 0; i < t->n; i++)
        norm[i] = norm_of(g->env->kernels, t->rows + i * d, d);
    for (u64 q = 0; q < x->n; q++)
        for (u64 i = 0; i < t->n; i++) {
            double dot = t->dot[q * t->n + i];
            double far = g->o->cosine ? -dot / fmax(x->norm[q] * norm[i], 1e-6)
                                      : norm[i] * norm[i] - 2 * dot;
            add(x->found + (lists + q) * x->n_found, &x->have[lists + q], x->n_found,
                (near){far, t->first + i});
        }
}

/* The lists of all workers as one, in that of the first. */
static void join(const search *x, u64 q) {
    near *all = x->found + q * x->n_found;
    for (u32 w = 1; w < x->scan.threads; w++) {
        u64 list = w * x->batch + q;
        for (u32 i = 0; i < x->have[list]; i++)
            add(all, &x->have[q], x->n_found, x->found[list * x->n_found + i]);
    }
}

/* ---- one token ---- */

typedef struct areas {
    u8 *stored;
    float *points, *out; /* [k, d], [n_cols of the model] */
    double *distance, *weight, *scratch;
    u32 *row;
} areas;

/* memory: NULL, only the bytes are wanted. */
static u64 place_own(const search *x, u8 *memory, areas *a) {
    const lb_graft *g = x->g;
    lb_carver c = {.at = memory};
    bool solves = g->o->weighing != LB_WEIGH_DISTANCE;
    a->stored = lb_carve(&c, LB_MAX(x->k * g->donor->row_bytes, lb_graft_mix_bytes(g)));
    a->points = lb_carve(&c, x->k * g->donor->n_cols * sizeof(float));
    a->distance = lb_carve(&c, x->k * sizeof(double));
    a->weight = lb_carve(&c, x->k * sizeof(double));
    a->scratch = lb_carve(&c, solves ? lb_landmarks_scratch(x->k) * sizeof(double) : 0);
    a->out = lb_carve(&c, g->model->n_cols * sizeof(float));
    a->row = lb_carve(&c, x->k * sizeof(u32));
    return c.used;
}

/* The k nearest of what was found, by their exact distances, nearest first. */
static lb_status settle(const search *x, u64 q, const areas *a, near *list, u64 n, lb_err *err) {
    const lb_graft *g = x->g;
    u64 d = g->donor->n_cols;
    const float *target = x->targets + q * d;
    for (u64 i = 0; i < n; i++) {
        u32 row = g->align->donor_row[list[i].shared];
        LB_TRY(lb_rows_read(g->donor, row, 1, a->stored, a->points, err));
        list[i].far = lb_landmarks_distance(g->env->kernels, target, a->points, d, g->o->cosine);
    }
    for (u64 i = 1; i < n; i++) { /* a few dozen */
        near one = list[i];
        u64 k = i;
        for (; k && is_nearer(one, list[k - 1]); k--)
            list[k] = list[k - 1];
        list[k] = one;
    }
    for (u64 i = 0; i < x->k; i++) {
        a->distance[i] = list[i].far;
        a->row[i] = g->align->donor_row[list[i].shared];
    }
    return lb_rows_gather(g->donor, a->row, x->k, a->stored, a->points, err);
}

static lb_status put(void *ctx, u32 worker, u64 q, lb_err *err) {
    const search *x = ctx;
    const lb_graft *g = x->g;
    areas a;
    near *list = x->found + q * x->n_found;
    (void)place_own(x, x->own + worker * x->own_bytes, &a);
    join(x, q);
    LB_TRY(settle(x, q, &a, list, x->have[q], err));
    lb_landmarks l = {.k = x->k,
                      .d = g->donor->n_cols,
                      .target = x->targets + q * g->donor->n_cols,
                      .points = a.points,
                      .distance = a.distance,
                      .weighing = g->o->weighing,
                      .cosine = g->o->cosine};
    lb_landmarks_weigh(&l, g->env->kernels, a.scratch, a.weight);
    for (u64 i = 0; i < x->k; i++)
        a.row[i] = g->align->model_row[list[i].shared];
    LB_TRY(lb_graft_mix(g, a.row, a.weight, x->k, a.stored, a.out, err));
    return lb_graft_put(g, g->align->fresh[x->first + q], a.out, err);
}

/* ---- a batch ---- */

static lb_status run_batch(search *x, lb_err *err) {
    const lb_graft *g = x->g;
    u64 d = g->donor->n_cols;
    LB_TRY(lb_rows_gather(g->donor, g->align->fresh + x->first, x->n, x->memory, x->targets, err));
    for (u64 q = 0; q < x->n; q++) {
        x->norm[q] = norm_of(g->env->kernels, x->targets + q * d, d);
        if (x->norm[q] - x->norm[q] != 0)
            return lb_fail(err, LB_E_FORMAT,
                           "%s: the donor's row %u has values that are NaN or infinite: it cannot "
                           "be approximated",
                           g->name, g->align->fresh[x->first + q]);
    }
    memset(x->have, 0, x->scan.threads * x->batch * sizeof *x->have);
    LB_TRY(lb_scan_run(&x->scan, x->targets, x->n, err));
    LB_TRY(lb_work_run(x->scan.threads, x->n, put, x, err));
    lb_graft_progress(g, x->n);
    return LB_OK;
}

/* Its arrays for batches of x->batch. */
static u64 carve(search *x, u8 *memory) {
    const lb_rows *donor = x->g->donor;
    u64 threads = x->scan.threads;
    lb_carver c = {.at = memory};
    x->scan.n_queries_max = x->batch;
    /* the targets as they are stored, before the scan's buffers are in use */
    x->scan.memory = lb_carve(&c, LB_MAX(lb_scan_bytes(&x->scan), x->batch * donor->row_bytes));
    x->own = lb_carve(&c, threads * x->own_bytes);
    x->targets = lb_carve(&c, x->batch * donor->n_cols * sizeof(float));
    x->norm = lb_carve(&c, x->batch * sizeof(double));
    x->found = lb_carve(&c, threads * x->batch * x->n_found * sizeof(near));
    x->have = lb_carve(&c, threads * x->batch * sizeof(u32));
    return c.used;
}

static lb_status place(search *x, lb_err *err) {
    areas none;
    x->own_bytes = place_own(x, NULL, &none);
    x->batch = LB_MIN(BATCH_MAX, x->g->align->n_fresh);
    while (x->batch > 1 && carve(x, NULL) > x->g->env->memory_bytes)
        x->batch = x->batch / 4 * 3;
    x->batch = LB_MAX(x->batch, 1);
    LB_TRY(lb_graft_memory(x->g, carve(x, NULL), &x->memory, err));
    (void)carve(x, x->memory);
    return LB_OK;
}

lb_status lb_graft_near(const lb_graft *g, lb_err *err) {
    search x = {.g = g,
                .scan = {.rows = g->donor,
                         .row = g->align->donor_row,
                         .n = g->align->n_shared,
                         .kernels = g->env->kernels,
                         .threads = g->env->threads,
                         .tile = look},
                .k = g->o->k,
                .n_found = LB_MIN(g->o->k + MORE, g->align->n_shared)};
    x.scan.ctx = &x;
    lb_status st = place(&x, err);
    for (x.first = 0; x.first < g->align->n_fresh && st == LB_OK; x.first += x.n) {
        x.n = LB_MIN(x.batch, g->align->n_fresh - x.first);
        st = run_batch(&x, err);
    }
    lb_free(x.memory);
    return st;
}
