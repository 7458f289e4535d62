/* SPDX-License-Identifier: Apache-2.0 */
/* nn.c: what a layer computes in floats. What a kernel changes in place is copied to its output
 * from the last input first. */
#include "checkkern.h"

bool is_nn(const kern *w) {
    return w->sig >= SIG_OAI && w->sig < SIG_Q8_BLOCKS;
}

static bool is_attend(const kern *w) {
    return w->sig == SIG_DOT_ROWS || w->sig == SIG_MIX_ROWS;
}

static bool is_dots(const kern *w) {
    return w->sig == SIG_DOTS || w->sig == SIG_DOTS16;
}

static const u8 dims[] = {16, 1, 64, 33, 128, 80, 96, 17, 192, 0, 48, 31}; /* of stored floats */
static const u8 rows[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 33, 64};
static const u8 queries[] = {1, 4, 2, 3, 5, 8, 9, 0};
static const u8 columns[] = {0,  1,  3,  4,  7,  8,  15, 16,  17,  31,  32,
                             33, 48, 63, 64, 65, 80, 96, 100, 128, 129, 200};

/* Rotations: n pairs; convolutions: n channels; delta: n rows of a state, n_cols columns;
 * attention: n stored rows. */
bool nn_shape(const kern *w, bool is_long, size_t i, kcase *c) {
    static const u16 some[] = {0,   1,   2,   3,   4,   5,   6,   7,    8,   9,   12,
                               15,  16,  17,  20,  24,  31,  32,  33,   48,  63,  64,
                               65,  79,  80,  95,  96,  97,  100, 127,  128, 129, 160,
                               255, 256, 257, 384, 511, 512, 513, 1000, 1031};
    if (is_attend(w)) {
        c->n = rows[i % LB_LEN(rows)];
        return i < (is_long ? 8 : 1) * LB_LEN(rows);
    }
    if (is_dots(w)) { /* columns, around blocks of LB_DOTS_COLS too; prime to the variants */
        static const u16 lens[] = {0,  1,   7,   15,  16,   17,   31,   33,  48,
                                   65, 100, 257, 576, 1024, 1031, 1040, 2049};
        c->n = lens[i % LB_LEN(lens)];
        return i < (is_long ? 28 : 5) * LB_LEN(lens);
    }
    if (w->sig == SIG_DELTA || w->sig == SIG_GEMM_PART) {
        c->n = rows[i % LB_LEN(rows)];
        c->n_cols = columns[i % LB_LEN(columns)];
        return i < (is_long ? LB_LEN(rows) : 2) * LB_LEN(columns); /* prime to one another */
    }
    if (w->sig == SIG_INPLACE && strstr(w->name, "hadamard")) {
        c->n = (size_t)1 << i % 13;
        return i < (is_long ? 26 : 13);
    }
    if (is_long && i >= LB_LEN(some)) {
        c->n = i;
        return i < 700;
    }
    c->n = some[LB_MIN(i, LB_LEN(some) - 1)];
    return i < LB_LEN(some);
}

u32 nn_variants(const kern *w) {
    switch (w->sig) {
    case SIG_OAI:
        return 3; /* out apart, out = gate, out = up */
    case SIG_RMS:
        return 4; /* with and without w, in place */
    case SIG_LAYER:
        return 8; /* the same with b */
    case SIG_SOFTPART:
        return 2; /* softcap */
    case SIG_DELTA:
        return 5; /* tokens */
    case SIG_CONV:
        return 20; /* width, bias, in place */
    case SIG_ROPE:
        return 4; /* heads, gaps */
    case SIG_DOTS:
    case SIG_DOTS16:
        return 28; /* rows, tokens, gaps */
    case SIG_GEMM_PART:
        return 6; /* inner dimensions, gaps */
    case SIG_DOT_ROWS:
    case SIG_MIX_ROWS:
        return LB_LEN(dims) * LB_LEN(queries);
    default:
        return 1;
    }
}

