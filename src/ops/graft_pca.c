/* SPDX-License-Identifier: Apache-2.0 */
/* graft_pca.c: tokens by the rotation that takes the shared tokens' rows in the donor nearest to
 * theirs in the model, in the space of the principal components of both (landmark_pca): centred
 * rows A and B, their q = min(width) components V_a and V_b, R the orthogonal matrix that makes
 * |A V_a R - B V_b| least (Procrustes), a token's row (x - mean_a) V_a R V_b^T + mean_b.
 *
 * Where a side has only q columns its components are the whole space and cancel out, so that at
 * most one side needs them. mergekit 0.1.5 takes R transposed, which is no rotation towards B: see
 * docs/transplant.md. */
#include "kernel/la.h"
#include "ops/graft.h"
#include "ops/moments.h"
#include "ops/work.h"
#include <math.h>

/* Singular values below this part of the largest are rounding: what lies there goes to 0. */
#define NOTHING 1e-12

typedef struct map {
    const lb_graft *g;
    u64 da, db, q;
    double *mean_a, *mean_b; /* [da], [db] */
    double *top;             /* [q][wider]: components of the wider side; unused where both are q */
    double *left, *right;    /* [q][q] each: x R = sum of (x . right[s]) left[s] */
    u8 *own;                 /* [threads] */
    u64 own_bytes;
} map;

static u64 wider(const map *m) {
    return LB_MAX(m->da, m->db);
}

/* ---- components ---- */

/* The q largest eigenvectors of the covariance of the wider side, into m->top. */
static lb_status find_components(map *m, lb_err *err) {
    const lb_graft *g = m->g;
    bool of_donor = m->da > m->db;
    const lb_rows *r = of_donor ? g->donor : g->model;
    const u32 *row = of_donor ? g->align->donor_row : g->align->model_row;
    const double *mean = of_donor ? m->mean_a : m->mean_b;
    u64 d = wider(m);
    lb_cross c = {.a = r, .b = r, .a_row = row, .b_row = row, .n = g->align->n_shared};
    c.a_mean = c.b_mean = mean;
    c.env = g->env;
    u8 *memory;
    u64 need = (d * d + lb_la_tri_doubles((size_t)d) + 6 * d) * sizeof(double);
    LB_TRY(lb_graft_memory(g, need + lb_cross_bytes(&c), &memory, err));
    double *full = (double *)(void *)memory;
    lb_status st = lb_cross_run(&c, full, err);
    if (st == LB_OK) {
        lb_la_tri t;
        double *triangle = full;
        for (u64 i = 0; i < d; i++) /* rows of the lower triangle, in place */
            memmove(triangle + i * (i + 1) / 2, full + i * d, (i + 1) * sizeof *full);
        double *work = full + d * d;
        lb_la_tri_place(&t, (size_t)d, triangle, work);
        lb_la_tridiagonalize(g->env->kernels, &t);
        double *more = work + lb_la_tri_doubles((size_t)d);
        double *values = lb_alloc((size_t)m->q * sizeof *values);
        st = values ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for components");
        if (values)
            lb_la_eigen_top(g->env->kernels, &t, (size_t)m->q, values, m->top, more);
        lb_free(values);
    }
    lb_free(memory);
    return st;
}

/* ---- the rotation ---- */

/* The product of both sides in q by q, its columns one after the other in m->left: column i of it
 * is row i of (A V_a)^T (B V_b) turned, as lb_la_jacobi wants it. */
static lb_status cross_in_components(map *m, lb_err *err) {
    const lb_graft *g = m->g;
    const lb_kernels *k = g->env->kernels;
    lb_cross c = {.a = g->donor,
                  .b = g->model,
                  .a_row = g->align->donor_row,
                  .b_row = g->align->model_row,
                  .n = g->align->n_shared,
                  .a_mean = m->mean_a,
                  .b_mean = m->mean_b,
                  .env = g->env};
    if (m->da == m->db)
        return lb_cross_run(&c, m->left, err);
    double *full = lb_alloc((size_t)(m->da * m->db * sizeof *full));
    if (!full)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a rotation");
    lb_status st = lb_cross_run(&c, full, err);
    memset(m->left, 0, m->q * m->q * sizeof *m->left);
    for (u64 i = 0; i < m->q && st == LB_OK; i++)
        for (u64 s = 0; s < m->da && m->da > m->db; s++) /* row i: top[i] . the rows of full */
            k->axpy_f64((size_t)m->q, m->left + i * m->q, m->top[i * m->da + s], full + s * m->db);
    for (u64 i = 0; i < m->q && st == LB_OK && m->da < m->db; i++)
        for (u64 s = 0; s < m->q; s++)
            m->left[i * m->q + s] = k->dot_f64((size_t)m->db, full + i * m->db, m->top + s * m->db);
    lb_free(full);
    return st;
}

