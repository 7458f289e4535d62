/* SPDX-License-Identifier: Apache-2.0 */
/* graft_omp.c: tokens as sparse combinations of those that both models know: orthogonal matching
 * pursuit of the donor's rows (merge/pursuit.h), the coefficients applied to the model's.
 *
 * As many tokens at a time as the budget has room for: each step reads the donor's shared rows once
 * for all of them (ops/scan.h). What a token's result is does not depend on the others. */
#include "merge/pursuit.h"
#include "ops/graft.h"
#include "ops/scan.h"
#include "ops/work.h"
#include <math.h>

#define BATCH_MAX 1024 /* beyond it the products take all of the time anyway */

/* The atom that a token's rest has the largest product with, so far. */
typedef struct best {
    float size; /* of the product; 0: none yet */
    u32 atom;
} best;

typedef struct omp {
    const lb_graft *g;
    lb_scan scan;
    u64 first, n; /* of align->fresh: the batch */
    u64 batch;    /* the largest */
    u8 *memory;
    lb_pursuit *pursuit; /* [batch] */
    float *rests;        /* [batch, d]: the pursuits' */
    best *found;         /* [threads, batch] */
    u8 *own;             /* [threads, own_bytes] */
    u64 own_bytes;
    bool all_done;
} omp;

static u64 aligned(u64 n) {
    return (n + 63) / 64 * 64;
}

/* ---- one step: the atoms ---- */

static void look(void *ctx, const lb_scan_tile *t) {
    omp *x = ctx;
    best *found = x->found + t->worker * x->batch;
    for (u64 q = 0; q < x->n; q++) {
        const lb_pursuit *p = &x->pursuit[q];
        const float *dot = t->dot + q * t->n;
        best *b = &found[q];
        for (u64 i = 0; i < t->n && !p->done; i++) {
            float size = fabsf(dot[i]);
            u32 atom = (u32)(t->first + i);
            bool better = size > b->size || (size == b->size && size > 0 && atom < b->atom);
            if (better && !lb_pursuit_has(p, atom))
                *b = (best){size, atom};
        }
    }
}

static best best_of(const omp *x, u64 q) {
    best b = {0};
    for (u32 w = 0; w < x->scan.threads; w++) {
        const best *f = &x->found[w * x->batch + q];
        if (f->size > b.size || (f->size == b.size && f->size > 0 && f->atom < b.atom))
            b = *f;
    }
    return b;
}

static lb_status take(void *ctx, u32 worker, u64 q, lb_err *err) {
    const omp *x = ctx;
    lb_pursuit *p = &x->pursuit[q];
    const lb_rows *rows = x->g->donor;
    u8 *stored = x->own + worker * x->own_bytes;
    float *row = (float *)(void *)(stored + aligned(rows->row_bytes));
    best b = best_of(x, q);
    if (p->done)
        return LB_OK;
    if (!(b.size > 0)) { /* nothing has a part of what is left */
        p->done = true;
        return LB_OK;
    }
    LB_TRY(lb_rows_read(rows, x->g->align->donor_row[b.atom], 1, stored, row, err));
    lb_pursuit_take(p, x->g->env->kernels, b.atom, row);
    return LB_OK;
}

static lb_status step(omp *x, lb_err *err) {
    memset(x->found, 0, x->scan.threads * x->batch * sizeof *x->found);
    LB_TRY(lb_scan_run(&x->scan, x->rests, x->n, err));
    LB_TRY(lb_work_run(x->scan.threads, x->n, take, x, err));
    x->all_done = true;
    for (u64 q = 0; q < x->n; q++)
        x->all_done = x->all_done && x->pursuit[q].done;
    return LB_OK;
}

/* ---- a batch ---- */

static lb_status begin(omp *x, lb_err *err) {
    const lb_graft *g = x->g;
    x->all_done = true;
    for (u64 q = 0; q < x->n; q++) {
        u32 token = g->align->fresh[x->first + q];
        LB_TRY(lb_rows_read(g->donor, token, 1, x->own, x->pursuit[q].rest, err));
        if (!lb_pursuit_begin(&x->pursuit[q], g->env->kernels))
            return lb_fail(err, LB_E_FORMAT,
                           "%s: the donor's row %u has values that are NaN or infinite: it cannot "
                           "be approximated",
                           g->name, token);
        x->all_done = x->all_done && x->pursuit[q].done;
    }
    return LB_OK;
}

