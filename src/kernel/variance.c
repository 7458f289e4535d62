/* SPDX-License-Identifier: Apache-2.0 */
/* variance.c: see variance.h. Blocks of a size that the compiler's vectors and an L1 like. */
#include "kernel/variance.h"
#include "kernel/half.h"

#define BLOCK 64

static void block_f64(size_t n, u32 n_in, float *out, const float *const *x, size_t at) {
    double mean[BLOCK] = {0}, square[BLOCK] = {0};
    for (u32 k = 0; k < n_in; k++) {
        const float *a = x[k] + at;
        for (size_t i = 0; i < n; i++) {
            double delta = (double)a[i] - mean[i];
            mean[i] += delta / (double)(k + 1);
            square[i] += delta * ((double)a[i] - mean[i]);
        }
    }
    for (size_t i = 0; i < n; i++)
        out[at + i] = lb_canon_f32((float)(square[i] / (double)n_in));
}

static void block_f32(size_t n, u32 n_in, float *out, const float *const *x, size_t at) {
    float mean[BLOCK] = {0}, square[BLOCK] = {0};
    for (u32 k = 0; k < n_in; k++) {
        const float *a = x[k] + at;
        for (size_t i = 0; i < n; i++) {
            float delta = a[i] - mean[i];
            mean[i] += delta / (float)(k + 1);
            square[i] += delta * (a[i] - mean[i]);
        }
    }
    for (size_t i = 0; i < n; i++)
        out[at + i] = lb_canon_f32(square[i] / (float)n_in);
}

void lb_variance_f32(size_t n_elems, u32 n_in, float *out, const float *const *x, bool in_f32) {
    for (size_t at = 0; at < n_elems; at += BLOCK) {
        size_t n = LB_MIN(n_elems - at, (size_t)BLOCK);
        if (in_f32)
            block_f32(n, n_in, out, x, at);
        else
            block_f64(n, n_in, out, x, at);
    }
}
