/* SPDX-License-Identifier: Apache-2.0 */
/* nn_ref.c: scalar references of what a layer computes in floats beside its products. */
#include "kernel/fold.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/nn.h"
#include <math.h>

typedef float vf;
#define vf_set(x) (x)
#define vf_add(a, b) ((a) + (b))
#define vf_sub(a, b) ((a) - (b))
#define vf_mul(a, b) ((a) * (b))
#define vf_div(a, b) ((a) / (b))
#define vf_fma(a, b, c) fmaf(a, b, c)
#define vf_fnma(a, b, c) fmaf(-(a), b, c)
#define vf_max(a, b) LB_MAX(a, b)
#define vf_min(a, b) LB_MIN(a, b)
#define vf_abs(x) lb_f32_from_bits(lb_f32_bits(x) & 0x7fffffffu)
#define vf_below0(x, a, b) ((x) < 0 ? (a) : (b))
#define vf_copysign(a, b) \
    lb_f32_from_bits((lb_f32_bits(a) & 0x7fffffffu) | (lb_f32_bits(b) & 0x80000000u))

/* The first product is exact. NaN's m says nothing: any factor will do. */
static inline float vf_scale(float p, float m) {
    const u32 n = lb_f32_bits(m) - lb_f32_bits(0x1.8p23f);
    const u32 first = (u32)((i32)n >> 1);
    return p * lb_f32_from_bits((first + 127) << 23) * lb_f32_from_bits((n - first + 127) << 23);
}

typedef double vd;
#define vd_set(x) (x)
#define vd_mul(a, b) ((a) * (b))
#define vd_fma(a, b, c) fma(a, b, c)
#define vd_max(a, b) LB_MAX(a, b)
#define vd_min(a, b) LB_MIN(a, b)
#define vd_above(x, lo, e) ((x) > (lo) ? (e) : 0.0)

static inline vd vd_powers(vd t, vd *a, vd *b) {
    const i64 k = (i64)(t - 0.5), h = k >> 1;
    const u64 bits[2] = {(u64)(h + 1023) << 52, (u64)(k - h + 1023) << 52};
    memcpy(a, &bits[0], sizeof *a);
    memcpy(b, &bits[1], sizeof *b);
    return (double)k;
}

#include "kernel/nn_math_tmpl.h"
#include "kernel/nn_exp64_tmpl.h"

static void map(nn_op op, size_t n, float *out, const float *a) {
    for (size_t i = 0; i < n; i++)
        out[i] = lb_canon_f32(nn_act_of(op, a[i]));
}

static void gate(nn_op op, size_t n, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n; i++)
        out[i] = lb_canon_f32(nn_act_of(op, a[i]) * b[i]);
}

void lb_k_exp_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_EXP, n_elems, out, x);
}

void lb_k_sigmoid_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_SIGMOID, n_elems, out, x);
}

void lb_k_silu_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_SILU, n_elems, out, x);
}

void lb_k_tanh_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_TANH, n_elems, out, x);
}

void lb_k_gelu_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_GELU, n_elems, out, x);
}

void lb_k_gelu_erf_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_GELU_ERF, n_elems, out, x);
}

void lb_k_relu_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_RELU, n_elems, out, x);
}

void lb_k_relu2_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_RELU2, n_elems, out, x);
}

void lb_k_softplus_f32_ref(size_t n_elems, float *out, const float *x) {
    map(NN_SOFTPLUS, n_elems, out, x);
}

void lb_k_sigmoid_mul_f32_ref(size_t n_elems, float *out, const float *gate_in, const float *up) {
    gate(NN_SIGMOID, n_elems, out, gate_in, up);
}

void lb_k_silu_mul_f32_ref(size_t n_elems, float *out, const float *gate_in, const float *up) {
    gate(NN_SILU, n_elems, out, gate_in, up);
}

