/* SPDX-License-Identifier: Apache-2.0 */
/* nn_mix_tmpl.h: rotary positions, Hadamard transform, convolution and the delta rule, in the words
 * of nn_tmpl.h. */

/* ---- positions ---- */

static void rope_half(size_t n_heads, size_t head_stride, size_t n_rot, float *x, const float *cos,
                      const float *sin) {
    const size_t half = n_rot / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_stride) {
        size_t i = 0;
        for (; i + VF_LANES <= half; i += VF_LANES) {
            const vf a = vf_load(x + i), b = vf_load(x + half + i);
            const vf c = vf_load(cos + i), s = vf_load(sin + i);
            vf_store(x + i, vf_canon(vf_fma(a, c, vf_sub(vf_set(-0.0f), vf_mul(b, s)))));
            vf_store(x + half + i, vf_canon(vf_fma(b, c, vf_mul(a, s))));
        }
        for (; i < half; i++)
            lb_nn_rotate(&x[i], &x[i + half], cos[i], sin[i]);
    }
}

static void rope_pairs(size_t n_heads, size_t head_stride, size_t n_rot, float *x, const float *cos,
                       const float *sin) {
    float t[VF_LANES]; /* -1, 1, -1, 1 .. */
    for (int l = 0; l < VF_LANES; l++)
        t[l] = l % 2 ? 1.0f : -1.0f;
    const vf sign = vf_load(t);
    for (size_t h = 0; h < n_heads; h++, x += head_stride) {
        size_t i = 0;
        for (; i + VF_LANES / 2 <= n_rot / 2; i += VF_LANES / 2) {
            const vf a = vf_load(x + 2 * i), b = vf_swap(a, 1);
            const vf by = vf_mul(vf_mul(b, vf_twice(sin + i)), sign);
            vf_store(x + 2 * i, vf_canon(vf_fma(a, vf_twice(cos + i), by)));
        }
        for (; i < n_rot / 2; i++)
            lb_nn_rotate(&x[2 * i], &x[2 * i + 1], cos[i], sin[i]);
    }
}

/* ---- other mixers ---- */

/* The butterflies that stay in a register: b + a where bit h of the lane is 0, else b - a. */
LB_NN_INLINE vf butterfly(vf x, const int h) {
    float t[VF_LANES];
    for (int l = 0; l < VF_LANES; l++)
        t[l] = l & h ? -1.0f : 1.0f;
    return vf_fma(x, vf_load(t), vf_swap(x, h));
}

static void hadamard(size_t n_elems, float *x) {
    if (n_elems < VF_LANES) {
        lb_k_hadamard_f32_ref(n_elems, x);
        return;
    }
    const vf scale = vf_set(1.0f / sqrtf((float)n_elems));
    for (size_t i = 0; i < n_elems; i += VF_LANES) {
        vf a = vf_load(x + i);
        UNROLL for (int h = 1; h < VF_LANES; h *= 2) a = butterfly(a, h);
        vf_store(x + i, a);
    }
    for (size_t h = VF_LANES; h < n_elems; h *= 2)
        for (size_t i = 0; i < n_elems; i += 2 * h)
            for (size_t j = i; j < i + h; j += VF_LANES) {
                const vf a = vf_load(x + j), b = vf_load(x + j + h);
                vf_store(x + j, vf_add(a, b));
                vf_store(x + j + h, vf_sub(a, b));
            }
    for (size_t i = 0; i < n_elems; i += VF_LANES)
        vf_store(x + i, vf_canon(vf_mul(vf_load(x + i), scale)));
}

static void conv_step(size_t n_channels, size_t width, float *out, float *state, const float *x,
                      const float *w, const float *bias) {
    size_t c = 0;
    for (; width == 4 && c + VF_LANES <= n_channels; c += VF_LANES) {
        vf tap[4];
        vf_taps4(w + 4 * c, tap);
        float *const s = state + c;
        const vf a = vf_load(s), b = vf_load(s + n_channels), d = vf_load(s + 2 * n_channels);
        const vf e = vf_load(x + c);
        vf y = vf_fma(a, tap[0], bias ? vf_load(bias + c) : vf_set(0));
        y = vf_fma(b, tap[1], y);
        y = vf_fma(d, tap[2], y);
        y = vf_fma(e, tap[3], y);
        vf_store(s, b);
        vf_store(s + n_channels, d);
        vf_store(s + 2 * n_channels, e);
        vf_store(out + c, vf_canon(y));
    }
    for (; c < n_channels; c++)
        out[c] = lb_nn_conv_one(n_channels, width, state + c, x[c], w + c * width,
                                bias ? bias[c] : 0.0f);
}

/* Columns of a state, `stride` floats from one row to the next. */
typedef struct strip {
    size_t n_tokens, k_dim, stride;
    float *state, *out;
} strip;

