/* SPDX-License-Identifier: Apache-2.0 */
/* dense_tmpl.h: products and double-precision vectors for registers of any width; included by one
 * file an instruction set, which defines
 *     vf, vd        registers of VF_LANES floats, VD_LANES doubles
 *     vf_load, vf_store, vf_set, vf_fma, vf_add, vf_canon    and the same of vd, with vd_mul,
 * vd_sub MR, NV        rows and registers of the tile of a product that stays in registers Every
 * element is one chain of fused multiply-adds in the order of the inner index, so the width cannot
 * be seen. Loops over a tile are unrolled: gcc 12 keeps other arrays in memory. */
#include "kernel/fold.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>

#define INLINE __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 16")

/* ---- gemm_f32 ---- */

typedef struct panel {
    size_t n_inner, stride; /* of c and b */
    float *c;
    const float *a, *b;
    size_t a_stride;
} panel;

INLINE void tile(const int mr, const int nv, const panel *p) {
    vf acc[MR][NV];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) acc[i][v] = vf_set(0);
    const float *a = p->a, *b = p->b;
    const size_t as = p->a_stride, bs = p->stride;
    for (size_t k = 0; k < p->n_inner; k++, b += bs) {
        vf x[NV];
        UNROLL for (int v = 0; v < nv; v++) x[v] = vf_load(b + v * VF_LANES);
        UNROLL for (int i = 0; i < mr; i++) {
            const vf s = vf_set(a[(size_t)i * as + k]);
            UNROLL for (int v = 0; v < nv; v++) acc[i][v] = vf_fma(s, x[v], acc[i][v]);
        }
    }
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) {
        float *c = p->c + (size_t)i * p->stride + v * VF_LANES;
        vf_store(c, vf_canon(vf_add(vf_load(c), acc[i][v])));
    }
}

INLINE void tile_rows(const int nv, size_t n_rows, panel p) {
    size_t i = 0;
    for (; i + MR <= n_rows; i += MR) {
        tile(MR, nv, &p);
        p.c += MR * p.stride;
        p.a += MR * p.a_stride;
    }
    for (; i < n_rows; i++) {
        tile(1, nv, &p);
        p.c += p.stride;
        p.a += p.a_stride;
    }
}

static void gemm_scalar(size_t n_rows, size_t n_cols, const panel *p) {
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n_cols; j++) {
            float s = 0;
            for (size_t k = 0; k < p->n_inner; k++)
                s = fmaf(p->a[i * p->a_stride + k], p->b[k * p->stride + j], s);
            float *c = p->c + i * p->stride + j;
            *c = lb_canon_f32(*c + s);
        }
}

static void gemm_part(size_t n_rows, size_t n_cols, size_t n_inner, float *c, const float *a,
                      size_t a_stride, const float *b, size_t stride) {
    panel p = {n_inner, stride, c, a, b, a_stride};
    size_t j = 0;
    for (; j + NV * VF_LANES <= n_cols; j += NV * VF_LANES, p.c = c + j, p.b = b + j)
        tile_rows(NV, n_rows, p);
    if (NV > 2 && j + 2 * VF_LANES <= n_cols) {
        tile_rows(2, n_rows, p);
        j += 2 * VF_LANES, p.c = c + j, p.b = b + j;
    }
    for (; j + VF_LANES <= n_cols; j += VF_LANES, p.c = c + j, p.b = b + j)
        tile_rows(1, n_rows, p);
    gemm_scalar(n_rows, n_cols - j, &p);
}

static void gemm(size_t n_rows, size_t n_cols, size_t n_inner, float *c, const float *a,
                 size_t a_stride, const float *b) {
    gemm_part(n_rows, n_cols, n_inner, c, a, a_stride, b, n_cols);
}

/* ---- vectors of doubles ---- */

#define N_DOT (LB_FOLD_LANES / VD_LANES)

