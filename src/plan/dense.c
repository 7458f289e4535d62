/* SPDX-License-Identifier: Apache-2.0 */
/* dense.c: see dense.h. */
#include "plan/dense.h"
#include "kernel/la.h"
#include <math.h>

#define ADD_ROWS 64 /* in double at a time: 2 MiB for 4096 columns */

static u64 triangle(u64 n) {
    return n * (n + 1) / 2;
}

bool lb_dense_adds_up(const lb_node *n) {
    return n->op == LB_DENSE_EIGEN || n->op == LB_DENSE_FLAT || n->op == LB_DENSE_TOP;
}

u64 lb_dense_sums_bytes(const lb_node *n, u64 n_rows, u64 n_cols) {
    (void)n_rows;
    return lb_dense_adds_up(n) ? (triangle(n_cols) + ADD_ROWS * n_cols) * sizeof(double) : 0;
}

u64 lb_dense_work_bytes(const lb_node *n, u64 n_rows, u64 n_cols) {
    u64 thin = 2 * n_rows * n_cols, square = n_cols * n_cols;
    switch (n->op) {
    case LB_DENSE_ORTH:
        return (thin + n_cols) * sizeof(double);
    case LB_DENSE_POLAR: /* as SVD */
    case LB_DENSE_SVD:   /* x, u; w, work; sigma, a row */
        return (thin + square + n_cols * (n_cols + 1) + 2 * n_cols) * sizeof(double);
    case LB_DENSE_EIGEN: /* vectors, values; tridiagonal form; work */
        return (n->n_cols * (n_cols + 1) + lb_la_tri_doubles(n_cols) + 5 * n_cols) * sizeof(double);
    case LB_DENSE_FLAT: /* vectors; tridiagonal form; work */
    case LB_DENSE_TOP:
        return (square + n_cols + lb_la_tri_doubles(n_cols) + LB_LA_QL_WORK) * sizeof(double);
    default:
        return 0;
    }
}

/* Rows to columns in double, and back. */
static void widen(u64 n_rows, u64 n_cols, double *x, const float *rows) {
    for (u64 j = 0; j < n_cols; j++)
        for (u64 i = 0; i < n_rows; i++)
            x[j * n_rows + i] = (double)rows[i * n_cols + j];
}

static void narrow(u64 n_rows, u64 n_cols, float *rows, const double *x) {
    for (u64 i = 0; i < n_rows; i++)
        for (u64 j = 0; j < n_cols; j++)
            rows[i * n_cols + j] = (float)x[j * n_rows + i];
}

static void finish_gram(const lb_kernels *k, const lb_dense *d) {
    u64 n = d->n_rows, m = d->n_cols;
    for (u64 i = 0; i < n; i++)
        for (u64 j = 0; j <= i; j++) {
            double s = 0;
            for (u64 c = 0; c < m; c += LB_FOLD_LEAF)
                s += k->fold_dot_f32(LB_MIN(m - c, LB_FOLD_LEAF), d->input + i * m + c,
                                     d->input + j * m + c);
            d->out[i * n + j] = d->out[j * n + i] = (float)s;
        }
}

static void finish_orth(const lb_kernels *k, const lb_dense *d) {
    u64 n = d->n_rows, m = d->n_cols;
    double *x = (double *)(void *)d->work, *q = x + n * m, *tau = q + n * m;
    widen(n, m, x, d->input);
    lb_la_orth(k, n, m, x, q, tau);
    narrow(n, m, d->out, q);
}

static void finish_svd(const lb_kernels *k, const lb_dense *d) {
    u64 n = d->n_rows, m = d->n_cols;
    double *x = (double *)(void *)d->work, *u = x + n * m, *w = u + n * m, *work = w + m * m;
    double *sigma = work + m * (m + 1), *row = sigma + m;
    float *out = d->out + n * m;
    widen(n, m, x, d->input);
    lb_la_svd(k, n, m, x, u, w, sigma, work);
    narrow(n, m, d->out, u);
    for (u64 j = 0; j < m; j++)
        *out++ = (float)sigma[j];
    for (u64 i = 0; i < d->other_rows; i++) {
        for (u64 j = 0; j < m; j++)
            row[j] = (double)d->other[i * m + j];
        for (u64 j = 0; j < m; j++)
            *out++ = (float)k->dot_f64(m, row, w + j * m);
    }
}

void lb_dense_add(const lb_kernels *k, const lb_dense *d, u64 n_rows, const float *rows) {
    u64 m = d->n_cols;
    double *x = d->sums + triangle(m);
    for (u64 i = 0; i < n_rows; i += ADD_ROWS) {
        u64 n = LB_MIN(n_rows - i, ADD_ROWS);
        for (u64 j = 0; j < n * m; j++)
            x[j] = (double)rows[i * m + j];
        k->gram_f64(n, m, d->sums, x);
    }
}

static bool is_finite(const lb_kernels *k, const lb_dense *d) {
    float range[2];
    u64 n = d->n_rows * d->n_cols, bad = 0;
    for (u64 i = 0; i < n && d->input; i += LB_FOLD_LEAF)
        bad += k->fold_range_f32(LB_MIN(n - i, LB_FOLD_LEAF), d->input + i, range);
    for (u64 i = 0; i < d->n_cols && !d->input; i++) { /* the squares of its column are in it */
        double x = d->sums[triangle(i) + i];
        bad += x - x != 0;
    }
    return bad == 0;
}

