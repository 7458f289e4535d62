/* SPDX-License-Identifier: Apache-2.0 */
/* la_svd.c: singular values and vectors: QR, then one-sided Jacobi on R. */
#include "kernel/la.h"
#include <math.h>

#define SWEEPS_MAX 60      /* ten are many */
#define ORTHOGONAL 0x1p-50 /* cosine between two columns that are left as they are */

/* Turns columns p and q until they are orthogonal, the longer one first. False: they were. */
static bool turn(const lb_kernels *k, size_t n, double *a, double *w, size_t p, size_t q) {
    double *x = a + p * n, *y = a + q * n;
    const double d = k->dot_f64(n, x, y), xx = k->dot_f64(n, x, x), yy = k->dot_f64(n, y, y);
    if (!(fabs(d) > ORTHOGONAL * sqrt(xx) * sqrt(yy)))
        return false;
    const double zeta = (yy - xx) / (2 * d);
    const double t = (zeta < 0 ? -1 : 1) / (fabs(zeta) + sqrt(fma(zeta, zeta, 1)));
    const double c = 1 / sqrt(fma(t, t, 1)), s = -c * t;
    k->rot_f64(n, x, y, c, s);
    k->rot_f64(n, w + p * n, w + q * n, c, s);
    return true;
}

static void swap(size_t n, double *a, double *b) {
    for (size_t i = 0; i < n; i++) {
        const double x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
}

/* By length, the longest first; of equals the earlier. */
static void sort(size_t n, double *a, double *w, double *sigma) {
    for (size_t i = 0; i < n; i++) {
        size_t most = i;
        for (size_t j = i + 1; j < n; j++)
            if (sigma[j] > sigma[most])
                most = j;
        if (most == i)
            continue;
        swap(n, a + i * n, a + most * n);
        swap(n, w + i * n, w + most * n);
        swap(1, sigma + i, sigma + most);
    }
}

void lb_la_jacobi(const lb_kernels *k, size_t n, double *a, double *w, double *sigma) {
    bool turned = true;
    memset(w, 0, n * n * sizeof *w);
    for (size_t i = 0; i < n; i++)
        w[i * n + i] = 1;
    for (u32 sweep = 0; sweep < SWEEPS_MAX && turned; sweep++) {
        turned = false;
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++)
                turned |= turn(k, n, a, w, p, q);
    }
    for (size_t i = 0; i < n; i++)
        sigma[i] = sqrt(k->dot_f64(n, a + i * n, a + i * n));
    sort(n, a, w, sigma);
}

void lb_la_svd(const lb_kernels *k, size_t n_rows, size_t n_cols, double *x, double *u, double *w,
               double *sigma, double *work) {
    double *r = work, *tau = work + n_cols * n_cols;
    lb_la_qr(k, n_rows, n_cols, x, tau);
    for (size_t j = 0; j < n_cols; j++)
        for (size_t i = 0; i < n_cols; i++)
            r[j * n_cols + i] = i <= j ? x[j * n_rows + i] : 0;
    lb_la_jacobi(k, n_cols, r, w, sigma);
    memset(u, 0, n_rows * n_cols * sizeof *u);
    for (size_t j = 0; j < n_cols; j++)
        for (size_t i = 0; i < n_cols && sigma[j] > 0; i++)
            u[j * n_rows + i] = r[j * n_cols + i] / sigma[j];
    lb_la_qr_apply(k, n_rows, n_cols, x, tau, n_cols, u);
}