static double dot(size_t n_elems, const double *a, const double *b) {
    double lane[LB_FOLD_LANES];
    vd s[N_DOT];
    UNROLL for (int v = 0; v < N_DOT; v++) s[v] = vd_set(0);
    size_t i = 0;
    for (; i + LB_FOLD_LANES <= n_elems; i += LB_FOLD_LANES)
        UNROLL for (int v = 0; v < N_DOT; v++) s[v] =
            vd_fma(vd_load(a + i + v * VD_LANES), vd_load(b + i + v * VD_LANES), s[v]);
    UNROLL for (int v = 0; v < N_DOT; v++) vd_store(lane + v * VD_LANES, s[v]);
    for (size_t j = 0; i + j < n_elems; j++)
        lane[j] = fma(a[i + j], b[i + j], lane[j]);
    return lb_fold_lanes(lane);
}

static void axpy(size_t n_elems, double *y, double c, const double *x) {
    const vd s = vd_set(c);
    size_t i = 0;
    for (; i + VD_LANES <= n_elems; i += VD_LANES)
        vd_store(y + i, vd_canon(vd_fma(s, vd_load(x + i), vd_load(y + i))));
    for (; i < n_elems; i++)
        y[i] = lb_canon_f64(fma(c, x[i], y[i]));
}

static void rot(size_t n_elems, double *x, double *y, double c, double s) {
    const vd vc = vd_set(c), vs = vd_set(s);
    size_t i = 0;
    for (; i + VD_LANES <= n_elems; i += VD_LANES) {
        const vd p = vd_load(x + i), q = vd_load(y + i);
        vd_store(x + i, vd_canon(vd_fma(vc, p, vd_mul(vs, q))));
        vd_store(y + i, vd_canon(vd_sub(vd_mul(vc, q), vd_mul(vs, p))));
    }
    for (; i < n_elems; i++) {
        const double p = x[i], q = y[i];
        x[i] = lb_canon_f64(fma(c, p, s * q));
        y[i] = lb_canon_f64(c * q - s * p);
    }
}

/* ---- gram_f64 ---- */

typedef struct gram_tile {
    size_t n_rows, n_cols; /* of x */
    double *row[MR];
    const double *x;
    size_t i, j;
} gram_tile;

INLINE void gram_block(const int mr, const int nv, const gram_tile *t) {
    vd acc[MR][NV];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) acc[i][v] =
        vd_load(t->row[i] + t->j + v * VD_LANES);
    const double *x = t->x;
    for (size_t k = 0; k < t->n_rows; k++, x += t->n_cols) {
        vd y[NV];
        UNROLL for (int v = 0; v < nv; v++) y[v] = vd_load(x + t->j + v * VD_LANES);
        UNROLL for (int i = 0; i < mr; i++) {
            const vd s = vd_set(x[t->i + (size_t)i]);
            UNROLL for (int v = 0; v < nv; v++) acc[i][v] = vd_fma(s, y[v], acc[i][v]);
        }
    }
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++)
        vd_store(t->row[i] + t->j + v * VD_LANES, vd_canon(acc[i][v]));
}

INLINE void gram_rows(const int mr, gram_tile *t) {
    const size_t end = t->i + 1; /* columns that all of the rows have */
    for (t->j = 0; t->j + NV * VD_LANES <= end; t->j += NV * VD_LANES)
        gram_block(mr, NV, t);
    for (; t->j + VD_LANES <= end; t->j += VD_LANES)
        gram_block(mr, 1, t);
    for (int i = 0; i < mr; i++)
        for (size_t j = t->j; j <= t->i + (size_t)i; j++) {
            double s = t->row[i][j];
            for (size_t k = 0; k < t->n_rows; k++)
                s = fma(t->x[k * t->n_cols + t->i + (size_t)i], t->x[k * t->n_cols + j], s);
            t->row[i][j] = lb_canon_f64(s);
        }
}

static void gram(size_t n_rows, size_t n_cols, double *g, const double *x) {
    gram_tile t = {.n_rows = n_rows, .n_cols = n_cols, .x = x};
    for (; t.i + MR <= n_cols; t.i += MR) {
        for (size_t r = 0; r < MR; r++)
            t.row[r] = g + (t.i + r) * (t.i + r + 1) / 2;
        gram_rows(MR, &t);
    }
    for (; t.i < n_cols; t.i++) {
        t.row[0] = g + t.i * (t.i + 1) / 2;
        gram_rows(1, &t);
    }
}
