/* SPDX-License-Identifier: Apache-2.0 */
/* la_qr.c: Householder's QR, and Cholesky's factor. */
#include "kernel/la.h"
#include <math.h>

void lb_la_qr(const lb_kernels *k, size_t n_rows, size_t n_cols, double *x, double *tau) {
    for (size_t j = 0; j < n_cols; j++) {
        double *v = x + j * n_rows + j;
        const size_t n = n_rows - j;
        const double below = k->dot_f64(n - 1, v + 1, v + 1), alpha = v[0];
        tau[j] = 0;
        if (below == 0)
            continue;
        const double norm = sqrt(fma(alpha, alpha, below)), beta = alpha > 0 ? -norm : norm;
        const double scale = 1 / (alpha - beta);
        for (size_t i = 1; i < n; i++)
            v[i] *= scale;
        tau[j] = (beta - alpha) / beta;
        v[0] = beta;
        for (size_t c = j + 1; c < n_cols; c++) {
            double *y = x + c * n_rows + j;
            const double w = tau[j] * (y[0] + k->dot_f64(n - 1, v + 1, y + 1));
            y[0] -= w;
            k->axpy_f64(n - 1, y + 1, -w, v + 1);
        }
    }
}

void lb_la_qr_apply(const lb_kernels *k, size_t n_rows, size_t n_cols, const double *x,
                    const double *tau, size_t n_y, double *y) {
    for (size_t c = 0; c < n_y; c++)
        for (size_t j = n_cols; j-- > 0;) {
            const double *v = x + j * n_rows + j;
            double *to = y + c * n_rows + j;
            const size_t n = n_rows - j;
            const double w = tau[j] * (to[0] + k->dot_f64(n - 1, v + 1, to + 1));
            if (w == 0)
                continue;
            to[0] -= w;
            k->axpy_f64(n - 1, to + 1, -w, v + 1);
        }
}

void lb_la_orth(const lb_kernels *k, size_t n_rows, size_t n_cols, double *x, double *q,
                double *tau) {
    lb_la_qr(k, n_rows, n_cols, x, tau);
    memset(q, 0, n_rows * n_cols * sizeof *q);
    for (size_t j = 0; j < n_cols; j++)
        q[j * n_rows + j] = 1;
    lb_la_qr_apply(k, n_rows, n_cols, x, tau, n_cols, q);
}

bool lb_la_cholesky(const lb_kernels *k, size_t n, double *g) {
    for (size_t i = 0; i < n; i++) {
        double *row = g + i * (i + 1) / 2;
        for (size_t j = 0; j < i; j++) {
            const double *of = g + j * (j + 1) / 2;
            row[j] = (row[j] - k->dot_f64(j, row, of)) / of[j];
        }
        const double rest = row[i] - k->dot_f64(i, row, row);
        if (!(rest > 0))
            return false;
        row[i] = sqrt(rest);
    }
    return true;
}
