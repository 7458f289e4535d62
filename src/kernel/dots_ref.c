/* SPDX-License-Identifier: Apache-2.0 */
/* dots_ref.c: scalar references of products of rows with activations. */
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>

#define LANES 16

static float dot(size_t n, const u8 *w, lb_dtype type, const float *x) {
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        float v;
        u16 h;
        if (type == LB_F32) {
            memcpy(&v, w + 4 * i, sizeof v);
        } else {
            memcpy(&h, w + 2 * i, sizeof h);
            v = type == LB_F16 ? lb_f16_to_f32(h) : lb_bf16_to_f32(h);
        }
        lane[i % LANES] = fmaf(v, x[i], lane[i % LANES]);
    }
    for (int k = LANES / 2; k; k /= 2)
        for (int i = 0; i < k; i++)
            lane[i] += lane[i + k];
    return lb_canon_f32(lane[0]);
}

void lb_k_dots_f32_ref(size_t n_rows, size_t n_tokens, float *out, const float *w, const float *x,
                       const lb_dots *d) {
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r++)
            out[t * d->out_stride + r] =
                dot(d->n_cols, (const u8 *)(w + r * d->w_stride), LB_F32, x + t * d->x_stride);
}

void lb_k_dots_f16_ref(size_t n_rows, size_t n_tokens, float *out, const void *w, const float *x,
                       const lb_dots *d) {
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r++)
            out[t * d->out_stride + r] =
                dot(d->n_cols, (const u8 *)w + r * d->w_stride, LB_F16, x + t * d->x_stride);
}

void lb_k_dots_bf16_ref(size_t n_rows, size_t n_tokens, float *out, const void *w, const float *x,
                        const lb_dots *d) {
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r++)
            out[t * d->out_stride + r] =
                dot(d->n_cols, (const u8 *)w + r * d->w_stride, LB_BF16, x + t * d->x_stride);
}
