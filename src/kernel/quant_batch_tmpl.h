/* SPDX-License-Identifier: Apache-2.0 */
/* quant_batch_tmpl.h: ranges and scales of batches of blocks for the quantizers of ggml's small
 * types, in the words of quant_<isa>.h, quant_pack_<isa>.h and quant_rows_<isa>.h.
 *
 * The ranges of sixteen blocks are taken together (the lanes of several vectors are reduced at
 * once); scales and their inverses are computed in vectors. A block with a NaN or an infinity, or
 * whose scale has no finite inverse, is for the reference, as conversions beyond the range of
 * integers differ between machines. */
#ifndef LB_KERNEL_QUANT_BATCH_TMPL_H
#define LB_KERNEL_QUANT_BATCH_TMPL_H
#include "kernel/quant.h"

enum { BATCH = 16, N_VEC = 64 / V_LANES };

#define V_INLINE static inline __attribute__((always_inline))

/* Sixteen rows of `elems` values, each a block or a part of one. */
typedef struct batch {
    size_t elems;
    const float *x;
    u8 *y;
    _Alignas(64) float high[BATCH], low[BATCH], inverse[BATCH];
    u8 d[2 * BATCH], m[2 * BATCH]; /* f16 */
    u32 odd;                       /* a bit for each row whose block goes to the reference */
} batch;

V_INLINE vec v_magnitude(vec x) {
    return v_floats(vi_and(v_bits(x), vi_set(0x7fffffff)));
}

V_INLINE vec v_negated(vec x) {
    return v_floats(vi_xor(v_bits(x), vi_set(0x80000000u)));
}

/* ---- ranges ---- */

/* high: the largest magnitudes; a NaN's is above all others, and odd for it and infinities. */
V_INLINE void batch_magnitudes(batch *b) {
    for (size_t g = 0; g < BATCH; g += V_LANES) {
        vint r[V_LANES];
#pragma GCC unroll 16
        for (size_t k = 0; k < V_LANES; k++) {
            const float *x = b->x + b->elems * (g + k);
            vint top = v_bits(v_magnitude(v_load(x)));
#pragma GCC unroll 8
            for (size_t i = V_LANES; i < b->elems; i += V_LANES)
                top = vi_max(top, v_bits(v_magnitude(v_load(x + i))));
            r[k] = top;
        }
        const vint high = vi_max_rows(r);
        v_put(b->high + g, v_floats(high));
        b->odd |= v_mask_bits(vi_gt(high, vi_set(0x7f7fffff))) << g;
    }
}

/* high and low: the largest and smallest values, of rows of 32. */
V_INLINE void batch_ranges(batch *b) {
    enum { N = 32 / V_LANES };
    vec odd[N]; /* NaN where a value is not finite */
#pragma GCC unroll 8
    for (size_t i = 0; i < N; i++)
        odd[i] = v_set(0);
    for (size_t g = 0; g < BATCH; g += V_LANES) {
        vec high[V_LANES], low[V_LANES];
#pragma GCC unroll 16
        for (size_t k = 0; k < V_LANES; k++) {
            const float *x = b->x + 32 * (g + k);
            vec most = v_load(x), least = most;
            odd[0] = v_fma(most, v_set(0), odd[0]);
#pragma GCC unroll 8
            for (size_t i = 1; i < N; i++) {
                const vec v = v_load(x + i * V_LANES);
                most = v_max(v, most);
                least = v_min(v, least);
                odd[i] = v_fma(v, v_set(0), odd[i]);
            }
            high[k] = most;
            low[k] = v_negated(least);
        }
        v_put(b->high + g, v_max_rows(high));
        v_put(b->low + g, v_negated(v_max_rows(low)));
    }
#pragma GCC unroll 8
    for (size_t i = 1; i < N; i++)
        odd[0] = v_add(odd[0], odd[i]);
    b->odd = v_any_nan(odd[0]) ? (1u << BATCH) - 1 : 0;
}

/* ---- scales ---- */

/* Too small for their inverse, or infinite. */
V_INLINE u32 odd_scales(vec d) {
    const vec a = v_magnitude(d);
    return (v_mask_bits(v_gt(v_set(0x1p-120f), a)) & ~v_mask_bits(v_eq(a, v_set(0)))) |
           v_mask_bits(v_gt(a, v_set(0x1.fffffep127f)));
}

V_INLINE vec inverse_scales(vec d) {
    return v_pick(v_eq(d, v_set(0)), v_set(0), v_div(v_set(1), d));
}

V_INLINE void batch_scale(batch *b, size_t g, vec d) {
    v_put_f16(b->d + 2 * g, d);
    v_put(b->inverse + g, inverse_scales(d));
    b->odd |= odd_scales(d) << g;
}

/* ---- the walk ---- */

/* A constant for each type; `run` makes a batch. */
typedef struct batch_type {
    size_t elems, block, bytes; /* of a row; of a block */
    lb_quant_fn *ref;
} batch_type;

V_INLINE void batch_run(batch *b, const batch_type *t, void (*run)(batch *)) {
    const size_t rows = t->block / t->elems;
    b->elems = t->elems;
    b->odd = 0;
    run(b);
    for (size_t g = 0; b->odd >> g; g += rows)
        if (b->odd >> g & ((1u << rows) - 1))
            t->ref(t->block, b->y + g / rows * t->bytes, b->x + g * t->elems, NULL, NULL);
}

V_INLINE void quant_batches(size_t n_elems, void *out, const float *in, const batch_type *t,
                            void (*run)(batch *)) {
    const size_t elems = BATCH * t->elems, bytes = elems / t->block * t->bytes;
    batch b = {.x = in, .y = out};
    for (; n_elems >= elems; n_elems -= elems) {
        batch_run(&b, t, run);
        b.x += elems;
        b.y += bytes;
    }
    if (n_elems) { /* the rest, filled up with zeros */
        float x[BATCH * 256];
        u8 y[BATCH * 66], *end = b.y;
        memcpy(x, b.x, n_elems * sizeof *x);
        memset(x + n_elems, 0, (elems - n_elems) * sizeof *x);
        b.x = x;
        b.y = y;
        batch_run(&b, t, run);
        memcpy(end, y, n_elems / t->block * t->bytes);
    }
}

#endif
