/* SPDX-License-Identifier: Apache-2.0 */
/* landmarks.c: see landmarks.h. Systems of k unknowns by Cholesky where they have one solution that
 * is well determined, else by their eigenvectors (Jacobi), without those that rounding f32 values
 * makes. */
#include "merge/landmarks.h"
#include <math.h>

#define F32_EPSILON 0x1p-23
#define SWEEPS_MAX 60

static double dot(const lb_kernels *kernels, const float *a, const float *b, u64 n) {
    double s = 0;
    for (u64 i = 0; i < n; i += LB_FOLD_LEAF)
        s += kernels->fold_dot_f32((size_t)LB_MIN(n - i, LB_FOLD_LEAF), a + i, b + i);
    return s;
}

double lb_landmarks_distance(const lb_kernels *kernels, const float *a, const float *b, u64 d,
                             bool cosine) {
    if (cosine) {
        double norms = sqrt(dot(kernels, a, a, d)) * sqrt(dot(kernels, b, b, d));
        return 1 - dot(kernels, a, b, d) / fmax(norms, 1e-6);
    }
    double s = 0;
    for (u64 i = 0; i < d; i++) {
        double x = (double)a[i] - (double)b[i];
        s += x * x;
    }
    return sqrt(s);
}

/* ---- symmetric systems [n, n], row-major ---- */

/* a = L L^T in its lower triangle. False: some pivot is below `least` of the largest. */
static bool cholesky(double *a, u64 n, double least) {
    double top = 0;
    for (u64 i = 0; i < n; i++)
        top = fmax(top, a[i * n + i]);
    for (u64 j = 0; j < n; j++) {
        double *row = a + j * n;
        for (u64 i = 0; i < j; i++) {
            double s = row[i];
            for (u64 k = 0; k < i; k++)
                s -= row[k] * a[i * n + k];
            row[i] = s / a[i * n + i];
        }
        double s = row[j];
        for (u64 k = 0; k < j; k++)
            s -= row[k] * row[k];
        if (!(s > least * top))
            return false;
        row[j] = sqrt(s);
    }
    return true;
}

static void cholesky_solve(const double *l, u64 n, double *x) {
    for (u64 i = 0; i < n; i++) {
        for (u64 k = 0; k < i; k++)
            x[i] -= l[i * n + k] * x[k];
        x[i] /= l[i * n + i];
    }
    for (u64 i = n; i-- > 0;) {
        for (u64 k = i + 1; k < n; k++)
            x[i] -= l[k * n + i] * x[k];
        x[i] /= l[i * n + i];
    }
}

/* Turns rows and columns p and q so that a[p][q] is 0; v gathers the turns. */
static void turn(double *a, double *v, u64 n, u64 p, u64 q) {
    double apq = a[p * n + q];
    double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
    double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (u64 i = 0; i < n; i++) {
        double x = a[i * n + p], y = a[i * n + q];
        a[i * n + p] = c * x - s * y;
        a[i * n + q] = s * x + c * y;
    }
    for (u64 i = 0; i < n; i++) {
        double x = a[p * n + i], y = a[q * n + i];
        a[p * n + i] = c * x - s * y;
        a[q * n + i] = s * x + c * y;
    }
    for (u64 i = 0; i < n; i++) {
        double x = v[i * n + p], y = v[i * n + q];
        v[i * n + p] = c * x - s * y;
        v[i * n + q] = s * x + c * y;
    }
}

/* a becomes diagonal, the columns of v its eigenvectors. */
static void jacobi(double *a, double *v, u64 n) {
    for (u64 i = 0; i < n * n; i++)
        v[i] = i % (n + 1) == 0;
    for (u32 sweep = 0; sweep < SWEEPS_MAX; sweep++) {
        double off = 0, all = 0;
        for (u64 i = 0; i < n; i++)
            for (u64 j = 0; j < n; j++) {
                off += i == j ? 0 : a[i * n + j] * a[i * n + j];
                all += a[i * n + j] * a[i * n + j];
            }
        if (off <= 1e-30 * all)
            return;
        for (u64 p = 0; p + 1 < n; p++)
            for (u64 q = p + 1; q < n; q++)
                if (a[p * n + q] != 0)
                    turn(a, v, n, p, q);
    }
}

