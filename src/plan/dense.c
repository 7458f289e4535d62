/* SPDX-License-Identifier: Apache-2.0 */
/* dense.c: see dense.h. */
#include "plan/dense.h"
#include "kernel/la.h"

#define ADD_ROWS 64 /* in double at a time: 2 MiB for 4096 columns */

static u64 triangle(u64 n) {
    return n * (n + 1) / 2;
}

u64 lb_dense_sums_bytes(const lb_node *n, u64 n_rows, u64 n_cols) {
    (void)n_rows;
    return n->op == LB_DENSE_EIGEN ? (triangle(n_cols) + ADD_ROWS * n_cols) * sizeof(double) : 0;
}

u64 lb_dense_work_bytes(const lb_node *n, u64 n_rows, u64 n_cols) {
    u64 thin = 2 * n_rows * n_cols, square = n_cols * n_cols;
    switch (n->op) {
    case LB_DENSE_ORTH:
        return (thin + n_cols) * sizeof(double);
    case LB_DENSE_SVD: /* x, u; w, work; sigma, a row */
        return (thin + square + n_cols * (n_cols + 1) + 2 * n_cols) * sizeof(double);
    case LB_DENSE_EIGEN: /* vectors, values; tridiagonal form; work */
        return (n->n_cols * (n_cols + 1) + lb_la_tri_doubles(n_cols) + 5 * n_cols) * sizeof(double);
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

const char *lb_dense_finish(const lb_kernels *k, const lb_dense *d) {
    if (d->node->op == LB_DENSE_GRAM) {
        finish_gram(k, d);
        return NULL;
    }
    if (!is_finite(k, d))
        return "it has values that are NaN or infinite, or so large that their sums are: it has no "
               "factors (verify lists such tensors)";
    if (d->node->op == LB_DENSE_ORTH)
        finish_orth(k, d);
    else if (d->node->op == LB_DENSE_SVD)
        finish_svd(k, d);
    else
        finish_eigen(k, d);
    return NULL;
}