static lb_status put(void *ctx, u32 worker, u64 q, lb_err *err) {
    const omp *x = ctx;
    const lb_graft *g = x->g;
    const lb_pursuit *p = &x->pursuit[q];
    u8 *scratch = x->own + worker * x->own_bytes;
    double *weight = (double *)(void *)(scratch + aligned(lb_graft_mix_bytes(g)));
    float *out = (float *)(void *)(weight + p->k);
    u32 *row = (u32 *)(void *)(out + g->model->n_cols);
    lb_pursuit_solve(p, weight);
    for (u64 i = 0; i < p->n; i++)
        row[i] = g->align->model_row[p->atom[i]];
    LB_TRY(lb_graft_mix(g, row, weight, p->n, scratch, out, err));
    return lb_graft_put(g, g->align->fresh[x->first + q], out, err);
}

static lb_status run_batch(omp *x, lb_err *err) {
    u64 k = x->g->o->k, told = 0;
    LB_TRY(begin(x, err));
    for (u64 t = 0; t < k && !x->all_done; t++) {
        LB_TRY(step(x, err));
        u64 now = x->n * (t + 1) / (k + 1);
        lb_graft_progress(x->g, now - told);
        told = now;
    }
    LB_TRY(lb_work_run(x->scan.threads, x->n, put, x, err));
    lb_graft_progress(x->g, x->n - told);
    return LB_OK;
}

/* ---- memory ---- */

/* Its arrays for batches of x->batch. memory: NULL, only the bytes are wanted. */
static u64 carve(omp *x, u8 *memory) {
    const lb_graft *g = x->g;
    u64 d = g->donor->n_cols, k = g->o->k, threads = x->scan.threads, n = x->batch;
    lb_carver c = {.at = memory};
    x->scan.n_queries_max = n;
    x->scan.memory = lb_carve(&c, lb_scan_bytes(&x->scan));
    x->own = lb_carve(&c, threads * x->own_bytes);
    x->rests = lb_carve(&c, n * d * sizeof(float));
    x->found = lb_carve(&c, threads * n * sizeof(best));
    x->pursuit = lb_carve(&c, n * sizeof(lb_pursuit));
    u8 *arrays = lb_carve(&c, n * lb_pursuit_bytes(d, k));
    for (u64 q = 0; q < n && memory; q++)
        lb_pursuit_place(&x->pursuit[q], d, k, x->rests + q * d,
                         arrays + q * lb_pursuit_bytes(d, k));
    return c.used;
}

static u64 own_bytes(const lb_graft *g) {
    u64 take_bytes = aligned(g->donor->row_bytes) + aligned(g->donor->n_cols * sizeof(float));
    u64 put_bytes = aligned(lb_graft_mix_bytes(g)) + g->o->k * (sizeof(double) + sizeof(u32)) +
                    g->model->n_cols * sizeof(float);
    return aligned(LB_MAX(take_bytes, put_bytes));
}

static lb_status place(omp *x, lb_err *err) {
    x->own_bytes = own_bytes(x->g);
    x->batch = LB_MIN(BATCH_MAX, x->g->align->n_fresh);
    while (x->batch > 1 && carve(x, NULL) > x->g->env->memory_bytes)
        x->batch = x->batch / 16 * 15 + x->batch % 16 / 2;
    x->batch = LB_MAX(x->batch, 1);
    LB_TRY(lb_graft_memory(x->g, carve(x, NULL), &x->memory, err));
    (void)carve(x, x->memory);
    return LB_OK;
}

lb_status lb_graft_omp(const lb_graft *g, lb_err *err) {
    omp x = {.g = g,
             .scan = {.rows = g->donor,
                      .row = g->align->donor_row,
                      .n = g->align->n_shared,
                      .kernels = g->env->kernels,
                      .threads = g->env->threads,
                      .tile = look}};
    x.scan.ctx = &x;
    lb_status st = place(&x, err);
    for (x.first = 0; x.first < g->align->n_fresh && st == LB_OK; x.first += x.n) {
        x.n = LB_MIN(x.batch, g->align->n_fresh - x.first);
        st = run_batch(&x, err);
    }
    lb_free(x.memory);
    return st;
}