/* nv registers of columns through all tokens. A walk over the state makes it the next token's and
 * takes both sums of it: q's, which is this token's result, and the next token's k's. NaN has its
 * one form in what is left behind; between tokens it need not. */
LB_NN_INLINE void delta_columns(const int nv, const strip *s, size_t j, const lb_delta *in) {
    const size_t stride = s->stride;
    vf u[4], d[4], o[4];
    UNROLL for (int c = 0; c < nv; c++) u[c] = vf_set(0);
    for (size_t i = 0; i < s->k_dim; i++) {
        const vf k = vf_set(in->k[i]);
        UNROLL for (int c = 0; c < nv; c++) u[c] =
            vf_fma(k, vf_load(s->state + i * stride + c * VF_LANES), u[c]);
    }
    for (size_t t = 0, at = 0; t < s->n_tokens; t++, at += in->stride) {
        const float *const q = in->q + at, *const k = in->k + at;
        const vf decay = vf_set(in->decay[at]), beta = vf_set(in->beta[at]);
        UNROLL for (int c = 0; c < nv; c++) {
            d[c] =
                vf_mul(beta, vf_fnma(decay, u[c], vf_load(in->v + at + j + (size_t)c * VF_LANES)));
            u[c] = o[c] = vf_set(0);
        }
        if (t + 1 < s->n_tokens) {
            const float *const next = k + in->stride;
            for (size_t i = 0; i < s->k_dim; i++) {
                const vf ki = vf_set(k[i]), qi = vf_set(q[i]), ni = vf_set(next[i]);
                UNROLL for (int c = 0; c < nv; c++) {
                    float *const p = s->state + i * stride + c * VF_LANES;
                    const vf x = vf_fma(ki, d[c], vf_mul(decay, vf_load(p)));
                    o[c] = vf_fma(qi, x, o[c]);
                    u[c] = vf_fma(ni, x, u[c]);
                    vf_store(p, x);
                }
            }
        } else {
            for (size_t i = 0; i < s->k_dim; i++) {
                const vf ki = vf_set(k[i]), qi = vf_set(q[i]);
                UNROLL for (int c = 0; c < nv; c++) {
                    float *const p = s->state + i * stride + c * VF_LANES;
                    const vf x = vf_fma(ki, d[c], vf_mul(decay, vf_load(p)));
                    o[c] = vf_fma(qi, x, o[c]);
                    vf_store(p, vf_canon(x));
                }
            }
        }
        UNROLL for (int c = 0; c < nv; c++)
            vf_store(s->out + t * in->out_stride + c * VF_LANES, vf_canon(o[c]));
    }
}

/* A state's rows are so far apart that a strip of them does not stay in the first cache: of several
 * tokens it is copied, where it has room. */
#define DELTA_COPY ((size_t)8192)

LB_NN_INLINE void delta_strip(const int nv, strip s, size_t j, const lb_delta *in) {
    float copy[DELTA_COPY], *const state = s.state;
    const size_t n = (size_t)nv * VF_LANES, stride = s.stride;
    if (s.n_tokens < 4 || s.k_dim * n > DELTA_COPY) {
        delta_columns(nv, &s, j, in);
        return;
    }
    for (size_t i = 0; i < s.k_dim; i++)
        memcpy(copy + i * n, state + i * stride, n * sizeof *copy);
    s.state = copy;
    s.stride = n;
    delta_columns(nv, &s, j, in);
    for (size_t i = 0; i < s.k_dim; i++)
        memcpy(state + i * stride, copy + i * n, n * sizeof *copy);
}

#define DELTA_NV (VF_LANES == 8 ? 2 : 4) /* of AVX2's 16 registers */

static void delta_steps(size_t n_tokens, size_t k_dim, size_t v_dim, float *state, float *out,
                        const lb_delta *in) {
    size_t j = 0;
    if (!n_tokens)
        return;
    for (; j + DELTA_NV * VF_LANES <= v_dim; j += DELTA_NV * VF_LANES)
        delta_strip(DELTA_NV, (strip){n_tokens, k_dim, v_dim, state + j, out + j}, j, in);
    for (; j + VF_LANES <= v_dim; j += VF_LANES)
        delta_strip(1, (strip){n_tokens, k_dim, v_dim, state + j, out + j}, j, in);
    for (size_t t = 0, at = 0; t < n_tokens; t++, at += in->stride) {
        const float gate[2] = {in->decay[at], in->beta[at]};
        for (size_t i = j; i < v_dim; i++)
            out[t * in->out_stride + i] = lb_nn_delta_one(k_dim, v_dim, state + i, in->q + at,
                                                          in->k + at, in->v[at + i], gate);
    }
}

static void nn_init_mix(lb_kernels *t) {
    t->rope_half_f32 = rope_half;
    t->rope_pairs_f32 = rope_pairs;
    t->hadamard_f32 = hadamard;
    t->conv_step_f32 = conv_step;
    t->delta_steps_f32 = delta_steps;
}
