/* SPDX-License-Identifier: Apache-2.0 */
/* q8_rows_tmpl.h: stored rows by few tokens, in the terms of q8_dots_<isa>.h: codes go from their
 * packed form into products without passing through memory. */
#include "kernel/q8_bits_tmpl.h"
#include "kernel/q8_iq_tmpl.h"
#include "kernel/q8_k_tmpl.h"
#include "kernel/q8_mlx_tmpl.h"

/* What is asked for ahead of its use, into the second cache, within a row and beyond: rows follow
 * one another. Four pages: where each costs a walk through tables, the first line of a page is the
 * late one (docs/perf/LOG.md). */
#define AHEAD 16384
#ifndef AT_ONCE /* rows whose lanes are added at once */
#define AT_ONCE 1
#define finish_rows(type, s, out) (void)0
#endif
#ifndef LEAST_UNITS /* of the end of a row */
#define LEAST_UNITS 2
#endif

/* How rows of a type lie, and what they are made of. scales: NULL: MLX. */
typedef struct form {
    u32 type;
    size_t chunk_bytes;
    unit_fn *unit;
    scales_fn *scales;
} form;

/* The k-th chunk of a row. */
typedef struct place {
    const u8 *p;
    size_t row, k;
} place;

INLINE void ask_ahead(const u8 *p, const size_t bytes) {
    UNROLL for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + AHEAD + i, 0, 2);
}

/* As floats: of the groups of some units, and behind 32 of them minima. */
INLINE void put_row_scales(const form f, const int n_units, const lb_q8_shape *s,
                           const lb_q8_rows *w, const place at, float scale[64]) {
    if (f.scales) {
        f.scales(scale, scale + 32, at.p, n_units > 2 ? 4 : 2);
        return;
    }
    if (!(f.type & LB_Q8_MIN)) {
        fp4_scales(scale, w->scale + at.row * w->scale_bytes, w->group, at.k * LB_Q8_CHUNK,
                   s->n_cols);
        return;
    }
    const u8 *sc = w->scale + at.row * w->scale_bytes, *b = w->bias + at.row * w->scale_bytes;
    const size_t first = at.k * LB_Q8_CHUNK;
    mlx_scales(scale, sc, w->scale_dtype, w->group, first, s->n_cols);
    mlx_scales(scale + 32, b, w->scale_dtype, w->group, first, s->n_cols);
}

/* A chunk, or the first units of the last one, whose scales are made zero where a row has no more
 * columns: what stands there may be anything. */
typedef struct part {
    int n_units;
    bool whole;
} part;

INLINE void row_part(const form f, const int nt, const part of, const lb_q8_shape *s,
                     const lb_q8_rows *w, const place at, const lb_q8_act *x, sums *sum) {
    const size_t left = s->n_cols - at.k * LB_Q8_CHUNK,
                 n = left / (f.type & LB_Q8_HALVES ? 16 : 32);
#ifdef REGISTERS
    chunk_scales scale = {0};
    if (!f.scales && f.type & LB_Q8_MIN) {
        const size_t first = at.k * LB_Q8_CHUNK / w->group * (w->scale_dtype == LB_F32 ? 4 : 2);
        const size_t there = LB_MIN(left, (size_t)LB_Q8_CHUNK) / w->group;
        const u8 *sc = w->scale + at.row * w->scale_bytes, *b = w->bias + at.row * w->scale_bytes;
        scale.s[0] = regs_mlx(sc + first, w->scale_dtype, w->group, there);
        scale.m[0] = regs_mlx(b + first, w->scale_dtype, w->group, there);
    } else if (!regs_of(f.scales, &scale, at.p)) {
        float values[64];
        put_row_scales(f, of.n_units, s, w, at, values);
        get_scales(f.type, of.n_units, &scale, values);
    }
    if (!of.whole)
        first_scales(f.type, n, &scale);
    const void *const scales = &scale;
#else
    float scales[64];
    put_row_scales(f, of.n_units, s, w, at, scales);
    for (size_t i = n; !of.whole && i < (of.n_units > 2 ? 32 : 16); i++)
        scales[i] = scales[32 + i] = 0;
#endif
    add_unit_chunk(f.type, nt, of.n_units, &(packed){at.p, f.unit, scales}, x + at.k, s, sum);
}

