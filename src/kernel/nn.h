/* SPDX-License-Identifier: Apache-2.0 */
/* nn.h: what the references and the SIMD of nn_*.c and attend_*.c share: one column, one pair, the
 * ends of sums. Sums of floats have the 16 lanes of fold.h, in f32. */
#ifndef LB_KERNEL_NN_H
#define LB_KERNEL_NN_H

#include "kernel/fold.h"
#include "kernel/half.h"
#include <math.h>

static inline float lb_nn_rsqrt(double mean, float eps) {
    return (float)(1 / sqrt(mean + (double)eps));
}

static inline float lb_nn_fold_sum(float *lane) {
    for (int half = LB_FOLD_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static inline float lb_nn_fold_max(float *lane) {
    for (int half = LB_FOLD_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = LB_MAX(lane[i + half], lane[i]);
    return lane[0];
}

/* Weights of scores none of which is above -Inf: 0, NaN for NaN. Returns their sum. */
static inline float lb_nn_unseen(size_t n, float *x) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] == x[i] ? 0.0f : lb_f32_from_bits(LB_NAN_BITS);
        sum += x[i];
    }
    return sum;
}

static inline void lb_nn_rotate(float *a, float *b, float cos, float sin) {
    const float x = *a, y = *b;
    *a = lb_canon_f32(fmaf(x, cos, -(y * sin)));
    *b = lb_canon_f32(fmaf(y, cos, x * sin));
}

/* One channel; state: its value in each of the earlier tokens, n_channels apart, oldest first. */
static inline float lb_nn_conv_one(size_t n_channels, size_t width, float *state, float x,
                                   const float *w, float bias) {
    float sum = bias;
    for (size_t t = 0; t + 1 < width; t++) {
        sum = fmaf(state[t * n_channels], w[t], sum);
        state[t * n_channels] = t + 2 < width ? state[(t + 1) * n_channels] : x;
    }
    return lb_canon_f32(fmaf(x, w[width - 1], sum));
}

/* One column of the state: elements v_dim apart. gate: decay, beta. */
static inline float lb_nn_delta_one(size_t k_dim, size_t v_dim, float *state, const float *q,
                                    const float *k, float v, const float gate[2]) {
    const float decay = gate[0], beta = gate[1];
    float u = 0, out = 0;
    for (size_t i = 0; i < k_dim; i++)
        u = fmaf(k[i], state[i * v_dim], u);
    const float d = beta * fmaf(-decay, u, v);
    for (size_t i = 0; i < k_dim; i++) {
        const float s = fmaf(k[i], d, decay * state[i * v_dim]);
        out = fmaf(q[i], s, out);
        state[i * v_dim] = lb_canon_f32(s);
    }
    return lb_canon_f32(out);
}

#endif
