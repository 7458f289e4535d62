/* SPDX-License-Identifier: Apache-2.0 */
/* la.h: dense factorisations in double, the same bits on every machine: sums of fixed order,
 * multiply-adds that are written as such, no function of libm but the root.
 *
 * Matrices are columns one after the other, each contiguous; triangles of symmetric matrices are
 * rows one after the other (gram_f64 of kernel.def). Values must be finite and their squares must
 * not overflow, as those of floats do not. Memory is the caller's. */
#ifndef LB_KERNEL_LA_H
#define LB_KERNEL_LA_H

#include "kernel/kernel.h"

/* x: n_cols <= n_rows columns. Householder's reflections H_0 H_1 ... = Q: the upper triangle
 * becomes R, below it are the reflections' vectors (their first element, 1, is not kept). Q is
 * orthonormal to rounding whatever the rank of x. */
void lb_la_qr(const lb_kernels *k, size_t n_rows, size_t n_cols, double *x, double *tau);
/* y = Q y; n_y columns of n_rows. */
void lb_la_qr_apply(const lb_kernels *k, size_t n_rows, size_t n_cols, const double *x,
                    const double *tau, size_t n_y, double *y);
/* Orthonormal columns q that span those of x, which becomes its factors. tau: [n_cols]. */
void lb_la_orth(const lb_kernels *k, size_t n_rows, size_t n_cols, double *x, double *q,
                double *tau);

/* One-sided Jacobi: a (n x n) = U diag(sigma) W^T; a becomes U diag(sigma), sigma descends. Small
 * singular values are as exact as the columns of a are. */
void lb_la_jacobi(const lb_kernels *k, size_t n, double *a, double *w, double *sigma);
/* x = U diag(sigma) W^T, n_cols <= n_rows; x is overwritten; columns of U whose sigma is 0 are 0.
 * work: [n_cols * (n_cols + 1)]. */
void lb_la_svd(const lb_kernels *k, size_t n_rows, size_t n_cols, double *x, double *u, double *w,
               double *sigma, double *work);

/* Lower triangle of a positive definite matrix to L, in place. False: it is not definite. */
bool lb_la_cholesky(const lb_kernels *k, size_t n, double *g);

/* Symmetric, by its lower triangle g, which becomes reflections to tridiagonal form. */
typedef struct lb_la_tri {
    size_t n;
    double *g;       /* n (n + 1) / 2 */
    double *d, *e;   /* [n] diagonal; [n] e[i]: between i - 1 and i, e[0] = 0 */
    double *tau, *p; /* [n], [n] */
} lb_la_tri;
size_t lb_la_tri_doubles(size_t n); /* of d, e, tau and p together */
void lb_la_tri_place(lb_la_tri *t, size_t n, double *g, double *memory);
void lb_la_tridiagonalize(const lb_kernels *k, lb_la_tri *t);

/* The n_top largest eigenvalues, descending, and their vectors (columns [n_top][n]): bisection,
 * inverse iteration. work: [5 n]. */
void lb_la_eigen_top(const lb_kernels *k, const lb_la_tri *t, size_t n_top, double *values,
                     double *vectors, double *work);
/* All of them: implicit QL, ascending or not; t->d and e are overwritten, t->d has the values.
 * work: [LB_LA_QL_WORK]. */
#define LB_LA_QL_ROTATIONS 32768
#define LB_LA_QL_WORK ((size_t)3 * LB_LA_QL_ROTATIONS)
bool lb_la_eigen_all(const lb_kernels *k, lb_la_tri *t, double *vectors, double *work);

#endif
