/* SPDX-License-Identifier: Apache-2.0 */
/* graft_omp.c: tokens as sparse combinations of those that both models know: orthogonal matching
 * pursuit of the donor's rows, the coefficients applied to the model's; and mp_rope, whose atoms
 * are turned by a position each (merge/rope.h) and not made orthogonal, the coefficients by least
 * squares at the end. */
#include "merge/landmarks.h"
#include "ops/graft.h"
#include "ops/pursue.h"

static lb_status fill(void *ctx, u64 q, u8 *stored, float *rest, lb_err *err) {
    const lb_graft *g = ctx;
    return lb_rows_read(g->donor, g->align->fresh[q], 1, stored, rest, err);
}

static void progress(void *ctx, u64 n) {
    lb_graft_progress(ctx, n);
}

/* ---- the end of omp ---- */

typedef struct mixed {
    u8 *scratch;
    double *weight;
    float *out;
    u32 *row;
} mixed;

static u64 carve_mixed(const lb_graft *g, u8 *own, mixed *m) {
    lb_carver c = {.at = own};
    m->scratch = lb_carve(&c, lb_graft_mix_bytes(g));
    m->weight = lb_carve(&c, g->o->k * sizeof(double));
    m->out = lb_carve(&c, g->model->n_cols * sizeof(float));
    m->row = lb_carve(&c, g->o->k * sizeof(u32));
    return c.used;
}

static lb_status put(void *ctx, const lb_pursuit *p, u64 q, u8 *own, lb_err *err) {
    const lb_graft *g = ctx;
    mixed m;
    (void)carve_mixed(g, own, &m);
    lb_pursuit_solve(p, m.weight);
    for (u64 i = 0; i < p->n; i++)
        m.row[i] = g->align->model_row[p->atom[i]];
    LB_TRY(lb_graft_mix(g, m.row, m.weight, p->n, m.scratch, m.out, err));
    return lb_graft_put(g, g->align->fresh[q], m.out, err);
}

/* ---- the end of mp_rope ---- */

typedef struct turned {
    u8 *stored;
    float *target, *points, *out;
    double *sum, *weight, *scratch;
} turned;

static u64 carve_turned(const lb_graft *g, u8 *own, turned *t) {
    u64 da = g->donor->n_cols, db = g->model->n_cols, k = g->o->k;
    lb_carver c = {.at = own};
    t->stored = lb_carve(&c, LB_MAX(g->donor->row_bytes, g->model->row_bytes));
    t->target = lb_carve(&c, da * sizeof(float));
    t->points = lb_carve(&c, k * da * sizeof(float));
    t->out = lb_carve(&c, db * sizeof(float));
    t->sum = lb_carve(&c, db * sizeof(double));
    t->weight = lb_carve(&c, k * sizeof(double));
    t->scratch = lb_carve(&c, lb_landmarks_scratch(k) * sizeof(double));
    return c.used;
}

/* The donor's atoms turned, weighed by least squares; the model's turned and added up. */
static lb_status put_turned(void *ctx, const lb_pursuit *p, u64 q, u8 *own, lb_err *err) {
    const lb_graft *g = ctx;
    u64 da = g->donor->n_cols, db = g->model->n_cols;
    u32 token = g->align->fresh[q];
    turned t;
    (void)carve_turned(g, own, &t);
    LB_TRY(lb_rows_read(g->donor, token, 1, t.stored, t.target, err));
    for (u64 i = 0; i < p->n; i++) {
        float *point = t.points + i * da;
        LB_TRY(lb_rows_read(g->donor, g->align->donor_row[p->atom[i]], 1, t.stored, point, err));
        lb_rope_turn(&g->donor_rope, p->along[i], point);
    }
    lb_landmarks l = {.k = p->n, .d = da, .target = t.target, .points = t.points};
    l.weighing = LB_WEIGH_LEAST;
    if (p->n)
        lb_landmarks_weigh(&l, g->env->kernels, t.scratch, t.weight);
    memset(t.sum, 0, db * sizeof *t.sum);
    for (u64 i = 0; i < p->n; i++) {
        LB_TRY(lb_rows_read(g->model, g->align->model_row[p->atom[i]], 1, t.stored, t.out, err));
        lb_rope_turn(&g->model_rope, p->along[i], t.out);
        for (u64 k = 0; k < db; k++)
            t.sum[k] += t.weight[i] * (double)t.out[k];
    }
    for (u64 k = 0; k < db; k++)
        t.out[k] = (float)t.sum[k];
    return lb_graft_put(g, token, t.out, err);
}

static lb_pursue pursue_of(const lb_graft *g) {
    return (lb_pursue){.rows = g->donor,
                       .row = g->align->donor_row,
                       .n = g->align->n_shared,
                       .n_targets = g->align->n_fresh,
                       .k = g->o->k,
                       .env = g->env,
                       .memory_bytes = g->env->memory_bytes,
                       .memory_max_bytes = g->env->memory_max_bytes,
                       .name = g->name,
                       .fill = fill,
                       .progress = progress,
                       .ctx = (void *)(uintptr_t)g};
}

lb_status lb_graft_omp(const lb_graft *g, lb_err *err) {
    lb_pursue p = pursue_of(g);
    mixed m;
    p.own_bytes = carve_mixed(g, NULL, &m);
    p.done = put;
    return lb_pursue_run(&p, err);
}

lb_status lb_graft_rope(const lb_graft *g, lb_err *err) {
    lb_pursue p = pursue_of(g);
    turned t;
    p.rope = &g->donor_rope;
    p.own_bytes = carve_turned(g, NULL, &t);
    p.done = put_turned;
    return lb_pursue_run(&p, err);
}
