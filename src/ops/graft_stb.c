/* SPDX-License-Identifier: Apache-2.0 */
/* graft_stb.c: tokens by their coordinates in a basis that both models have: each principal
 * direction of the narrower one's shared rows as a sparse combination of them (orthogonal matching
 * pursuit of k atoms), the same combinations of the other's. A token's coordinates in the donor's
 * basis, by least squares, are those of its row in the model's (mergekit 0.1.5's token_basis.py,
 * which ends with an error there). */
#include "base/os.h"
#include "kernel/la.h"
#include "ops/graft.h"
#include "ops/moments.h"
#include "ops/pursue.h"
#include "ops/work.h"
#include <math.h>

#define F32_EPSILON 0x1p-23

typedef struct basis {
    const lb_graft *g;
    u64 da, db, d;           /* d: of the narrower one */
    bool of_donor;           /* directions are those of the donor's rows */
    lb_rows centred;         /* the shared rows of that side, less their mean */
    u32 *place;              /* [n_shared] 0, 1, 2... */
    double *direction;       /* [d][d] */
    float *donor, *model;    /* [d][da], [d][db] the basis on both sides */
    double *mean_a, *mean_b; /* of all rows */
    double *u, *w, *sigma;   /* of the donor's basis as columns: [d][da], [d][d], [d] */
    u8 *own;
    u64 own_bytes;
} basis;

/* ---- directions ---- */

static lb_status centre_rows(basis *b, const lb_rows *r, const u32 *row, const double *mean,
                             lb_err *err) {
    const lb_graft *g = b->g;
    u64 n = g->align->n_shared, row_bytes = b->d * sizeof(float);
    u8 *memory = NULL;
    LB_TRY(lb_os_open_temp(g->env->temp_dir, &b->centred.fd, err));
    b->centred.path = "temporary file";
    b->centred.n_rows = n;
    b->centred.n_cols = b->d;
    b->centred.row_bytes = row_bytes;
    b->centred.decode = g->env->kernels->decode_f32_f32;
    LB_TRY(lb_graft_memory(g, r->row_bytes + 64 + row_bytes, &memory, err));
    float *x = (float *)(void *)(memory + (r->row_bytes + 63) / 64 * 64);
    lb_status st = LB_OK;
    for (u64 i = 0; i < n && st == LB_OK; i++) {
        st = lb_rows_read(r, row[i], 1, memory, x, err);
        for (u64 k = 0; k < b->d; k++)
            x[k] = (float)((double)x[k] - mean[k]);
        if (st == LB_OK)
            st = lb_os_pwrite(b->centred.fd, b->centred.path, x, row_bytes, i * row_bytes, err);
    }
    lb_free(memory);
    return st;
}

/* Eigenvectors of the covariance of the side's shared rows. */
static lb_status find_directions(basis *b, lb_err *err) {
    const lb_graft *g = b->g;
    const lb_rows *r = b->of_donor ? g->donor : g->model;
    const u32 *row = b->of_donor ? g->align->donor_row : g->align->model_row;
    u64 d = b->d;
    lb_cross c = {.a = r, .b = r, .a_row = row, .b_row = row, .n = g->align->n_shared};
    c.env = g->env;
    u8 *memory;
    LB_TRY(lb_graft_memory(g, (2 * d + d * d) * sizeof(double), &memory, err));
    double *mean = (double *)(void *)memory, *values = mean + d, *full = values + d;
    c.a_mean = c.b_mean = mean;
    lb_status st = lb_rows_mean(r, row, g->align->n_shared, mean, err);
    if (st == LB_OK)
        st = centre_rows(b, r, row, mean, err);
    if (st == LB_OK)
        st = lb_cross_run(&c, full, err);
    if (st == LB_OK) /* full = U S W^T with U and W of its eigenvectors */
        lb_la_jacobi(g->env->kernels, (size_t)d, full, b->direction, values);
    lb_free(memory);
    return st;
}

