/* SPDX-License-Identifier: Apache-2.0 */
/* pursue.c: see pursue.h. */
#include "ops/pursue.h"
#include "io/size.h"
#include "ops/graft.h"
#include "ops/work.h"
#include <math.h>

#define BATCH_MAX 1024 /* beyond it the products take all of the time anyway */

/* The atom that a target's rest has the largest product with, so far. */
typedef struct best {
    float size; /* of the product; 0: none yet */
    u32 atom;
} best;

typedef struct batch {
    const lb_pursue *in;
    lb_scan scan;
    u64 first, n; /* of the targets */
    u64 most;     /* the largest */
    u8 *memory;
    lb_pursuit *pursuit; /* [most] */
    float *rests;        /* [most, d]: the pursuits' */
    best *found;         /* [threads, most] */
    u8 *own;             /* [threads, own_bytes] */
    u64 own_bytes;
    bool all_done;
} batch;

/* ---- one step: the atoms ---- */

static void look(void *ctx, const lb_scan_tile *t) {
    batch *x = ctx;
    best *found = x->found + t->worker * x->most;
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

static best best_of(const batch *x, u64 q) {
    best b = {0};
    for (u32 w = 0; w < x->scan.threads; w++) {
        const best *f = &x->found[w * x->most + q];
        if (f->size > b.size || (f->size == b.size && f->size > 0 && f->atom < b.atom))
            b = *f;
    }
    return b;
}

static double dot(const lb_kernels *k, const float *a, const float *b, u64 n) {
    double s = 0;
    for (u64 i = 0; i < n; i += LB_FOLD_LEAF)
        s += k->fold_dot_f32((size_t)LB_MIN(n - i, LB_FOLD_LEAF), a + i, b + i);
    return s;
}

/* Of a pursuit without a basis. */
static void take_turned(const lb_pursue *in, lb_pursuit *p, u32 atom, float *row) {
    const lb_kernels *k = in->env->kernels;
    double position = lb_rope_position(in->rope, row, p->rest);
    lb_rope_turn(in->rope, position, row);
    double part = dot(k, p->rest, row, p->d) / fmax(dot(k, row, row, p->d), 1e-8);
    k->map_fmac_f32((size_t)p->d, p->rest, row, -(float)part, p->rest);
    p->along[p->n] = position;
    p->atom[p->n++] = atom;
    p->done = p->n == p->k;
}

static u64 stored_bytes(const lb_pursue *in) {
    return (in->rows->row_bytes + 63) / 64 * 64;
}

static lb_status take(void *ctx, u32 worker, u64 q, lb_err *err) {
    const batch *x = ctx;
    lb_pursuit *p = &x->pursuit[q];
    u8 *stored = x->own + worker * x->own_bytes;
    float *row = (float *)(void *)(stored + stored_bytes(x->in));
    best b = best_of(x, q);
    if (p->done)
        return LB_OK;
    if (!(b.size > 0)) { /* nothing has a part of what is left */
        p->done = true;
        return LB_OK;
    }
    LB_TRY(lb_rows_read(x->in->rows, x->in->row[b.atom], 1, stored, row, err));
    if (x->in->rope)
        take_turned(x->in, p, b.atom, row);
    else
        lb_pursuit_take(p, x->in->env->kernels, b.atom, row);
    return LB_OK;
}

static lb_status step(batch *x, lb_err *err) {
    memset(x->found, 0, x->scan.threads * x->most * sizeof *x->found);
    LB_TRY(lb_scan_run(&x->scan, x->rests, x->n, err));
    LB_TRY(lb_work_run(x->scan.threads, x->n, take, x, err));
    x->all_done = true;
    for (u64 q = 0; q < x->n; q++)
        x->all_done = x->all_done && x->pursuit[q].done;
    return LB_OK;
}

/* ---- a batch ---- */

static lb_status begin(batch *x, lb_err *err) {
    const lb_pursue *in = x->in;
    x->all_done = true;
    for (u64 q = 0; q < x->n; q++) {
        LB_TRY(in->fill(in->ctx, x->first + q, x->own, x->pursuit[q].rest, err));
        if (!lb_pursuit_begin(&x->pursuit[q], in->env->kernels))
            return lb_fail(err, LB_E_FORMAT,
                           "%s: a row of the donor has values that are NaN or infinite: it cannot "
                           "be approximated",
                           in->name);
        x->all_done = x->all_done && x->pursuit[q].done;
    }
    return LB_OK;
}

static lb_status hand_on(void *ctx, u32 worker, u64 q, lb_err *err) {
    const batch *x = ctx;
    return x->in->done(x->in->ctx, &x->pursuit[q], x->first + q, x->own + worker * x->own_bytes,
                       err);
}

static void tell(const lb_pursue *in, u64 n) {
    if (in->progress)
        in->progress(in->ctx, n);
}

static lb_status run_batch(batch *x, lb_err *err) {
    u64 k = x->in->k, told = 0;
    LB_TRY(begin(x, err));
    for (u64 t = 0; t < k && !x->all_done; t++) {
        LB_TRY(step(x, err));
        u64 now = x->n * (t + 1) / (k + 1);
        tell(x->in, now - told);
        told = now;
    }
    LB_TRY(lb_work_run(x->scan.threads, x->n, hand_on, x, err));
    tell(x->in, x->n - told);
    return LB_OK;
}

/* ---- memory ---- */

/* Its arrays for batches of x->most. memory: NULL, only the bytes are wanted. */
static u64 carve(batch *x, u8 *memory) {
    u64 d = x->in->rows->n_cols, k = x->in->k, threads = x->scan.threads, n = x->most;
    u64 each = lb_pursuit_bytes(d, k, !x->in->rope);
    lb_carver c = {.at = memory};
    x->scan.n_queries_max = n;
    x->scan.memory = lb_carve(&c, lb_scan_bytes(&x->scan));
    x->own = lb_carve(&c, threads * x->own_bytes);
    x->rests = lb_carve(&c, n * d * sizeof(float));
    x->found = lb_carve(&c, threads * n * sizeof(best));
    x->pursuit = lb_carve(&c, n * sizeof(lb_pursuit));
    u8 *arrays = lb_carve(&c, n * each);
    for (u64 q = 0; q < n && memory; q++) {
        lb_pursuit *p = &x->pursuit[q];
        if (x->in->rope)
            lb_pursuit_place_bare(p, d, k, x->rests + q * d, arrays + q * each);
        else
            lb_pursuit_place(p, d, k, x->rests + q * d, arrays + q * each);
    }
    return c.used;
}

static lb_status place(batch *x, lb_err *err) {
    const lb_pursue *in = x->in;
    u64 take_bytes = stored_bytes(in) + in->rows->n_cols * sizeof(float);
    x->own_bytes = (LB_MAX(take_bytes, in->own_bytes) + 63) / 64 * 64;
    x->most = LB_MIN(BATCH_MAX, in->n_targets);
    while (x->most > 1 && carve(x, NULL) > in->memory_bytes)
        x->most = x->most / 16 * 15 + x->most % 16 / 2;
    x->most = LB_MAX(x->most, 1);
    u64 bytes = carve(x, NULL);
    u64 most = LB_MAX(in->memory_bytes, in->memory_max_bytes);
    x->memory = bytes <= most ? lb_alloc((size_t)bytes) : NULL;
    if (!x->memory) {
        char need[LB_SIZE_TEXT], have[LB_SIZE_TEXT];
        return lb_fail(err, LB_E_LIMIT,
                       "%s: matching pursuits need at least %s for their buffers, the budget "
                       "leaves %s (--memory)",
                       in->name, lb_size_text(bytes, need), lb_size_text(most, have));
    }
    (void)carve(x, x->memory);
    return LB_OK;
}

lb_status lb_pursue_run(const lb_pursue *in, lb_err *err) {
    batch x = {.in = in,
               .scan = {.rows = in->rows,
                        .row = in->row,
                        .n = in->n,
                        .kernels = in->env->kernels,
                        .threads = in->env->threads,
                        .tile = look}};
    x.scan.ctx = &x;
    lb_status st = place(&x, err);
    for (x.first = 0; x.first < in->n_targets && st == LB_OK; x.first += x.n) {
        x.n = LB_MIN(x.most, in->n_targets - x.first);
        st = run_batch(&x, err);
    }
    lb_free(x.memory);
    return st;
}