static void floats_in(kcase *c, u32 i, size_t n) {
    c->in_bytes[i] = n * sizeof(float);
    c->in_step[i] = sizeof(float);
    c->n_in = LB_MAX(c->n_in, i + 1);
}

/* An output that is an input as well. */
static void floats_both(kcase *c, size_t n) {
    for (u32 i = 0; i < 2; i++)
        c->in_step[i] = c->in_step[i] ? c->in_step[i] : sizeof(float);
    floats_in(c, 2, n);
    c->out_bytes = n * sizeof(float);
}

static size_t row_bytes(const kern *w, size_t dim) {
    return dim / w->block_elems * w->block_bytes;
}

static void attend_sizes(const kern *w, kcase *c, u32 variant) {
    const size_t gap = variant % 3 ? 0 : 6;
    size_t dim = dims[variant % LB_LEN(dims)];
    if (w->block_elems > 1)
        dim = dim / 32 * 32;
    const size_t n_q = queries[variant / LB_LEN(dims) % LB_LEN(queries)];
    c->first = dim;
    c->n_cols = n_q;
    c->in_stride = row_bytes(w, dim) + gap;
    c->out_stride = dim + gap;
    if (w->sig == SIG_DOT_ROWS)
        floats_in(c, 0, n_q * ((dim + 15) / 16 * 16));
    else
        floats_in(c, 0, n_q * c->n);
    c->in_bytes[1] = c->n && dim ? (c->n - 1) * c->in_stride + row_bytes(w, dim) : 0;
    c->in_step[1] = 1;
    c->n_in = 2;
    if (w->sig == SIG_DOT_ROWS)
        c->out_bytes = n_q * c->n * sizeof(float);
    else
        floats_both(c, n_q ? (n_q - 1) * c->out_stride + dim : 0);
}

/* n: elements of a row. */
static void dots_sizes(const kern *w, kcase *c, u32 variant) {
    static const u8 n_rows[] = {1, 4, 13, 50}, n_tokens[] = {1, 7, 2, 3, 21, 67, 4};
    const size_t gap = variant % 2 ? 5 : 0, size = w->sig == SIG_DOTS ? 4 : 2;
    c->n_cols = n_rows[variant % 4];
    c->first = n_tokens[variant % LB_LEN(n_tokens)];
    c->in_stride = c->n + gap;
    c->out_stride = c->n_cols + gap;
    c->in_bytes[0] = c->n ? ((c->n_cols - 1) * c->in_stride + c->n) * size : 0;
    c->in_step[0] = size == 4 ? 4 : 1;
    floats_in(c, 1, c->n ? (c->first - 1) * c->in_stride + c->n : 0);
    floats_both(c, (c->first - 1) * c->out_stride + c->n_cols);
}