static lb_status find_rotation(map *m, lb_err *err) {
    const lb_kernels *k = m->g->env->kernels;
    u64 q = m->q;
    double *sigma = lb_alloc((size_t)q * sizeof *sigma);
    if (!sigma)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a rotation");
    lb_status st = cross_in_components(m, err);
    if (st == LB_OK) { /* X^T = U S W^T, so that X = W S U^T and its polar factor is W U^T */
        lb_la_jacobi(k, (size_t)q, m->left, m->right, sigma);
        for (u64 s = 0; s < q; s++)
            for (u64 i = 0; i < q; i++)
                m->left[s * q + i] =
                    sigma[s] > NOTHING * sigma[0] ? m->left[s * q + i] / sigma[s] : 0;
    }
    lb_free(sigma);
    return st;
}

/* ---- one token ---- */

typedef struct areas {
    u8 *stored;
    float *x;
    double *in, *narrow, *turned, *out;
} areas;

static u64 carve_own(const map *m, u8 *own, areas *a) {
    lb_carver c = {.at = own};
    a->stored = lb_carve(&c, m->g->donor->row_bytes);
    a->x = lb_carve(&c, wider(m) * sizeof(float));
    a->in = lb_carve(&c, m->da * sizeof(double));
    a->narrow = lb_carve(&c, m->q * sizeof(double));
    a->turned = lb_carve(&c, m->q * sizeof(double));
    a->out = lb_carve(&c, m->db * sizeof(double));
    return c.used;
}

static lb_status put(void *ctx, u32 worker, u64 item, lb_err *err) {
    const map *m = ctx;
    const lb_graft *g = m->g;
    const lb_kernels *k = g->env->kernels;
    areas a;
    (void)carve_own(m, m->own + worker * m->own_bytes, &a);
    LB_TRY(lb_rows_read(g->donor, g->align->fresh[item], 1, a.stored, a.x, err));
    for (u64 i = 0; i < m->da; i++)
        a.in[i] = (double)a.x[i] - m->mean_a[i];
    const double *in = a.in;
    if (m->da > m->db) {
        for (u64 s = 0; s < m->q; s++)
            a.narrow[s] = k->dot_f64((size_t)m->da, a.in, m->top + s * m->da);
        in = a.narrow;
    }
    memset(a.turned, 0, m->q * sizeof *a.turned);
    for (u64 s = 0; s < m->q; s++)
        k->axpy_f64((size_t)m->q, a.turned, k->dot_f64((size_t)m->q, in, m->right + s * m->q),
                    m->left + s * m->q);
    memcpy(a.out, m->mean_b, m->db * sizeof *a.out);
    for (u64 s = 0; s < m->q && m->da < m->db; s++)
        k->axpy_f64((size_t)m->db, a.out, a.turned[s], m->top + s * m->db);
    for (u64 i = 0; i < m->db; i++)
        a.x[i] = (float)(m->da < m->db ? a.out[i] : a.out[i] + a.turned[i]);
    return lb_graft_put(g, g->align->fresh[item], a.x, err);
}

static u64 carve(map *m, u8 *memory) {
    lb_carver c = {.at = memory};
    areas none;
    m->own_bytes = carve_own(m, NULL, &none);
    m->mean_a = lb_carve(&c, m->da * sizeof(double));
    m->mean_b = lb_carve(&c, m->db * sizeof(double));
    m->top = lb_carve(&c, m->da == m->db ? 0 : m->q * wider(m) * sizeof(double));
    m->left = lb_carve(&c, m->q * m->q * sizeof(double));
    m->right = lb_carve(&c, m->q * m->q * sizeof(double));
    m->own = lb_carve(&c, m->g->env->threads * m->own_bytes);
    return c.used;
}

/* What comes and goes beside the map: a covariance with its factorisation, or the product of both
 * sides. */
static u64 passing_bytes(const map *m) {
    u64 d = wider(m);
    lb_cross c = {.a = m->da > m->db ? m->g->donor : m->g->model, .env = m->g->env};
    c.b = c.a;
    return lb_cross_bytes(&c) +
           (m->da == m->db ? 0 : (d * d + lb_la_tri_doubles((size_t)d) + 6 * d) * sizeof(double));
}

lb_status lb_graft_pca(const lb_graft *g, lb_err *err) {
    map m = {.g = g, .da = g->donor->n_cols, .db = g->model->n_cols};
    const lb_align *a = g->align;
    m.q = LB_MIN(m.da, m.db);
    u8 *memory;
    LB_TRY(lb_graft_need(g, carve(&m, NULL) + passing_bytes(&m), err));
    LB_TRY(lb_graft_memory(g, carve(&m, NULL), &memory, err));
    (void)carve(&m, memory);
    lb_status st = lb_rows_mean(g->donor, a->donor_row, a->n_shared, m.mean_a, err);
    if (st == LB_OK)
        st = lb_rows_mean(g->model, a->model_row, a->n_shared, m.mean_b, err);
    if (st == LB_OK && m.da != m.db)
        st = find_components(&m, err);
    if (st == LB_OK)
        st = find_rotation(&m, err);
    if (st == LB_OK)
        st = lb_work_run(g->env->threads, a->n_fresh, put, &m, err);
    lb_free(memory);
    lb_graft_progress(g, a->n_fresh);
    return st;
}