/* end: of what may be read. */
INLINE void row_dots(const form f, const int nt, const lb_q8_shape *s, const lb_q8_rows *w,
                     size_t r, const u8 *end, const lb_q8_act *x, sums *out) {
    place at = {w->codes + r * w->row_bytes, r, 0};
    sums sum[MT];
    UNROLL for (int t = 0; t < nt; t++) clear(sum + t);
    for (; (at.k + 1) * LB_Q8_CHUNK <= s->n_cols; at.k++, at.p += f.chunk_bytes) {
        ask_ahead(at.p, f.chunk_bytes);
        row_part(f, nt, (part){4, true}, s, w, at, x, sum);
    }
    const size_t left = s->n_cols % LB_Q8_CHUNK;
    if (left) {
        u8 last[LB_Q8_CHUNK / 256 * 292];
        const u8 *const from = at.p;
        if ((size_t)(end - at.p) < f.chunk_bytes) {
            memset(last, 0, sizeof last);
            memcpy(last, at.p, left * f.chunk_bytes / LB_Q8_CHUNK);
            at.p = last;
        }
        ask_ahead(from, f.chunk_bytes / 4);
        if (left > LB_Q8_CHUNK / 4)
            ask_ahead(from + f.chunk_bytes / 4, f.chunk_bytes / 4 * 3);
        if (LEAST_UNITS == 1 && nt == 1 && left <= LB_Q8_CHUNK / 4)
            row_part(f, nt, (part){LEAST_UNITS, false}, s, w, at, x, sum);
        else if (left <= LB_Q8_CHUNK / 2)
            row_part(f, nt, (part){2, false}, s, w, at, x, sum);
        else
            row_part(f, nt, (part){4, false}, s, w, at, x, sum);
    }
    UNROLL for (int t = 0; t < nt; t++) out[t] = sum[t];
}

INLINE void rows_any(const form f, const lb_q8_shape *s, float *out, const lb_q8_rows *w,
                     const lb_q8_act *act) {
    if (s->n_rows == 0)
        return;
    const u8 *const end =
        w->codes + (s->n_rows - 1) * w->row_bytes + s->n_cols * f.chunk_bytes / LB_Q8_CHUNK;
    for (size_t r = 0; r < s->n_rows; r += AT_ONCE) {
        const size_t n = LB_MIN((size_t)AT_ONCE, s->n_rows - r);
        size_t t = 0;
        for (; t + MT <= s->n_tokens; t += MT)
            for (size_t i = 0; i < n; i++) {
                sums sum[MT];
                row_dots(f, MT, s, w, r + i, end, act + t * s->act_stride, sum);
                UNROLL for (size_t j = 0; j < MT; j++) out[(t + j) * s->out_stride + r + i] =
                    finish_row(f.type, sum + j);
            }
        for (; t < s->n_tokens; t++) {
            float *const to = out + t * s->out_stride + r;
            sums sum[AT_ONCE];
            for (size_t i = 0; i < n; i++)
                row_dots(f, 1, s, w, r + i, end, act + t * s->act_stride, sum + i);
            if (n == AT_ONCE && AT_ONCE > 1)
                finish_rows(f.type, sum, to);
            else
                for (size_t i = 0; i < n; i++)
                    to[i] = finish_row(f.type, sum + i);
        }
    }
}

