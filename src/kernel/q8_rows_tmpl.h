/* SPDX-License-Identifier: Apache-2.0 */
/* q8_rows_tmpl.h: stored rows by few tokens, in the terms of q8_dots_<isa>.h: codes go from their
 * packed form into products without passing through memory. */
#include "kernel/q8_iq_tmpl.h"
#include "kernel/q8_k_tmpl.h"

/* What is asked for ahead of its use, within a row and beyond: rows follow one another. */
#define AHEAD 2048

/* n values of MLX's scales or biases, one for each 32 columns; behind them zeros. */
INLINE f32x8 eight_scales(const u8 *p, lb_dtype t) {
    f32x8 y;
    if (t == LB_F32) {
        memcpy(&y, p, sizeof y);
        return y;
    }
#if defined(__F16C__)
    const __m128i x = (__m128i)load16(p);
    return (f32x8)(t == LB_F16 ? _mm256_cvtph_ps(x)
                               : (__m256)_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
#else
    for (size_t i = 0; i < 8; i++)
        y[i] = t == LB_F16 ? f16_at(p + 2 * i) : lb_bf16_to_f32(lb_load_u16(p + 2 * i));
    return y;
#endif
}

INLINE void mlx_scales(float *s, const u8 *p, lb_dtype t, u32 group, size_t first, size_t n_cols) {
    const size_t size = t == LB_F32 ? 4 : 2,
                 n = LB_MIN((size_t)LB_Q8_CHUNK, n_cols - first) / group;
    u8 x[64] = {0};
    const u8 *from = p + first / group * size;
    if (n < LB_Q8_CHUNK / group || group == 128) {
        memcpy(x, from, n * size);
        from = x;
    }
    const f32x8 a = eight_scales(from, t);
    f32x8 lo = a, hi = a;
    if (group == 32) {
        hi = eight_scales(from + 8 * size, t);
    } else if (group == 64) {
        lo = __builtin_shufflevector(a, a, 0, 0, 1, 1, 2, 2, 3, 3);
        hi = __builtin_shufflevector(a, a, 4, 4, 5, 5, 6, 6, 7, 7);
    } else {
        lo = __builtin_shufflevector(a, a, 0, 0, 0, 0, 1, 1, 1, 1);
        hi = __builtin_shufflevector(a, a, 2, 2, 2, 2, 3, 3, 3, 3);
    }
    memcpy(s, &lo, sizeof lo);
    memcpy(s + 8, &hi, sizeof hi);
}

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

INLINE void row_part(const form f, const int nt, const int n_units, const lb_q8_shape *s,
                     const lb_q8_rows *w, const place at, const lb_q8_act *x, sums *sum) {
    float scale[64]; /* and behind 32 of them minima */
    if (f.scales) {
        f.scales(scale, scale + 32, at.p, (size_t)n_units);
    } else {
        const u8 *sc = w->scale + at.row * w->scale_bytes, *b = w->bias + at.row * w->scale_bytes;
        const size_t first = at.k * LB_Q8_CHUNK;
        mlx_scales(scale, sc, w->scale_dtype, w->group, first, s->n_cols);
        mlx_scales(scale + 32, b, w->scale_dtype, w->group, first, s->n_cols);
    }
    add_unit_chunk(f.type, nt, n_units, &(packed){at.p, f.unit, scale}, x + at.k, s, sum);
}

INLINE void row_dots(const form f, const int nt, const lb_q8_shape *s, float *out,
                     const lb_q8_rows *w, size_t r, const lb_q8_act *x) {
    place at = {w->codes + r * w->row_bytes, r, 0};
    sums sum[MT];
    UNROLL for (int t = 0; t < nt; t++) clear(sum + t);
    for (; (at.k + 1) * LB_Q8_CHUNK <= s->n_cols; at.k++, at.p += f.chunk_bytes) {
        UNROLL for (size_t i = 0; i < f.chunk_bytes; i += 64) __builtin_prefetch(at.p + AHEAD + i);
        row_part(f, nt, 4, s, w, at, x, sum);
    }
    const size_t left = s->n_cols % LB_Q8_CHUNK, half = LB_Q8_CHUNK / 2;
    if (left == half) {
        row_part(f, nt, 2, s, w, at, x, sum);
    } else if (left) {
        u8 last[LB_Q8_CHUNK / 256 * 292] = {0};
        memcpy(last, at.p, left * f.chunk_bytes / LB_Q8_CHUNK);
        at.p = last;
        if (left < half)
            row_part(f, nt, 2, s, w, at, x, sum);
        else
            row_part(f, nt, 4, s, w, at, x, sum);
    }
    UNROLL for (int t = 0; t < nt; t++) out[(size_t)t * s->out_stride + r] =
        finish_row(f.type, sum + t);
}

INLINE void rows_any(const form f, const lb_q8_shape *s, float *out, const lb_q8_rows *w,
                     const lb_q8_act *act) {
    for (size_t r = 0; r < s->n_rows; r++) {
        size_t t = 0;
        for (; t + MT <= s->n_tokens; t += MT)
            row_dots(f, MT, s, out + t * s->out_stride, w, r, act + t * s->act_stride);
        for (; t < s->n_tokens; t++)
            row_dots(f, 1, s, out + t * s->out_stride, w, r, act + t * s->act_stride);
    }
}

#define ROWS(t, bytes, type, scales)                                                               \
    static void rows_##t(const lb_q8_shape *s, float *out, const lb_q8_rows *w, const void *act) { \
        rows_any((form){type, bytes, unit_##t, scales}, s, out, w, act);                           \
    }
#define LB_Q8_UNITS(t, elems, bytes, type) ROWS(t, LB_Q8_CHUNK / elems * bytes, type, scales_##t)
#include "kernel/q8_types.def"
ROWS(mlx_q4, 256, LB_Q8_TYPE(LB_Q8_MIN, LB_Q8_NO_OFF), NULL)
ROWS(mlx_q8, 512, LB_Q8_TYPE(LB_Q8_MIN | LB_Q8_WIDE, LB_Q8_NO_OFF), NULL)
#undef ROWS

INLINE void take_rows(lb_kernels *k) {
#define LB_Q8_UNITS(t, elems, bytes, type) k->rows_##t = rows_##t;
#include "kernel/q8_types.def"
    k->rows_mlx_q4 = rows_mlx_q4;
    k->rows_mlx_q8 = rows_mlx_q8;
}
