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

typedef struct batch {
    const float *x;
    u8 *y;
    _Alignas(64) float high[BATCH], low[BATCH], inverse[BATCH];
    u8 d[2 * BATCH], m[2 * BATCH]; /* f16 */
    u32 odd;                       /* a bit for each block that goes to the reference */
} batch;

V_INLINE vec v_magnitude(vec x) {
    return v_floats(vi_and(v_bits(x), vi_set(0x7fffffff)));
}

V_INLINE vec v_negated(vec x) {
    return v_floats(vi_xor(v_bits(x), vi_set(0x80000000u)));
}

/* ---- ranges ---- */

/* high: the largest magnitudes; a NaN's is above all others. */
V_INLINE void batch_magnitudes(batch *b) {
    for (size_t g = 0; g < BATCH; g += V_LANES) {
        vint r[V_LANES];
#pragma GCC unroll 16
        for (size_t k = 0; k < V_LANES; k++) {
            const float *x = b->x + 32 * (g + k);
            vint top = v_bits(v_magnitude(v_load(x)));
#pragma GCC unroll 8
            for (size_t i = V_LANES; i < 32; i += V_LANES)
                top = vi_max(top, v_bits(v_magnitude(v_load(x + i))));
            r[k] = top;
        }
        v_put(b->high + g, v_floats(vi_max_rows(r)));
    }
}

/* high and low: the largest and smallest values. */
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

#endif
