/* SPDX-License-Identifier: Apache-2.0 */
/* dense_ref.c: scalar references of products and of vectors of doubles: each element one chain of
 * fused multiply-adds. */
#include "kernel/fold.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>

void lb_k_gemm_part_f32_ref(size_t n_rows, size_t n_cols, size_t n_inner, float *c, const float *a,
                            size_t a_stride, const float *b, size_t stride) {
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n_cols; j++) {
            float s = 0;
            for (size_t k = 0; k < n_inner; k++)
                s = fmaf(a[i * a_stride + k], b[k * stride + j], s);
            c[i * stride + j] = lb_canon_f32(c[i * stride + j] + s);
        }
}

void lb_k_gemm_f32_ref(size_t n_rows, size_t n_cols, size_t n_inner, float *c, const float *a,
                       size_t a_stride, const float *b) {
    lb_k_gemm_part_f32_ref(n_rows, n_cols, n_inner, c, a, a_stride, b, n_cols);
}

void lb_k_gram_f64_ref(size_t n_rows, size_t n_cols, double *g, const double *x) {
    for (size_t i = 0; i < n_cols; i++)
        for (size_t j = 0; j <= i; j++) {
            double *s = g + i * (i + 1) / 2 + j;
            for (size_t k = 0; k < n_rows; k++)
                *s = fma(x[k * n_cols + i], x[k * n_cols + j], *s);
            *s = lb_canon_f64(*s);
        }
}

double lb_k_dot_f64_ref(size_t n_elems, const double *a, const double *b) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n_elems; i++)
        lane[i % LB_FOLD_LANES] = fma(a[i], b[i], lane[i % LB_FOLD_LANES]);
    return lb_fold_lanes(lane);
}

void lb_k_axpy_f64_ref(size_t n_elems, double *y, double c, const double *x) {
    for (size_t i = 0; i < n_elems; i++)
        y[i] = lb_canon_f64(fma(c, x[i], y[i]));
}

void lb_k_rot_f64_ref(size_t n_elems, double *x, double *y, double c, double s) {
    for (size_t i = 0; i < n_elems; i++) {
        const double p = x[i], q = y[i];
        x[i] = lb_canon_f64(fma(c, p, s * q));
        y[i] = lb_canon_f64(c * q - s * p);
    }
}
