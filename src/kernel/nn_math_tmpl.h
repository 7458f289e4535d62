/* SPDX-License-Identifier: Apache-2.0 */
/* nn_math_tmpl.h: the functions of activations, in words that a file defines for its registers (for
 * the reference: for one float). Every operation is rounded alike on every machine, so that all
 * instruction sets give the same bytes; test_nn holds them against libm.
 *
 *   vf                      a register of floats; vf_set of one value
 *   vf_add .. vf_div        vf_fma(a, b, c) = a b + c and vf_fnma = c - a b with one rounding
 *   vf_max(a, b)            a > b ? a : b;  vf_min(a, b)  a < b ? a : b: of NaN, b
 *   vf_abs, vf_copysign     of bits
 *   vf_below0(x, a, b)      x < 0 ? a : b
 *   vf_scale(p, m)          p 2^n rounded once, m = LB_NN_MAGIC + n, -150 <= n <= 130
 *
 * Coefficients: least maximal error by Lawson's iteration over 400 Chebyshev nodes, mpmath with 50
 * digits; the error stands beside each. */
#ifndef LB_KERNEL_NN_MATH_TMPL_H
#define LB_KERNEL_NN_MATH_TMPL_H

#define LB_NN_INLINE __attribute__((always_inline)) static inline
#define LB_NN_MAGIC 0x1.8p23f /* added to |x| < 2^22 it leaves the nearest integer in low bits */

typedef enum nn_op {
    NN_EXP,
    NN_SIGMOID,
    NN_SILU,
    NN_TANH,
    NN_GELU,     /* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
    NN_GELU_ERF, /* x Phi(x) */
    NN_RELU,
    NN_RELU2,
    NN_SOFTPLUS,
} nn_op;

/* x = n ln 2 + r; *m says n; returns e^r - 1, to 2^-28 of e^r. x between -104 and 89. */
LB_NN_INLINE vf nn_exp_rest(vf x, vf *m) {
    *m = vf_fma(x, vf_set(0x1.715476p+0f), vf_set(LB_NN_MAGIC));
    const vf n = vf_sub(*m, vf_set(LB_NN_MAGIC));
    vf r = vf_fnma(n, vf_set(0x1.62e43p-1f), x);
    r = vf_fnma(n, vf_set(-0x1.05c61p-29f), r);
    vf q = vf_fma(r, vf_set(0x1.6a2318p-10f), vf_set(0x1.123a8ep-7f));
    q = vf_fma(r, q, vf_set(0x1.5558f6p-5f));
    q = vf_fma(r, q, vf_set(0x1.55549p-3f));
    q = vf_fma(r, q, vf_set(0x1.fffffcp-2f));
    return vf_fma(vf_mul(r, r), q, r);
}

LB_NN_INLINE vf nn_exp_of(vf x) {
    vf m;
    x = vf_max(vf_set(-104.0f), vf_min(vf_set(89.0f), x)); /* 0 below, Inf above */
    const vf e = nn_exp_rest(x, &m);
    return vf_scale(vf_add(vf_set(1.0f), e), m);
}

/* e^x - 1 for x <= 0 */
LB_NN_INLINE vf nn_expm1_of(vf x) {
    vf m;
    const vf e = nn_exp_rest(vf_max(vf_set(-104.0f), x), &m);
    const vf s = vf_scale(vf_set(1.0f), m);
    return vf_fma(s, e, vf_sub(s, vf_set(1.0f)));
}

LB_NN_INLINE vf nn_exp_negabs(vf x) {
    return nn_exp_of(vf_sub(vf_set(0.0f), vf_abs(x)));
}

/* Never by 1 / (1 + e^-x), which loses what is below 2^-128. */
LB_NN_INLINE vf nn_sigmoid_of(vf x) {
    const vf e = nn_exp_negabs(x), one = vf_set(1.0f);
    return vf_div(vf_below0(x, e, one), vf_add(one, e));
}

LB_NN_INLINE vf nn_tanh_of(vf x) {
    const vf e = nn_expm1_of(vf_mul(vf_set(-2.0f), vf_abs(x)));
    return vf_copysign(vf_div(e, vf_add(vf_set(2.0f), e)), x);
}

LB_NN_INLINE vf nn_softcap_of(vf x, vf cap) {
    return vf_mul(cap, nn_tanh_of(vf_div(x, cap)));
}

