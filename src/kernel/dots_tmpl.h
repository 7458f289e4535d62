/* SPDX-License-Identifier: Apache-2.0 */
/* dots_tmpl.h: products of rows of floats with activations; included by one file an instruction
 * set, which defines vf, VF_LANES, NV   registers of floats, NV of which are the 16 lanes of a sum
 *     vf_load, vf_f16, vf_bf16 (of any address), vf_store, vf_zero, vf_fma
 *     MR, NT             rows and tokens of a tile whose sums stay in registers
 * Loops over a tile are unrolled: gcc 12 keeps other arrays in memory. */
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>

#define LANES 16
#define INLINE __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 16")

typedef enum form { F32, F16, BF16 } form;

typedef struct dots {
    size_t n_cols, out_stride, w_bytes, x_stride;
    float *out;
    const u8 *w;
    const float *x;
} dots;

INLINE vf load_as(const form f, const u8 *p) {
    return f == F32 ? vf_load((const float *)(const void *)p) : f == F16 ? vf_f16(p) : vf_bf16(p);
}

INLINE float scalar_as(const form f, const u8 *p) {
    u16 h;
    float x;
    if (f == F32) {
        memcpy(&x, p, sizeof x);
        return x;
    }
    memcpy(&h, p, sizeof h);
    return f == F16 ? lb_f16_to_f32(h) : lb_bf16_to_f32(h);
}

INLINE float finish(float *lane) {
    for (int n = LANES / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            lane[i] += lane[i + n];
    return lb_canon_f32(lane[0]);
}

INLINE void tile(const form f, const int mr, const int nt, const dots *d) {
    const size_t size = f == F32 ? 4 : 2, whole = d->n_cols / LANES * LANES;
    vf acc[MR][NT][NV];
    UNROLL for (int r = 0; r < mr; r++) UNROLL for (int t = 0; t < nt; t++)
        UNROLL for (int v = 0; v < NV; v++) acc[r][t][v] = vf_zero();
    for (size_t i = 0; i < whole; i += LANES) {
        UNROLL for (int v = 0; v < NV; v++) {
            vf x[NT];
            UNROLL for (int t = 0; t < nt; t++) x[t] =
                vf_load(d->x + (size_t)t * d->x_stride + i + (size_t)v * VF_LANES);
            UNROLL for (int r = 0; r < mr; r++) {
                const vf w =
                    load_as(f, d->w + (size_t)r * d->w_bytes + (i + (size_t)v * VF_LANES) * size);
                UNROLL for (int t = 0; t < nt; t++) acc[r][t][v] = vf_fma(w, x[t], acc[r][t][v]);
            }
        }
    }
    UNROLL for (int r = 0; r < mr; r++) UNROLL for (int t = 0; t < nt; t++) {
        float lane[LANES];
        UNROLL for (int v = 0; v < NV; v++) vf_store(lane + v * VF_LANES, acc[r][t][v]);
        for (size_t i = whole; i < d->n_cols; i++)
            lane[i - whole] = fmaf(scalar_as(f, d->w + (size_t)r * d->w_bytes + i * size),
                                   d->x[(size_t)t * d->x_stride + i], lane[i - whole]);
        d->out[(size_t)t * d->out_stride + (size_t)r] = finish(lane);
    }
}

INLINE void tile_tokens(const form f, const int mr, size_t n_tokens, dots d) {
    size_t t = 0;
    for (; t + NT <= n_tokens; t += NT) {
        tile(f, mr, NT, &d);
        d.x += NT * d.x_stride;
        d.out += NT * d.out_stride;
    }
    for (; t < n_tokens; t++) {
        tile(f, mr, 1, &d);
        d.x += d.x_stride;
        d.out += d.out_stride;
    }
}

INLINE void run(const form f, size_t n_rows, size_t n_tokens, dots d) {
    size_t r = 0;
    for (; r + MR <= n_rows; r += MR) {
        tile_tokens(f, MR, n_tokens, d);
        d.w += MR * d.w_bytes;
        d.out += MR;
    }
    for (; r < n_rows; r++) {
        tile_tokens(f, 1, n_tokens, d);
        d.w += d.w_bytes;
        d.out++;
    }
}

INLINE dots from(const lb_dots *d, size_t w_bytes, float *out, const void *w, const float *x) {
    return (dots){d->n_cols, d->out_stride, w_bytes, d->x_stride, out, w, x};
}

static void dots_f32(size_t n_rows, size_t n_tokens, float *out, const float *w, const float *x,
                     const lb_dots *d) {
    run(F32, n_rows, n_tokens, from(d, d->w_stride * sizeof *w, out, w, x));
}

static void dots_f16(size_t n_rows, size_t n_tokens, float *out, const void *w, const float *x,
                     const lb_dots *d) {
    run(F16, n_rows, n_tokens, from(d, d->w_stride, out, w, x));
}

static void dots_bf16(size_t n_rows, size_t n_tokens, float *out, const void *w, const float *x,
                      const lb_dots *d) {
    run(BF16, n_rows, n_tokens, from(d, d->w_stride, out, w, x));
}