void lb_k_gelu_mul_f32_ref(size_t n_elems, float *out, const float *gate_in, const float *up) {
    gate(NN_GELU, n_elems, out, gate_in, up);
}

void lb_k_gelu_erf_mul_f32_ref(size_t n_elems, float *out, const float *gate_in, const float *up) {
    gate(NN_GELU_ERF, n_elems, out, gate_in, up);
}

void lb_k_relu_mul_f32_ref(size_t n_elems, float *out, const float *gate_in, const float *up) {
    gate(NN_RELU, n_elems, out, gate_in, up);
}

void lb_k_relu2_mul_f32_ref(size_t n_elems, float *out, const float *gate_in, const float *up) {
    gate(NN_RELU2, n_elems, out, gate_in, up);
}

void lb_k_swiglu_oai_mul_f32_ref(size_t n_elems, float *out, const float *gate_in, const float *up,
                                 float alpha, float limit) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(nn_swiglu_oai_of(gate_in[i], up[i], alpha, limit));
}

void lb_k_softcap_f32_ref(size_t n_elems, float *out, const float *x, float cap) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(nn_softcap_of(x[i], cap));
}

/* ---- norms ---- */

static double sum(size_t n, const float *x) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % LB_FOLD_LANES] += (double)x[i];
    return lb_fold_lanes(lane);
}

/* A difference of two floats and its square are not exact in double: one rounding each, the square
 * goes in fused. */
static double sum_squares(size_t n, const float *x, double mean) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - mean;
        lane[i % LB_FOLD_LANES] = fma(d, d, lane[i % LB_FOLD_LANES]);
    }
    return lb_fold_lanes(lane);
}

void lb_k_rms_norm_f32_ref(size_t n_elems, float *out, const float *x, const float *w, float eps) {
    const float scale = lb_nn_rsqrt(sum_squares(n_elems, x, 0) / (double)n_elems, eps);
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(w ? x[i] * scale * w[i] : x[i] * scale);
}

void lb_k_l2_norm_f32_ref(size_t n_elems, float *out, const float *x, float eps) {
    const float scale = lb_nn_rsqrt(sum_squares(n_elems, x, 0), eps);
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(x[i] * scale);
}

void lb_k_layer_norm_f32_ref(size_t n_elems, float *out, const float *x, const float *w,
                             const float *b, float eps) {
    const double mean = sum(n_elems, x) / (double)n_elems;
    const float scale = lb_nn_rsqrt(sum_squares(n_elems, x, mean) / (double)n_elems, eps);
    for (size_t i = 0; i < n_elems; i++) {
        const float y = (x[i] - (float)mean) * scale;
        out[i] = lb_canon_f32(w && b ? fmaf(y, w[i], b[i]) : w ? y * w[i] : b ? y + b[i] : y);
    }
}

/* ---- softmax ---- */

enum { LANES = LB_FOLD_LANES };

static float largest(size_t n, const float *x, float start) {
    float lane[LANES];
    for (int l = 0; l < LANES; l++)
        lane[l] = start;
    for (size_t i = 0; i < n; i++)
        lane[i % LANES] = LB_MAX(x[i], lane[i % LANES]);
    return lb_nn_fold_max(lane);
}

float lb_k_max_f32_ref(size_t n_elems, const float *x) {
    return largest(n_elems, x, -INFINITY);
}

double lb_k_sum_exp_f32_ref(size_t n_elems, const float *x, float max) {
    double lane[LANES] = {0};
    for (size_t i = 0; i < n_elems; i++)
        lane[i % LANES] += (double)nn_exp_of(x[i] - max);
    return lb_fold_lanes(lane);
}

double lb_k_sum_exp_f64_ref(size_t n_elems, const float *x, float max) {
    double lane[LANES] = {0};
    for (size_t i = 0; i < n_elems; i++)
        lane[i % LANES] += nn_exp64_of((double)x[i] - (double)max);
    return lb_fold_lanes(lane);
}