void nn_sizes(const kern *w, kcase *c, u32 variant) {
    const size_t n = c->n;
    c->first = variant;
    c->out_step = sizeof(float);
    switch (w->sig) {
    case SIG_OAI:
        floats_in(c, 0, n);
        floats_in(c, 1, n);
        c->out_bytes = n * sizeof(float);
        c->alias = variant;
        break;
    case SIG_RMS:
    case SIG_LAYER:
        for (u32 i = 0; i < (w->sig == SIG_RMS ? 2 : 3); i++)
            floats_in(c, i, n);
        c->out_bytes = n * sizeof(float);
        c->alias = variant % 2;
        break;
    case SIG_MAX:
    case SIG_SUM_EXP:
        floats_in(c, 0, n);
        c->out_bytes = 0;
        break;
    case SIG_INPLACE:
        floats_both(c, n);
        break;
    case SIG_SOFTPART:
        floats_both(c, n + 2);
        break;
    case SIG_ROPE:
        c->n_cols = variant % 2 ? 3 : 1;
        c->in_stride = 2 * n + (variant / 2 ? 5 : 0);
        floats_in(c, 0, n);
        floats_in(c, 1, n);
        floats_both(c, c->n_cols * c->in_stride);
        break;
    case SIG_CONV:
        c->n_cols = (size_t)(variant % 5) + 1;
        floats_in(c, 0, n);
        floats_in(c, 1, n * (c->n_cols + 1));
        floats_both(c, n * c->n_cols);
        break;
    case SIG_DOTS:
    case SIG_DOTS16:
        dots_sizes(w, c, variant);
        break;
    case SIG_DELTA: { /* tokens: q, k; v, gates */
        static const u8 n_tokens[] = {1, 5, 2, 0, 4};
        c->first = n_tokens[variant];
        c->in_stride = LB_MAX(2 * n, c->n_cols + 2) + 3;
        floats_in(c, 0, c->first * c->in_stride);
        floats_in(c, 1, c->first * c->in_stride);
        floats_both(c, (n + c->first) * c->n_cols);
        break;
    }
    case SIG_GEMM_PART:
        c->first = dims[2 * (variant / 2)];
        c->in_stride = c->n_cols + (variant % 2 ? 7 : 0);
        floats_in(c, 0, n * c->first);
        floats_in(c, 1, c->first * c->in_stride);
        floats_both(c, n * c->in_stride);
        break;
    default:
        attend_sizes(w, c, variant);
    }
}

void nn_fill(const kern *w, const kcase *c, u32 input, u8 *out) {
    rng r = {c->seed + 77 * input};
    if (w->sig == SIG_DOTS16 && input == 0)
        fill_codes(&r, c->fill, out, c->in_bytes[0], 2);
    else if (is_attend(w) && input == 1 && w->type != LB_F32)
        fill_codes(&r, c->fill, out, c->in_bytes[1], w->type == LB_F16 ? 2 : 1);
    else if (!is_attend(w) || input != 1)
        fill_f32(&r, c->fill, (float *)(void *)out, c->in_bytes[input] / sizeof(float));
    else /* rows of floats may begin anywhere */
        for (size_t i = 0; i + 4 <= c->in_bytes[1]; i += 4) {
            float x;
            fill_f32(&r, c->fill, &x, 1);
            memcpy(out + i, &x, sizeof x);
        }
}

static void conv_call(any_fn *fn, const kcase *c, float *out, const void *const in[3]) {
    const float *const w = in[1];
    float *const state = out + c->n;
    const float *x = in[0];
    if (c->first / 10) { /* in place */
        memcpy(out, x, c->n * sizeof *x);
        x = out;
    }
    ((lb_k_conv_step_f32_fn *)fn)(c->n, c->n_cols, out, state, x, w,
                                  c->first / 5 % 2 ? w + c->n * c->n_cols : NULL);
}

static void attend_call(const kern *w, any_fn *fn, const kcase *c, float *out,
                        const void *const in[3]) {
    if (w->sig == SIG_DOT_ROWS)
        ((lb_k_attend_dot_f32_fn *)fn)(c->n_cols, c->n, c->first, out, in[0], in[1], c->in_stride);
    else
        ((lb_k_attend_mix_f32_fn *)fn)(c->n_cols, c->n, c->first, out, c->out_stride, in[0], in[1],
                                       c->in_stride);
}

static void dots_call(const kern *w, any_fn *fn, const kcase *c, float *out,
                      const void *const in[3]) {
    const bool f32 = w->sig == SIG_DOTS;
    static _Alignas(64) u8 scratch[LB_DOTS_SCRATCH];
    const lb_dots d = {c->n, c->out_stride, f32 ? c->in_stride : 2 * c->in_stride, c->in_stride,
                       scratch};
    if (f32)
        ((lb_k_dots_f32_fn *)fn)(c->n_cols, c->first, out, in[0], in[1], &d);
    else
        ((lb_k_dots_f16_fn *)fn)(c->n_cols, c->first, out, in[0], in[1], &d);
}

