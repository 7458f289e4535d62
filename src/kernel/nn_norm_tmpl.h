/* SPDX-License-Identifier: Apache-2.0 */
/* nn_norm_tmpl.h: norms and softmax of one row, in the words of nn_tmpl.h. */

/* ---- norms ---- */

static double sum(size_t n, const float *x) {
    double lane[LB_FOLD_LANES];
    vd s[ND];
    UNROLL for (int v = 0; v < ND; v++) s[v] = vd_set(0);
    size_t i = 0;
    for (; i + LB_FOLD_LANES <= n; i += LB_FOLD_LANES)
        UNROLL for (int v = 0; v < ND; v++) s[v] = vd_add(s[v], vd_load_f32(x + i + v * VD_LANES));
    UNROLL for (int v = 0; v < ND; v++) vd_store(lane + v * VD_LANES, s[v]);
    for (size_t j = 0; i + j < n; j++)
        lane[j] += (double)x[i + j];
    return lb_fold_lanes(lane);
}

static double sum_squares(size_t n, const float *x, double mean) {
    double lane[LB_FOLD_LANES];
    const vd m = vd_set(mean);
    vd s[ND];
    UNROLL for (int v = 0; v < ND; v++) s[v] = vd_set(0);
    size_t i = 0;
    for (; i + LB_FOLD_LANES <= n; i += LB_FOLD_LANES)
        UNROLL for (int v = 0; v < ND; v++) {
            const vd d = vd_sub(vd_load_f32(x + i + v * VD_LANES), m);
            s[v] = vd_fma(d, d, s[v]);
        }
    UNROLL for (int v = 0; v < ND; v++) vd_store(lane + v * VD_LANES, s[v]);
    for (size_t j = 0; i + j < n; j++) {
        const double d = (double)x[i + j] - mean;
        lane[j] = fma(d, d, lane[j]);
    }
    return lb_fold_lanes(lane);
}

/* out = (x - mean) * scale, times w, plus b, where there are such */
static void affine(size_t n, float *out, const float *x, const float *w, const float *b,
                   const float how[2]) {
    const vf m = vf_set(how[0]), s = vf_set(how[1]);
    for (size_t i = 0; i < n; i += VF_LANES) {
        const size_t some = n - i;
        const bool full = some >= VF_LANES;
        vf y = full ? vf_load(x + i) : load_some(x + i, some, 0);
        vf u = vf_set(1), t = vf_set(0);
        y = vf_mul(vf_sub(y, m), s);
        if (w)
            u = full ? vf_load(w + i) : load_some(w + i, some, 0);
        if (b)
            t = full ? vf_load(b + i) : load_some(b + i, some, 0);
        y = w && b ? vf_fma(y, u, t) : w ? vf_mul(y, u) : b ? vf_add(y, t) : y;
        if (full)
            vf_store(out + i, vf_canon(y));
        else
            store_some(out + i, some, vf_canon(y));
    }
}

static void rms_norm(size_t n_elems, float *out, const float *x, const float *w, float eps) {
    const float scale = lb_nn_rsqrt(sum_squares(n_elems, x, 0) / (double)n_elems, eps);
    affine(n_elems, out, x, w, NULL, (const float[]){0, scale});
}

static void l2_norm(size_t n_elems, float *out, const float *x, float eps) {
    const float scale = lb_nn_rsqrt(sum_squares(n_elems, x, 0), eps);
    affine(n_elems, out, x, NULL, NULL, (const float[]){0, scale});
}

static void layer_norm(size_t n_elems, float *out, const float *x, const float *w, const float *b,
                       float eps) {
    const double mean = sum(n_elems, x) / (double)n_elems;
    const float scale = lb_nn_rsqrt(sum_squares(n_elems, x, mean) / (double)n_elems, eps);
    affine(n_elems, out, x, w, b, (const float[]){(float)mean, scale});
}

/* ---- softmax ---- */

LB_NN_INLINE vf load_lanes(const float *x, size_t n, size_t i, float fill) {
    return i + VF_LANES <= n ? vf_load(x + i)
           : i < n           ? load_some(x + i, n - i, fill)
                             : vf_set(fill);
}

LB_NN_INLINE void store_lanes(float *x, size_t n, size_t i, vf y) {
    if (i + VF_LANES <= n)
        vf_store(x + i, y);
    else if (i < n)
        store_some(x + i, n - i, y);
}

static float largest(size_t n, const float *x, float start) {
    float lane[LB_FOLD_LANES];
    vf m[NF];
    UNROLL for (int v = 0; v < NF; v++) m[v] = vf_set(start);
    for (size_t i = 0; i < n; i += LB_FOLD_LANES)
        UNROLL for (int v = 0; v < NF; v++) m[v] =
            vf_max(load_lanes(x, n, i + (size_t)v * VF_LANES, -INFINITY), m[v]);
    UNROLL for (int v = 0; v < NF; v++) vf_store(lane + v * VF_LANES, m[v]);
    return lb_nn_fold_max(lane);
}

static float max_f32(size_t n_elems, const float *x) {
    return largest(n_elems, x, -INFINITY);
}