/* ---- the basis ---- */

static lb_status fill(void *ctx, u64 q, u8 *stored, float *rest, lb_err *err) {
    const basis *b = ctx;
    (void)stored;
    (void)err;
    for (u64 i = 0; i < b->d; i++)
        rest[i] = (float)b->direction[q * b->d + i];
    return LB_OK;
}

/* Both sides' combinations of the atoms of direction q. */
static lb_status combine(void *ctx, const lb_pursuit *p, u64 q, u8 *own, lb_err *err) {
    const basis *b = ctx;
    const lb_graft *g = b->g;
    lb_carver c = {.at = own};
    u8 *stored = lb_carve(&c, LB_MAX(g->donor->row_bytes, g->model->row_bytes));
    float *x = lb_carve(&c, LB_MAX(b->da, b->db) * sizeof(float));
    double *weight = lb_carve(&c, p->k * sizeof(double));
    double *sum = lb_carve(&c, LB_MAX(b->da, b->db) * sizeof(double));
    lb_pursuit_solve(p, weight);
    for (u32 side = 0; side < 2; side++) {
        const lb_rows *r = side ? g->model : g->donor;
        const u32 *row = side ? g->align->model_row : g->align->donor_row;
        float *out = side ? b->model + q * b->db : b->donor + q * b->da;
        memset(sum, 0, r->n_cols * sizeof *sum);
        for (u64 i = 0; i < p->n; i++) {
            LB_TRY(lb_rows_read(r, row[p->atom[i]], 1, stored, x, err));
            for (u64 k = 0; k < r->n_cols; k++)
                sum[k] += weight[i] * (double)x[k];
        }
        for (u64 k = 0; k < r->n_cols; k++)
            out[k] = (float)sum[k];
    }
    return LB_OK;
}

static lb_status find_basis(basis *b, u64 memory_bytes, lb_err *err) {
    const lb_graft *g = b->g;
    lb_pursue p = {.rows = &b->centred,
                   .row = b->place,
                   .n = g->align->n_shared,
                   .n_targets = b->d,
                   .k = g->o->k,
                   .env = g->env,
                   .memory_bytes = memory_bytes,
                   .name = g->name,
                   .fill = fill,
                   .done = combine,
                   .ctx = b};
    u64 width = LB_MAX(b->da, b->db);
    lb_carver c = {0};
    (void)lb_carve(&c, LB_MAX(g->donor->row_bytes, g->model->row_bytes));
    (void)lb_carve(&c, width * sizeof(float));
    (void)lb_carve(&c, g->o->k * sizeof(double));
    (void)lb_carve(&c, width * sizeof(double));
    p.own_bytes = c.used;
    return lb_pursue_run(&p, err);
}

/* ---- coordinates ---- */

static lb_status factorise(basis *b, lb_err *err) {
    u8 *memory;
    u64 x = b->d * b->da, work = b->d * (b->d + 1);
    LB_TRY(lb_graft_memory(b->g, (x + work) * sizeof(double), &memory, err));
    double *columns = (double *)(void *)memory;
    for (u64 i = 0; i < x; i++)
        columns[i] = (double)b->donor[i];
    lb_la_svd(b->g->env->kernels, (size_t)b->da, (size_t)b->d, columns, b->u, b->w, b->sigma,
              columns + x);
    lb_free(memory);
    return LB_OK;
}

typedef struct areas {
    u8 *stored;
    float *x;
    double *in, *at, *out;
} areas;

static u64 carve_own(const basis *b, u8 *own, areas *a) {
    lb_carver c = {.at = own};
    a->stored = lb_carve(&c, b->g->donor->row_bytes);
    a->x = lb_carve(&c, LB_MAX(b->da, b->db) * sizeof(float));
    a->in = lb_carve(&c, b->da * sizeof(double));
    a->at = lb_carve(&c, b->d * sizeof(double));
    a->out = lb_carve(&c, b->db * sizeof(double));
    return c.used;
}