void nn_call(const kern *w, any_fn *fn, const kcase *c, void *to, const void *const in[3],
             result *r) {
    float *const out = to;
    const float *const a = in[0], *const b = in[1];
    if (c->in_bytes[2] && c->in_bytes[2] == c->out_bytes && w->sig != SIG_LAYER)
        memcpy(out, in[2], c->out_bytes);
    switch (w->sig) {
    case SIG_OAI:
        ((lb_k_swiglu_oai_mul_f32_fn *)fn)(c->n, out, a, b, c->c, 7.0f);
        break;
    case SIG_RMS:
        ((lb_k_rms_norm_f32_fn *)fn)(c->n, out, a, c->first / 2 ? b : NULL, c->c);
        break;
    case SIG_LAYER:
        ((lb_k_layer_norm_f32_fn *)fn)(c->n, out, a, c->first / 2 % 2 ? b : NULL,
                                       c->first / 4 ? in[2] : NULL, c->c);
        break;
    case SIG_DOTS:
    case SIG_DOTS16:
        dots_call(w, fn, c, out, in);
        break;
    case SIG_MAX:
        r->fold = (double)((lb_k_max_f32_fn *)fn)(c->n, a);
        break;
    case SIG_SUM_EXP:
        r->fold = ((lb_k_sum_exp_f32_fn *)fn)(c->n, a, c->c);
        break;
    case SIG_INPLACE:
        ((lb_k_softmax_f32_fn *)fn)(c->n, out);
        break;
    case SIG_SOFTPART:
        if (c->seed % 4)
            out[c->n] = -1e30f * 1e30f, out[c->n + 1] = 0;
        r->fold = (double)((lb_k_softmax_part_f32_fn *)fn)(c->n, out, c->c, c->first ? 2.0f : 0.0f,
                                                           out + c->n);
        break;
    case SIG_ROPE:
        ((lb_k_rope_half_f32_fn *)fn)(c->n_cols, c->in_stride, 2 * c->n, out, a, b);
        break;
    case SIG_CONV:
        conv_call(fn, c, out, in);
        break;
    case SIG_DELTA: {
        const lb_delta d = {a,        a + c->n, b, b + c->n_cols, b + c->n_cols + 1, c->in_stride,
                            c->n_cols};
        ((lb_k_delta_steps_f32_fn *)fn)(c->first, c->n, c->n_cols, out, out + c->n * c->n_cols, &d);
        break;
    }
    case SIG_GEMM_PART:
        ((lb_k_gemm_part_f32_fn *)fn)(c->n, c->n_cols, c->first, out, a, c->first, b, c->in_stride);
        break;
    default:
        attend_call(w, fn, c, out, in);
    }
}

/* An element is an element of a row, or a multiplication and an addition of attention. */
size_t nn_elems(const kern *w, const kcase *c) {
    if (is_attend(w) || is_dots(w) || w->sig == SIG_GEMM_PART)
        return c->n * c->n_cols * c->first;
    if (w->sig == SIG_DELTA)
        return c->n * c->n_cols * c->first;
    return w->sig == SIG_ROPE ? c->n * c->n_cols : c->n;
}

/* A page of 64 rows of 128 by one query; a head of 128 x 128. */
void nn_bench(const kern *w, kcase *c) {
    u32 variant = w->sig == SIG_RMS ? 2 : w->sig == SIG_LAYER ? 6 : w->sig == SIG_CONV ? 3 : 0;
    c->n = LB_MIN(c->n, (size_t)4096);
    if (w->sig == SIG_DELTA) {
        c->n = c->n_cols = 128;
        variant = 1;
    }
    if (w->sig == SIG_ROPE)
        c->n = 64;
    if (w->sig == SIG_GEMM_PART) {
        c->n = 64;
        c->n_cols = 96;
        variant = 4;
    }
    if (is_attend(w)) {
        c->n = 64;
        variant = 4;
    }
    c->c = 1e-5f;
    c->fill = 0;
    nn_sizes(w, c, variant);
}