/* The shortest x with a x = b, as well as it goes, in x, which is b at first. Eigenvalues below
 * `least` of the largest count as 0. scratch [n n + n]; a is destroyed. */
static void solve_shortest(double *a, u64 n, double least, double *scratch, double *x) {
    double *v = scratch, *y = scratch + n * n, top = 0;
    jacobi(a, v, n);
    for (u64 i = 0; i < n; i++)
        top = fmax(top, fabs(a[i * n + i]));
    for (u64 i = 0; i < n; i++) {
        y[i] = 0;
        for (u64 k = 0; k < n; k++)
            y[i] += v[k * n + i] * x[k];
        y[i] = fabs(a[i * n + i]) > least * top ? y[i] / a[i * n + i] : 0;
    }
    for (u64 k = 0; k < n; k++) {
        x[k] = 0;
        for (u64 i = 0; i < n; i++)
            x[k] += v[k * n + i] * y[i];
    }
}

/* ---- weights ---- */

u64 lb_landmarks_scratch(u64 k) {
    u64 n = k + 1;
    return 2 * n * n + 3 * n;
}

static void by_distance(const lb_landmarks *l, double *w) {
    double sum = 0;
    for (u64 i = 0; i < l->k; i++) {
        w[i] = l->cosine ? 1 - l->distance[i] : 1 / fmax(l->distance[i], 1e-6);
        sum += w[i];
    }
    for (u64 i = 0; i < l->k; i++)
        w[i] /= fmax(sum, 1e-6);
}

/* Products of the points with each other in rows of n, and with the target. */
static void products(const lb_landmarks *l, const lb_kernels *kernels, u64 n, double *gram,
                     double *w) {
    for (u64 i = 0; i < l->k; i++) {
        for (u64 j = 0; j <= i; j++)
            gram[i * n + j] = gram[j * n + i] =
                dot(kernels, l->points + i * l->d, l->points + j * l->d, l->d);
        w[i] = dot(kernels, l->points + i * l->d, l->target, l->d);
    }
}

static void least_squares(const lb_landmarks *l, const lb_kernels *kernels, double *scratch,
                          double *w) {
    u64 k = l->k;
    double rank = F32_EPSILON * (double)LB_MAX(k, l->d);
    products(l, kernels, k, scratch, w);
    if (cholesky(scratch, k, rank * rank)) {
        cholesky_solve(scratch, k, w);
        return;
    }
    products(l, kernels, k, scratch, w);
    solve_shortest(scratch, k, rank * rank, scratch + k * k, w);
}

/* The products with a border of ones: the last unknown is the multiplier of the sum. */
static void barycentric(const lb_landmarks *l, const lb_kernels *kernels, double *scratch,
                        double *w) {
    u64 k = l->k, n = k + 1;
    double rank = F32_EPSILON * (double)LB_MAX(k, l->d);
    double *x = scratch + 2 * n * n + n, *ones = x + n;
    products(l, kernels, k, scratch, w);
    if (cholesky(scratch, k, rank * rank)) {
        double sum = 0, sum_ones = 0;
        for (u64 i = 0; i < k; i++)
            ones[i] = 1;
        cholesky_solve(scratch, k, w);
        cholesky_solve(scratch, k, ones);
        for (u64 i = 0; i < k; i++) {
            sum += w[i];
            sum_ones += ones[i];
        }
        for (u64 i = 0; i < k; i++)
            w[i] -= (sum - 1) / sum_ones * ones[i];
        return;
    }
    products(l, kernels, n, scratch, x);
    for (u64 i = 0; i < k; i++)
        scratch[i * n + k] = scratch[k * n + i] = 1;
    scratch[n * n - 1] = 0;
    x[k] = 1;
    solve_shortest(scratch, n, F32_EPSILON * (double)n, scratch + n * n, x);
    memcpy(w, x, k * sizeof *w);
}

void lb_landmarks_weigh(const lb_landmarks *l, const lb_kernels *kernels, double *scratch,
                        double *weight) {
    if (l->weighing == LB_WEIGH_DISTANCE)
        by_distance(l, weight);
    else if (l->weighing == LB_WEIGH_LEAST)
        least_squares(l, kernels, scratch, weight);
    else
        barycentric(l, kernels, scratch, weight);
}
