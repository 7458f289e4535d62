/* SPDX-License-Identifier: Apache-2.0 */
/* quant_grid_lanes.h: lb_grid_nearest (quant_grid.c) over HALF points at a time.
 *
 * A lane adds up a point's errors in the order of its values, as the reference does; each error
 * comes from a table of the value's levels, whose index are the lowest bits of the shifted point.
 */
#ifndef LB_KERNEL_QUANT_GRID_LANES_H
#define LB_KERNEL_QUANT_GRID_LANES_H
#ifdef LANES_INLINE

#include "kernel/quant_grid.h"

/* Where the list's least sum stands: the first of equals. A NaN is never the least. */
LANES_INLINE u32 grid_first_least(vh least, vhi at) {
    i32 place[HALF];
    u32 equal = vhm_bits(vh_equal(least, vh_all(vh_least(least))));
    vhi_store(place, at);
    i32 best = place[__builtin_ctz(equal)];
    for (equal &= equal - 1; equal; equal &= equal - 1) {
        const i32 other = place[__builtin_ctz(equal)];
        best = other < best ? other : best;
    }
    return (u32)best;
}

/* dims and bits of g, as constants. value: of the levels; three are followed by a fourth of any
 * value and stand there twice. */
LANES_INLINE u32 grid_nearest_lanes(const lb_grid *g, u32 dims, u32 bits, u32 key, const float *x,
                                    const float *w, float scale, vt value) {
    const u32 *const list = g->near + ~g->at[key];
    const size_t n = g->n_near[key];
    vt error[8];
    for (u32 i = 0; i < dims; i++)
        error[i] = vt_errors(value, scale, x[i], w[i]);
    vh least = vh_all(0x1.fffffep127f);
    vhi place = vhi_all(0);
    for (size_t k = 0; k < n; k += HALF) {
        const vhi point = vhi_load_some(list + k, n - k);
        vh sum = vt_at(error[0], point);
        for (u32 i = 1; i < dims; i++)
            sum = sum + vt_at(error[i], vhi_right(point, bits * i));
        const vhm less = vh_less(sum, least);
        least = vh_pick(less, sum, least);
        place = vhi_pick(less, vhi_add(vhi_all((i32)k), vhi_count()), place);
    }
    return list[grid_first_least(least, place)];
}

#endif
#endif