/* (1 + tanh u) / 2 is the sigmoid of 2 u, without its cancellation. */
LB_NN_INLINE vf nn_gelu_of(vf x) {
    const vf t = vf_fma(vf_mul(x, x), vf_set(0x1.2444f6p-4f), vf_set(0x1.988454p+0f));
    return vf_mul(x, nn_sigmoid_of(vf_mul(x, t)));
}

/* Phi(-a) = e^(-a^2 / 2) P(t) / (2 (1 + sqrt(2) a)), t = (a - 2 sqrt 2) / (a + 2 sqrt 2): P is
 * (1 + 2 z) erfcx(z), z = a / sqrt 2 (Shepherd and Laframboise 1981), to 2^-29. The part of a^2
 * that its rounding loses counts too: e^-(a^2 / 2) feels it. */
LB_NN_INLINE vf nn_gelu_erf_of(vf x) {
    static const float c[] = {0x1.46e80ep+0f,   -0x1.7bf5e8p-4f,  -0x1.5407cep-3f, 0x1.4ff9ep-3f,
                              -0x1.bc279p-5f,   -0x1.0719dep-7f,  0x1.1d75ecp-7f,  0x1.474a06p-10f,
                              -0x1.769896p-10f, -0x1.a28eaap-12f, 0x1.756656p-13f, 0x1.5d52dp-14f};
    const vf a = vf_min(vf_set(20.0f), vf_abs(x)), edge = vf_set(0x1.6a09e6p+1f);
    const vf t = vf_div(vf_sub(a, edge), vf_add(a, edge));
    vf p = vf_set(c[11]);
    for (int i = 10; i >= 0; i--)
        p = vf_fma(p, t, vf_set(c[i]));
    const vf half = vf_set(0.5f), one = vf_set(1.0f), a2 = vf_mul(a, a);
    const vf lost = vf_fma(a, a, vf_sub(vf_set(0.0f), a2));
    const vf e = vf_mul(nn_exp_of(vf_mul(vf_set(-0.5f), a2)), vf_fnma(half, lost, one));
    const vf phi = vf_div(vf_mul(vf_mul(half, e), p), vf_fma(a, vf_set(0x1.6a09e6p+0f), one));
    return vf_mul(x, vf_below0(x, phi, vf_sub(one, phi)));
}

/* log(1 + e^x) = max(x, 0) + log1p(y), y = e^-|x|; log1p(y) = 2 artanh(y / (2 + y)), to 2^-27. */
LB_NN_INLINE vf nn_softplus_of(vf x) {
    const vf y = nn_exp_negabs(x), s = vf_div(y, vf_add(vf_set(2.0f), y)), u = vf_mul(s, s);
    vf p = vf_fma(u, vf_set(0x1.1ef87p-3f), vf_set(0x1.1eb612p-3f));
    p = vf_fma(u, p, vf_set(0x1.99d27cp-3f));
    p = vf_fma(u, p, vf_set(0x1.5555p-2f));
    const vf twice = vf_add(s, s);
    return vf_add(vf_max(vf_set(0.0f), x), vf_fma(vf_mul(twice, u), p, twice));
}

LB_NN_INLINE vf nn_act_of(const nn_op op, vf x) {
    const vf up = vf_max(vf_set(0.0f), x);
    switch (op) {
    case NN_EXP:
        return nn_exp_of(x);
    case NN_SIGMOID:
        return nn_sigmoid_of(x);
    case NN_SILU:
        return vf_mul(x, nn_sigmoid_of(x));
    case NN_TANH:
        return nn_tanh_of(x);
    case NN_GELU:
        return nn_gelu_of(x);
    case NN_GELU_ERF:
        return nn_gelu_erf_of(x);
    case NN_RELU:
        return up;
    case NN_RELU2:
        return vf_mul(up, up);
    default:
        return nn_softplus_of(x);
    }
}

/* gate sigmoid(alpha gate) (up + 1), gate at most limit, up within it on both sides (gpt-oss) */
LB_NN_INLINE vf nn_swiglu_oai_of(vf gate, vf up, vf alpha, vf limit) {
    const vf low = vf_sub(vf_set(0.0f), limit), one = vf_set(1.0f);
    gate = vf_min(limit, gate);
    up = vf_max(low, vf_min(limit, up));
    const vf s = vf_mul(gate, nn_sigmoid_of(vf_mul(alpha, gate)));
    return vf_mul(s, vf_add(up, one));
}

#endif
