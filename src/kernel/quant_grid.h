/* SPDX-License-Identifier: Apache-2.0 */
/* quant_grid.h: the codebooks of the iq1, iq2 and iq3 types as quantizers search them.
 *
 * A point is `dims` levels, 0 .. base - 1 each (8 of 3 or 4 of 8). Values are first rounded to
 * levels; those are a key, the sum of level[i] * base^i. A key may be a point of the codebook; else
 * it has a list of the points that come nearest to it: all of the `n_rings` smallest distances,
 * nearest first and equally near ones by index, which is the order in which ggml tries them. */
#ifndef LB_KERNEL_QUANT_GRID_H
#define LB_KERNEL_QUANT_GRID_H

#include "base/base.h"
#include "tensor/dtype.h"

typedef struct lb_grid {
    u32 dims, base, bits; /* bits of a packed level: level[i] << bits * i */
    u32 n_points, n_keys;
    u16 *point;  /* [n_points] packed levels */
    i32 *at;     /* [n_keys] index of the point, or ~(where its list starts in near) */
    u16 *n_near; /* [n_keys] entries of the list, a multiple of 8 (the last one repeated); 0: a
                    point */
    u32 *near;   /* packed levels | index << 16 */
} lb_grid;

static inline u32 lb_grid_level(const lb_grid *g, u32 packed, u32 i) {
    return packed >> g->bits * i & ((1u << g->bits) - 1);
}

/* The entry of the list of `key`, which is no point, whose values (value[level] * scale) have the
 * least error from x, w weighing the squares; the first of equals, and the first where no error is
 * finite. */
u32 lb_grid_nearest(const lb_grid *g, u32 key, const float *x, const float *w, float scale,
                    const float *value);

#endif