/* The only token, of types whose unpacking is long: written twice. */
INLINE float single_dot(const form f, const lb_q8_shape *s, const lb_q8_rows *w, size_t r,
                        const lb_q8_act *x) {
    const size_t half = LB_Q8_CHUNK / 2;
    place at = {w->codes + r * w->row_bytes, r, 0};
    u8 last[LB_Q8_CHUNK / 256 * 292];
    sums sum;
    clear(&sum);
    for (; at.k * LB_Q8_CHUNK < s->n_cols; at.k++, at.p += f.chunk_bytes) {
        const size_t left = s->n_cols - at.k * LB_Q8_CHUNK;
        ask_ahead(at.p, f.chunk_bytes / 2);
        if (left > half)
            ask_ahead(at.p + f.chunk_bytes / 2, f.chunk_bytes / 2);
        if (left < LB_Q8_CHUNK && left != half) {
            memset(last, 0, sizeof last);
            at.p = memcpy(last, at.p, left * f.chunk_bytes / LB_Q8_CHUNK);
        }
        if (left > half)
            row_part(f, 1, (part){4, true}, s, w, at, x, &sum);
        else
            row_part(f, 1, (part){2, true}, s, w, at, x, &sum);
    }
    return finish_row(f.type, &sum);
}

INLINE void single_rows(const form f, const lb_q8_shape *s, float *out, const lb_q8_rows *w,
                        const lb_q8_act *act) {
    for (size_t r = 0; r < s->n_rows; r++)
        for (size_t t = 0; t < s->n_tokens; t++)
            out[t * s->out_stride + r] = single_dot(f, s, w, r, act + t * s->act_stride);
}

#define ROWS(t, how, bytes, type, scales)                                                          \
    static void rows_##t(const lb_q8_shape *s, float *out, const lb_q8_rows *w, const void *act) { \
        how((form){type, bytes, unit_##t, scales}, s, out, w, act);                                \
    }
#define MLX_TYPE LB_Q8_TYPE(LB_Q8_MIN, LB_Q8_NO_OFF)

#ifdef SINGLE

#define LB_Q8_SINGLE(id, t, elems, bytes, type) \
    ROWS(t, single_rows, LB_Q8_CHUNK / elems * bytes, type, scales_##t)
#include "kernel/q8_types.def"
#define MLX(bits) ROWS(mlx_q##bits, single_rows, 64 * bits, MLX_TYPE, NULL)
MLX(1)
MLX(2)
MLX(3)
MLX(5)
MLX(6)
#undef MLX
static void rows_mlx_fp4(const lb_q8_shape *s, float *out, const lb_q8_rows *w, const void *act) {
    if (w->group == 16)
        single_rows((form){LB_Q8_TYPE(LB_Q8_HALVES, 4), 256, unit_mlx_fp4, NULL}, s, out, w, act);
    else
        single_rows((form){LB_Q8_TYPE(0, 4), 256, unit_mlx_fp4, NULL}, s, out, w, act);
}

INLINE void take_rows(lb_kernels *k) {
#define LB_Q8_SINGLE(id, t, elems, bytes, type) k->rows_##t = rows_##t;
#include "kernel/q8_types.def"
    k->rows_mlx_q1 = rows_mlx_q1;
    k->rows_mlx_q2 = rows_mlx_q2;
    k->rows_mlx_q3 = rows_mlx_q3;
    k->rows_mlx_q5 = rows_mlx_q5;
    k->rows_mlx_q6 = rows_mlx_q6;
    k->rows_mlx_fp4 = rows_mlx_fp4;
}

#else

#define LB_Q8_UNITS(id, t, elems, bytes, type) \
    ROWS(t, rows_any, LB_Q8_CHUNK / elems * bytes, type, scales_##t)
#define LB_Q8_SINGLE(id, t, elems, bytes, type)
#include "kernel/q8_types.def"
ROWS(mlx_q4, rows_any, 256, MLX_TYPE, NULL)
ROWS(mlx_q8, rows_any, 512, MLX_TYPE | LB_Q8_WIDE, NULL)

INLINE void take_rows(lb_kernels *k) {
#define LB_Q8_UNITS(id, t, elems, bytes, type) k->rows_##t = rows_##t;
#define LB_Q8_SINGLE(id, t, elems, bytes, type)
#include "kernel/q8_types.def"
    k->rows_mlx_q4 = rows_mlx_q4;
    k->rows_mlx_q8 = rows_mlx_q8;
}

#endif
