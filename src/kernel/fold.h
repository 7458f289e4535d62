/* SPDX-License-Identifier: Apache-2.0 */
/* fold.h: the one order in which a leaf of a fold is added up.
 *
 * Element i goes to lane i modulo 16 (double), in index order; the 16 lanes are then added
 * pairwise: l[i] += l[i + 8], then + 4, + 2, + 1. Sixteen double lanes are two AVX-512, four AVX2
 * or eight NEON registers, so every instruction set can keep this order at full speed. */
#ifndef LB_KERNEL_FOLD_H
#define LB_KERNEL_FOLD_H

#include "base/base.h"

#define LB_FOLD_LANES 16

static inline double lb_canon_f64(double x) {
    const u64 nan_bits = 0x7ff8000000000000u;
    double nan;
    memcpy(&nan, &nan_bits, sizeof nan);
    return x == x ? x : nan;
}

/* lane[16] is overwritten. */
static inline double lb_fold_lanes(double *lane) {
    for (int half = LB_FOLD_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lb_canon_f64(lane[0]);
}

/* Maps the floats that are not NaN to integers of the same order, -0 below +0; its own inverse. */
static inline i32 lb_fold_ordered(i32 float_bits) {
    return float_bits ^ (i32)((u32)(float_bits >> 31) >> 1);
}

/* One value into the images of minimum and maximum (start: INT32_MAX, INT32_MIN, which are images
 * of NaN bits only); returns 1 for NaN and Inf. */
static inline u32 lb_fold_range_one(float x, i32 *lo, i32 *hi) {
    const u32 bits = lb_f32_bits(x);
    const u32 mag = bits & 0x7fffffffu;
    if (mag <= 0x7f800000u) {
        const i32 v = lb_fold_ordered((i32)bits);
        *lo = LB_MIN(*lo, v);
        *hi = LB_MAX(*hi, v);
    }
    return mag >= 0x7f800000u;
}

static inline void lb_fold_range_put(i32 lo, i32 hi, float minmax[2]) {
    if (lo > hi)
        return;
    minmax[0] = lb_f32_from_bits((u32)lb_fold_ordered(lo));
    minmax[1] = lb_f32_from_bits((u32)lb_fold_ordered(hi));
}

#endif