static void finish_eigen(const lb_kernels *k, const lb_dense *d) {
    u64 m = d->n_cols, top = d->node->n_cols;
    double *vectors = (double *)(void *)d->work, *values = vectors + top * m, *tri = values + top,
           *work = tri + lb_la_tri_doubles(m);
    lb_la_tri t;
    lb_la_tri_place(&t, m, d->sums, tri);
    lb_la_tridiagonalize(k, &t);
    lb_la_eigen_top(k, &t, top, values, vectors, work);
    narrow(m, top, d->out, vectors);
}

static void finish_polar(const lb_kernels *k, const lb_dense *d) {
    u64 n = d->n_rows, m = d->n_cols;
    double *x = (double *)(void *)d->work, *u = x + n * m, *w = u + n * m, *work = w + m * m;
    double *sigma = work + m * (m + 1);
    widen(n, m, x, d->input);
    lb_la_svd(k, n, m, x, u, w, sigma, work);
    memset(x, 0, n * m * sizeof *x);
    for (u64 j = 0; j < m; j++)
        for (u64 r = 0; r < m; r++)
            k->axpy_f64(n, x + j * n, w[r * m + j], u + r * n);
    narrow(n, m, d->out, x);
}

/* Singular values below it are what rounding leaves of 0: eigenvalues of sums in double are exact
 * to some 2^-52 of the largest. */
#define LEAST 0x1p-22

static double singular(double eigenvalue) {
    return eigenvalue > 0 ? sqrt(eigenvalue) : 0;
}

/* FLAT: what a singular value is multiplied with, is the mean of all over it. */
static void weigh_flat(u64 m, const double *values, u64 n_least, double *by) {
    double sum = 0, most = 0;
    for (u64 i = 0; i < m; i++) {
        sum += singular(values[i]);
        most = fmax(most, singular(values[i]));
    }
    for (u64 i = 0; i < m; i++)
        by[i] =
            singular(values[i]) > LEAST * most ? sum / (double)n_least / singular(values[i]) : 0;
}

/* TOP: 0, or the sum of all over that of the largest which have a part of it (of equal ones those
 * that come first). by: [m] */
static void weigh_top(u64 m, const double *values, double part, double *by) {
    double sum = 0, have = 0;
    for (u64 i = 0; i < m; i++) {
        sum += singular(values[i]);
        by[i] = 0;
    }
    for (u64 n = 0; n < m && (n == 0 || have < part * sum); n++) {
        u64 most = m;
        for (u64 i = 0; i < m; i++)
            if (by[i] == 0 && (most == m || values[i] > values[most]))
                most = i;
        by[most] = 1;
        have += singular(values[most]);
    }
    for (u64 i = 0; i < m; i++)
        by[i] = have > 0 ? by[i] * sum / have : 0;
}

/* V diag(by) V^T as the Gram matrix of rows times roots. */
static const char *finish_spectrum(const lb_kernels *k, const lb_dense *d) {
    u64 m = d->n_cols;
    double *vectors = (double *)(void *)d->work, *by = vectors + m * m, *tri = by + m,
           *work = tri + lb_la_tri_doubles(m);
    lb_la_tri t;
    lb_la_tri_place(&t, m, d->sums, tri);
    lb_la_tridiagonalize(k, &t);
    if (!lb_la_eigen_all(k, &t, vectors, work))
        return "its singular values do not converge";
    if (d->node->op == LB_DENSE_FLAT)
        weigh_flat(m, t.d, LB_MIN(m, d->n_rows), by);
    else
        weigh_top(m, t.d, d->node->u.part, by);
    for (u64 r = 0; r < m; r++)
        for (u64 i = 0; i < m; i++)
            vectors[r * m + i] *= sqrt(by[r]);
    memset(d->sums, 0, triangle(m) * sizeof *d->sums);
    for (u64 r = 0; r < m; r += ADD_ROWS)
        k->gram_f64(LB_MIN(m - r, ADD_ROWS), m, d->sums, vectors + r * m);
    for (u64 i = 0; i < m; i++)
        for (u64 j = 0; j <= i; j++)
            d->out[i * m + j] = d->out[j * m + i] = (float)d->sums[triangle(i) + j];
    return NULL;
}

const char *lb_dense_finish(const lb_kernels *k, const lb_dense *d) {
    if (d->node->op == LB_DENSE_GRAM) {
        finish_gram(k, d);
        return NULL;
    }
    if (!is_finite(k, d))
        return "it has values that are NaN or infinite, or so large that their sums are: it has no "
               "factors (verify lists such tensors)";
    switch (d->node->op) {
    case LB_DENSE_ORTH:
        finish_orth(k, d);
        return NULL;
    case LB_DENSE_SVD:
        finish_svd(k, d);
        return NULL;
    case LB_DENSE_POLAR:
        finish_polar(k, d);
        return NULL;
    case LB_DENSE_EIGEN:
        finish_eigen(k, d);
        return NULL;
    default:
        return finish_spectrum(k, d);
    }
}