static lb_status put(void *ctx, u32 worker, u64 item, lb_err *err) {
    const basis *b = ctx;
    const lb_graft *g = b->g;
    const lb_kernels *k = g->env->kernels;
    double least = F32_EPSILON * (double)LB_MAX(b->da, b->d) * b->sigma[0];
    areas a;
    (void)carve_own(b, b->own + worker * b->own_bytes, &a);
    LB_TRY(lb_rows_read(g->donor, g->align->fresh[item], 1, a.stored, a.x, err));
    for (u64 i = 0; i < b->da; i++)
        a.in[i] = (double)a.x[i] - b->mean_a[i];
    memset(a.at, 0, b->d * sizeof *a.at);
    for (u64 s = 0; s < b->d && b->sigma[s] > least; s++)
        k->axpy_f64((size_t)b->d, a.at,
                    k->dot_f64((size_t)b->da, a.in, b->u + s * b->da) / b->sigma[s],
                    b->w + s * b->d);
    memcpy(a.out, b->mean_b, b->db * sizeof *a.out);
    for (u64 s = 0; s < b->d; s++)
        for (u64 i = 0; i < b->db; i++)
            a.out[i] += a.at[s] * (double)b->model[s * b->db + i];
    for (u64 i = 0; i < b->db; i++)
        a.x[i] = (float)a.out[i];
    return lb_graft_put(g, g->align->fresh[item], a.x, err);
}

static u64 carve(basis *b, u8 *memory) {
    lb_carver c = {.at = memory};
    areas none;
    b->own_bytes = carve_own(b, NULL, &none);
    b->place = lb_carve(&c, b->g->align->n_shared * sizeof(u32));
    b->direction = lb_carve(&c, b->d * b->d * sizeof(double));
    b->w = b->direction; /* which are not needed any more then */
    b->donor = lb_carve(&c, b->d * b->da * sizeof(float));
    b->model = lb_carve(&c, b->d * b->db * sizeof(float));
    b->mean_a = lb_carve(&c, b->da * sizeof(double));
    b->mean_b = lb_carve(&c, b->db * sizeof(double));
    b->u = lb_carve(&c, b->d * b->da * sizeof(double));
    b->sigma = lb_carve(&c, b->d * sizeof(double));
    b->own = lb_carve(&c, b->g->env->threads * b->own_bytes);
    return c.used;
}

lb_status lb_graft_stb(const lb_graft *g, lb_err *err) {
    basis b = {.g = g, .da = g->donor->n_cols, .db = g->model->n_cols};
    b.d = LB_MIN(b.da, b.db);
    b.of_donor = b.da < b.db;
    u64 held = carve(&b, NULL), more = (b.d * b.da + b.d * (b.d + 1)) * sizeof(double);
    u8 *memory;
    LB_TRY(lb_graft_need(g, held + more, err));
    LB_TRY(lb_graft_memory(g, held, &memory, err));
    (void)carve(&b, memory);
    for (u64 i = 0; i < g->align->n_shared; i++)
        b.place[i] = (u32)i;
    lb_status st = find_directions(&b, err);
    if (st == LB_OK)
        st = find_basis(&b, LB_MIN(g->env->memory_max_bytes - held, g->env->memory_bytes), err);
    if (st == LB_OK)
        st = factorise(&b, err);
    if (st == LB_OK)
        st = lb_rows_mean(g->donor, NULL, 0, b.mean_a, err);
    if (st == LB_OK)
        st = lb_rows_mean(g->model, NULL, 0, b.mean_b, err);
    if (st == LB_OK)
        st = lb_work_run(g->env->threads, g->align->n_fresh, put, &b, err);
    lb_rows_close(&b.centred);
    lb_free(memory);
    lb_graft_progress(g, g->align->n_fresh);
    return st;
}
