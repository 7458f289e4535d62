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

/* nv registers of columns: the part of the state that both walks over k meet stays in the first
 * cache. */
LB_NN_INLINE void delta_columns(const int nv, size_t k_dim, size_t v_dim, float *state, float *out,
                                const float *qk[2], const float *v, const float gate_in[2]) {
    const float *const q = qk[0], *const k = qk[1];
    const vf decay = vf_set(gate_in[0]), beta = vf_set(gate_in[1]);
    vf u[4], o[4];
    UNROLL for (int c = 0; c < nv; c++) u[c] = o[c] = vf_set(0);
    for (size_t i = 0; i < k_dim; i++) {
        const vf ki = vf_set(k[i]);
        UNROLL for (int c = 0; c < nv; c++) u[c] =
            vf_fma(ki, vf_load(state + i * v_dim + c * VF_LANES), u[c]);
    }
    UNROLL for (int c = 0; c < nv; c++) u[c] =
        vf_mul(beta, vf_fnma(decay, u[c], vf_load(v + c * VF_LANES)));
    for (size_t i = 0; i < k_dim; i++) {
        const vf ki = vf_set(k[i]), qi = vf_set(q[i]);
        UNROLL for (int c = 0; c < nv; c++) {
            float *const p = state + i * v_dim + c * VF_LANES;
            const vf s = vf_fma(ki, u[c], vf_mul(decay, vf_load(p)));
            o[c] = vf_fma(qi, s, o[c]);
            vf_store(p, vf_canon(s));
        }
    }
    UNROLL for (int c = 0; c < nv; c++) vf_store(out + c * VF_LANES, vf_canon(o[c]));
}

static void delta_step(size_t k_dim, size_t v_dim, float *state, float *out, const float *q,
                       const float *k, const float *v, const float gate_in[2]) {
    const float *qk[2] = {q, k};
    size_t j = 0;
    for (; j + 4 * VF_LANES <= v_dim; j += 4 * VF_LANES)
        delta_columns(4, k_dim, v_dim, state + j, out + j, qk, v + j, gate_in);
    for (; j + VF_LANES <= v_dim; j += VF_LANES)
        delta_columns(1, k_dim, v_dim, state + j, out + j, qk, v + j, gate_in);
    for (; j < v_dim; j++)
        out[j] = lb_nn_delta_one(k_dim, v_dim, state + j, q, k, v[j], gate_in);
}

static void nn_init_mix(lb_kernels *t) {
    t->rope_half_f32 = rope_half;
    t->rope_pairs_f32 = rope_pairs;
    t->hadamard_f32 = hadamard;
    t->conv_step_f32 = conv_step;
    t->delta_step_f32 = delta_step;
}
