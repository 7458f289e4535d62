/* SPDX-License-Identifier: Apache-2.0 */
/* dense.c: products and vectors of doubles. Their outputs are inputs as well: the last input is
 * copied there first. */
#include "checkkern.h"

bool is_dense(const kern *w) {
    return w->sig >= SIG_GEMM && w->sig <= SIG_ROT64;
}

/* Around the tiles of all instruction sets: 1, 6 and 8 rows, up to three registers of columns. */
static const u8 rows[] = {0, 1, 2, 5, 6, 7, 8, 9, 15, 16, 17, 25};
static const u8 cols[] = {0,  1,  3,  4,  7,  8,  9,  12, 15, 16, 17,
                          24, 31, 32, 33, 47, 48, 49, 63, 64, 80, 97};
static const u16 inner[] = {0, 1, 2, 7, 64, LB_GEMM_LEAF};

bool dense_shape(const kern *w, bool is_long, size_t i, kcase *c) {
    const size_t n = is_long ? 1000 : 100;
    if (w->sig == SIG_GEMM || w->sig == SIG_GRAM) {
        const size_t step = is_long ? 1 : 5; /* prime to the rows and to the columns */
        if (i * step >= LB_LEN(rows) * LB_LEN(cols))
            return false;
        c->n = rows[i * step % LB_LEN(rows)];
        c->n_cols = cols[i * step / LB_LEN(rows)];
        return true;
    }
    c->n = i < n ? i : 4097;
    return i <= n;
}

u32 dense_variants(const kern *w) {
    return w->sig == SIG_GEMM ? 2 * LB_LEN(inner) : 1; /* dense or with strides */
}

static void set_in(kcase *c, u32 i, size_t n, size_t size) {
    c->in_bytes[i] = n * size;
    c->in_step[i] = size;
}

/* Elements of n_rows rows so far apart. */
static size_t spread(size_t n_rows, size_t n_cols, size_t stride) {
    return n_rows && n_cols ? (n_rows - 1) * stride + n_cols : 0;
}

void dense_sizes(const kern *w, kcase *c, u32 variant) {
    const size_t gap = variant % 2 ? 3 : 0, k = inner[variant / 2 % LB_LEN(inner)];
    size_t out = c->n, size = sizeof(double);
    c->n_in = 3;
    switch (w->sig) {
    case SIG_GEMM:
        size = sizeof(float);
        c->first = k;
        c->in_stride = k + gap;
        out = c->n * c->n_cols;
        set_in(c, 0, spread(c->n, k, c->in_stride), size);
        set_in(c, 1, k * c->n_cols, size);
        break;
    case SIG_GRAM:
        out = c->n_cols * (c->n_cols + 1) / 2;
        set_in(c, 0, c->n * c->n_cols, size);
        break;
    case SIG_DOT64:
        out = 0;
        set_in(c, 0, c->n, size);
        set_in(c, 1, c->n, size);
        break;
    case SIG_ROT64:
        out = 2 * c->n;
        break;
    default: /* AXPY64 */
        set_in(c, 0, c->n, size);
    }
    set_in(c, 2, out, size);
    if (c->in_step[1] == 0)
        c->in_step[1] = size;
    if (c->in_step[0] == 0)
        c->in_step[0] = size;
    c->out_bytes = out * size;
    c->out_step = size;
}

/* Doubles are made of floats, which lie in the upper half until they are widened in order. */
void dense_fill(const kern *w, const kcase *c, u32 input, u8 *out) {
    rng r = {c->seed + input * 0x1234567u};
    const size_t n = c->in_bytes[input] / (w->sig == SIG_GEMM ? sizeof(float) : sizeof(double));
    float *f = (float *)(void *)out;
    double *d = (double *)(void *)out;
    fill_f32(&r, c->fill, w->sig == SIG_GEMM ? f : f + n, n);
    for (size_t i = 0; i < n && w->sig != SIG_GEMM; i++) {
        float x;
        memcpy(&x, f + n + i, sizeof x);
        d[i] = (double)x;
    }
}

void dense_call(const kern *w, any_fn *fn, const kcase *c, void *out, const void *const in[3],
                result *r) {
    if (c->out_bytes)
        memcpy(out, in[2], c->out_bytes);
    switch (w->sig) {
    case SIG_GEMM:
        ((lb_k_gemm_f32_fn *)fn)(c->n, c->n_cols, c->first, out, in[0], c->in_stride, in[1]);
        break;
    case SIG_GRAM:
        ((lb_k_gram_f64_fn *)fn)(c->n, c->n_cols, out, in[0]);
        break;
    case SIG_DOT64:
        r->fold = ((lb_k_dot_f64_fn *)fn)(c->n, in[0], in[1]);
        break;
    case SIG_AXPY64:
        ((lb_k_axpy_f64_fn *)fn)(c->n, out, (double)c->c, in[0]);
        break;
    default:
        ((lb_k_rot_f64_fn *)fn)(c->n, out, (double *)out + c->n, (double)c->c, 0.6);
    }
}

/* An element is a multiplication and an addition. */
size_t dense_elems(const kern *w, const kcase *c) {
    if (w->sig == SIG_GEMM)
        return c->n * c->n_cols * c->first;
    return w->sig == SIG_GRAM ? c->n * c->n_cols * (c->n_cols + 1) / 2 : c->n;
}

/* A strip of a matrix by a thin one of 80 columns; a strip of 64 rows by itself. */
void dense_bench(const kern *w, kcase *c) {
    if (w->sig == SIG_GEMM) {
        c->n = 64;
        c->n_cols = 80;
    } else if (w->sig == SIG_GRAM) {
        c->n = 32;
        c->n_cols = 96;
    } else {
        c->n = LB_MIN(c->n, (size_t)4096);
    }
    c->fill = 0;
    dense_sizes(w, c, w->sig == SIG_GEMM ? 2 * (LB_LEN(inner) - 1) : 0);
}