/* e^(x - max), written to out unless that is NULL; what is beyond n is -Inf and adds 0. */
LB_NN_INLINE double sum_exp_to(size_t n, float *out, const float *x, float max) {
    double lane[LB_FOLD_LANES] = {0};
    const vf m = vf_set(max);
    vd s[ND];
    UNROLL for (int v = 0; v < ND; v++) s[v] = vd_set(0);
    size_t i = 0;
    for (; i + LB_FOLD_LANES <= n; i += LB_FOLD_LANES)
        UNROLL for (int v = 0; v < NF; v++) {
            const vf e = nn_exp_of(vf_sub(vf_load(x + i + v * VF_LANES), m));
            if (out)
                vf_store(out + i + v * VF_LANES, e);
            vd_add_vf(s + v * (ND / NF), e);
        }
    UNROLL for (int v = 0; v < ND; v++) vd_store(lane + v * VD_LANES, s[v]);
    for (size_t j = 0; i + j < n; j += VF_LANES) {
        float t[VF_LANES];
        vf_store(t, nn_exp_of(vf_sub(load_lanes(x, n, i + j, -INFINITY), m)));
        for (size_t l = 0; l < VF_LANES && i + j + l < n; l++) {
            lane[j + l] += (double)t[l];
            if (out)
                out[i + j + l] = t[l];
        }
    }
    return lb_fold_lanes(lane);
}

static double sum_exp(size_t n_elems, const float *x, float max) {
    return sum_exp_to(n_elems, NULL, x, max);
}

static double sum_exp64(size_t n_elems, const float *x, float max) {
    double lane[LB_FOLD_LANES];
    const vd m = vd_set((double)max);
    vd s[ND];
    UNROLL for (int v = 0; v < ND; v++) s[v] = vd_set(0);
    for (size_t i = 0; i < n_elems; i += LB_FOLD_LANES) {
        float rest[LB_FOLD_LANES];
        const float *from = x + i;
        if (i + LB_FOLD_LANES > n_elems) {
            for (size_t j = 0; j < LB_FOLD_LANES; j++)
                rest[j] = i + j < n_elems ? x[i + j] : -INFINITY;
            from = rest;
        }
        UNROLL for (int v = 0; v < ND; v++) s[v] =
            vd_add(s[v], nn_exp64_of(vd_sub(vd_load_f32(from + v * VD_LANES), m)));
    }
    UNROLL for (int v = 0; v < ND; v++) vd_store(lane + v * VD_LANES, s[v]);
    return lb_fold_lanes(lane);
}

static void softmax(size_t n_elems, float *x) {
    const float max = largest(n_elems, x, -INFINITY);
    if (!(max > -INFINITY)) {
        lb_nn_unseen(n_elems, x);
        return;
    }
    const float scale = (float)(1 / sum_exp_to(n_elems, x, x, max));
    affine(n_elems, x, x, NULL, NULL, (const float[]){0, scale});
}

LB_NN_INLINE float scores(size_t n, float *x, float scale, float softcap_by, float start) {
    float lane[LB_FOLD_LANES];
    const vf s = vf_set(scale), c = vf_set(softcap_by);
    vf m[NF];
    UNROLL for (int v = 0; v < NF; v++) m[v] = vf_set(start);
    for (size_t i = 0; i < n; i += LB_FOLD_LANES)
        UNROLL for (int v = 0; v < NF; v++) {
            const size_t at = i + (size_t)v * VF_LANES;
            vf y = vf_mul(s, load_lanes(x, n, at, 0));
            if (softcap_by != 0)
                y = nn_softcap_of(y, c);
            store_lanes(x, n, at, y);
            m[v] = vf_max(y, m[v]);
        }
    UNROLL for (int v = 0; v < NF; v++) vf_store(lane + v * VF_LANES, m[v]);
    return lb_nn_fold_max(lane);
}

static float softmax_part(size_t n_elems, float *x, float scale, float softcap_by, float state[2]) {
    const size_t whole = n_elems / LB_FOLD_LANES * LB_FOLD_LANES;
    float max = scores(whole, x, scale, softcap_by, state[0]);
    float lane[LB_FOLD_LANES];
    if (whole < n_elems) { /* its zeros beyond the end are no scores */
        float *const rest = x + whole;
        const size_t n = n_elems - whole;
        scores(n, rest, scale, softcap_by, state[0]);
        max = largest(n_elems, x, state[0]);
    }
    if (!(max > -INFINITY)) {
        state[1] = lb_canon_f32(state[1] + lb_nn_unseen(n_elems, x));
        return 1;
    }
    const vf m = vf_set(max);
    vf s[NF];
    UNROLL for (int v = 0; v < NF; v++) s[v] = vf_set(0);
    for (size_t i = 0; i < n_elems; i += LB_FOLD_LANES)
        UNROLL for (int v = 0; v < NF; v++) {
            const size_t at = i + (size_t)v * VF_LANES;
            const vf y = load_lanes(x, n_elems, at, -INFINITY);
            const vf e = vf_canon(nn_exp_of(vf_sub(y, m)));
            store_lanes(x, n_elems, at, e);
            s[v] = vf_add(s[v], e);
        }
    UNROLL for (int v = 0; v < NF; v++) vf_store(lane + v * VF_LANES, s[v]);
    float before;
    store_some(&before, 1, vf_canon(nn_exp_of(vf_set(state[0] - max))));
    state[0] = max;
    state[1] = lb_canon_f32(fmaf(state[1], before, lb_nn_fold_sum(lane)));
    return before;
}

static void nn_init_norm(lb_kernels *t) {
    t->rms_norm_f32 = rms_norm;
    t->layer_norm_f32 = layer_norm;
    t->l2_norm_f32 = l2_norm;
    t->max_f32 = max_f32;
    t->sum_exp_f32 = sum_exp;
    t->sum_exp_f64 = sum_exp64;
    t->softmax_f32 = softmax;
    t->softmax_part_f32 = softmax_part;
}
