/* SPDX-License-Identifier: Apache-2.0 */
/* nn_tmpl.h: activations for registers of any width, and what nn_norm_tmpl.h and nn_mix_tmpl.h need
 * of the same words: included by one file an instruction set, which defines those of nn_math_tmpl.h
 * and vf, VF_LANES          a register of floats;  vf_load, vf_store, vf_canon vd, VD_LANES of
 * doubles;  vd_set, vd_load_f32 (from floats), vd_add, vd_sub, vd_fma, vd_store;  vd_add_vf(d, x):
 * d[i] += lanes of x, for all of x's lanes vf_twice(p)           p[0], p[0], p[1], p[1] ..;
 * vf_swap(x, h): lanes i and i ^ h vf_taps4(p, w)        w[t] = p[4 i + t] of each lane i Lanes of
 * sums are fold.h's sixteen whatever the width; a chain has the order of its index. */
#include "kernel/fold.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/nn.h"
#include "kernel/nn_math_tmpl.h"
#include "kernel/nn_exp64_tmpl.h"

#define UNROLL _Pragma("GCC unroll 16")
#define NF (LB_FOLD_LANES / VF_LANES)
#define ND (LB_FOLD_LANES / VD_LANES)

/* Fewer than VF_LANES floats, then `fill`. */
LB_NN_INLINE vf load_some(const float *p, size_t n, float fill) {
    float t[VF_LANES];
    vf_store(t, vf_set(fill));
    memcpy(t, p, n * sizeof *p);
    return vf_load(t);
}

LB_NN_INLINE void store_some(float *p, size_t n, vf x) {
    float t[VF_LANES];
    vf_store(t, x);
    memcpy(p, t, n * sizeof *p);
}

/* ---- activations ---- */

LB_NN_INLINE void map(const nn_op op, size_t n, float *out, const float *a) {
    size_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(out + i, vf_canon(nn_act_of(op, vf_load(a + i))));
    if (i < n)
        store_some(out + i, n - i, vf_canon(nn_act_of(op, load_some(a + i, n - i, 0))));
}

LB_NN_INLINE void gate(const nn_op op, size_t n, float *out, const float *a, const float *b) {
    size_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(out + i, vf_canon(vf_mul(nn_act_of(op, vf_load(a + i)), vf_load(b + i))));
    if (i < n) {
        const vf x = load_some(a + i, n - i, 0), y = load_some(b + i, n - i, 0);
        store_some(out + i, n - i, vf_canon(vf_mul(nn_act_of(op, x), y)));
    }
}

static void exp_f32(size_t n_elems, float *out, const float *x) {
    map(NN_EXP, n_elems, out, x);
}

static void sigmoid(size_t n_elems, float *out, const float *x) {
    map(NN_SIGMOID, n_elems, out, x);
}

static void silu(size_t n_elems, float *out, const float *x) {
    map(NN_SILU, n_elems, out, x);
}

static void tanh_f32(size_t n_elems, float *out, const float *x) {
    map(NN_TANH, n_elems, out, x);
}

static void gelu(size_t n_elems, float *out, const float *x) {
    map(NN_GELU, n_elems, out, x);
}

static void gelu_erf(size_t n_elems, float *out, const float *x) {
    map(NN_GELU_ERF, n_elems, out, x);
}

static void relu(size_t n_elems, float *out, const float *x) {
    map(NN_RELU, n_elems, out, x);
}

static void relu2(size_t n_elems, float *out, const float *x) {
    map(NN_RELU2, n_elems, out, x);
}

static void softplus(size_t n_elems, float *out, const float *x) {
    map(NN_SOFTPLUS, n_elems, out, x);
}

static void sigmoid_mul(size_t n_elems, float *out, const float *a, const float *b) {
    gate(NN_SIGMOID, n_elems, out, a, b);
}

static void silu_mul(size_t n_elems, float *out, const float *a, const float *b) {
    gate(NN_SILU, n_elems, out, a, b);
}

static void gelu_mul(size_t n_elems, float *out, const float *a, const float *b) {
    gate(NN_GELU, n_elems, out, a, b);
}

static void gelu_erf_mul(size_t n_elems, float *out, const float *a, const float *b) {
    gate(NN_GELU_ERF, n_elems, out, a, b);
}

static void relu_mul(size_t n_elems, float *out, const float *a, const float *b) {
    gate(NN_RELU, n_elems, out, a, b);
}

static void relu2_mul(size_t n_elems, float *out, const float *a, const float *b) {
    gate(NN_RELU2, n_elems, out, a, b);
}

static void swiglu_oai_mul(size_t n_elems, float *out, const float *a, const float *b, float alpha,
                           float limit) {
    const vf va = vf_set(alpha), vl = vf_set(limit);
    size_t i = 0;
    for (; i + VF_LANES <= n_elems; i += VF_LANES)
        vf_store(out + i, vf_canon(nn_swiglu_oai_of(vf_load(a + i), vf_load(b + i), va, vl)));
    if (i < n_elems) {
        const vf x = load_some(a + i, n_elems - i, 0), y = load_some(b + i, n_elems - i, 0);
        store_some(out + i, n_elems - i, vf_canon(nn_swiglu_oai_of(x, y, va, vl)));
    }
}

static void softcap(size_t n_elems, float *out, const float *x, float cap) {
    const vf c = vf_set(cap);
    size_t i = 0;
    for (; i + VF_LANES <= n_elems; i += VF_LANES)
        vf_store(out + i, vf_canon(nn_softcap_of(vf_load(x + i), c)));
    if (i < n_elems)
        store_some(out + i, n_elems - i,
                   vf_canon(nn_softcap_of(load_some(x + i, n_elems - i, 0), c)));
}

static void nn_init_act(lb_kernels *t) {
    t->exp_f32 = exp_f32;
    t->sigmoid_f32 = sigmoid;
    t->silu_f32 = silu;
    t->tanh_f32 = tanh_f32;
    t->gelu_f32 = gelu;
    t->gelu_erf_f32 = gelu_erf;
    t->relu_f32 = relu;
    t->relu2_f32 = relu2;
    t->softplus_f32 = softplus;
    t->softcap_f32 = softcap;
    t->sigmoid_mul_f32 = sigmoid_mul;
    t->silu_mul_f32 = silu_mul;
    t->gelu_mul_f32 = gelu_mul;
    t->gelu_erf_mul_f32 = gelu_erf_mul;
    t->relu_mul_f32 = relu_mul;
    t->relu2_mul_f32 = relu2_mul;
    t->swiglu_oai_mul_f32 = swiglu_oai_mul;
}