void lb_k_softmax_f32_ref(size_t n_elems, float *x) {
    const float max = largest(n_elems, x, -INFINITY);
    if (!(max > -INFINITY)) { /* nothing is seen */
        lb_nn_unseen(n_elems, x);
        return;
    }
    double lane[LANES] = {0};
    for (size_t i = 0; i < n_elems; i++) {
        x[i] = nn_exp_of(x[i] - max);
        lane[i % LANES] += (double)x[i];
    }
    const float scale = (float)(1 / lb_fold_lanes(lane));
    for (size_t i = 0; i < n_elems; i++)
        x[i] = lb_canon_f32(x[i] * scale);
}

float lb_k_softmax_part_f32_ref(size_t n_elems, float *x, float scale, float softcap,
                                float state[2]) {
    for (size_t i = 0; i < n_elems; i++)
        x[i] = softcap != 0 ? nn_softcap_of(scale * x[i], softcap) : scale * x[i];
    const float max = largest(n_elems, x, state[0]);
    if (!(max > -INFINITY)) {
        state[1] = lb_canon_f32(state[1] + lb_nn_unseen(n_elems, x));
        return 1;
    }
    float lane[LANES] = {0};
    for (size_t i = 0; i < n_elems; i++) {
        x[i] = lb_canon_f32(nn_exp_of(x[i] - max));
        lane[i % LANES] += x[i];
    }
    const float before = lb_canon_f32(nn_exp_of(state[0] - max));
    state[0] = max;
    state[1] = lb_canon_f32(fmaf(state[1], before, lb_nn_fold_sum(lane)));
    return before;
}

/* ---- positions ---- */

void lb_k_rope_half_f32_ref(size_t n_heads, size_t head_stride, size_t n_rot, float *x,
                            const float *cos, const float *sin) {
    const size_t half = n_rot / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_stride)
        for (size_t i = 0; i < half; i++)
            lb_nn_rotate(&x[i], &x[i + half], cos[i], sin[i]);
}

void lb_k_rope_pairs_f32_ref(size_t n_heads, size_t head_stride, size_t n_rot, float *x,
                             const float *cos, const float *sin) {
    for (size_t h = 0; h < n_heads; h++, x += head_stride)
        for (size_t i = 0; i < n_rot / 2; i++)
            lb_nn_rotate(&x[2 * i], &x[2 * i + 1], cos[i], sin[i]);
}

/* ---- other mixers ---- */

void lb_k_hadamard_f32_ref(size_t n_elems, float *x) {
    for (size_t h = 1; h < n_elems; h *= 2)
        for (size_t i = 0; i < n_elems; i++)
            if (!(i & h)) {
                const float a = x[i], b = x[i + h];
                x[i] = a + b;
                x[i + h] = a - b;
            }
    const float scale = 1.0f / sqrtf((float)n_elems);
    for (size_t i = 0; i < n_elems; i++)
        x[i] = lb_canon_f32(x[i] * scale);
}

void lb_k_conv_step_f32_ref(size_t n_channels, size_t width, float *out, float *state,
                            const float *x, const float *w, const float *bias) {
    for (size_t c = 0; c < n_channels; c++)
        out[c] = lb_nn_conv_one(n_channels, width, state + c, x[c], w + c * width,
                                bias ? bias[c] : 0.0f);
}

void lb_k_delta_steps_f32_ref(size_t n_tokens, size_t k_dim, size_t v_dim, float *state, float *out,
                              const lb_delta *in) {
    for (size_t t = 0, at = 0; t < n_tokens; t++, at += in->stride) {
        const float gate[2] = {in->decay[at], in->beta[at]};
        for (size_t j = 0; j < v_dim; j++)
            out[t * in->out_stride + j] = lb_nn_delta_one(k_dim, v_dim, state + j, in->q + at,
                                                          in->k + at, in->v[at + j], gate);
    }
}
